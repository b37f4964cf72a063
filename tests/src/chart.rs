//! The chart: rendered as it is committed and as a user chooses, installed, and removed, by Helm itself.

use std::{
    fmt::Write as _,
    path::Path,
    process::{Output, Stdio},
};

use serde_json::Value;

use crate::{
    argo_cd, binaries,
    control_plane::ControlPlane,
    dashboard,
    error::{Context as _, Error, Result},
    install::{OPERATOR_NAMESPACE, repository},
    reference, stolen_token,
};

/// The name of the release in tests and in what is committed.
pub const RELEASE: &str = "regcred";
const CHART: &str = "deploy/chart";
const NAMESPACE: &str = "\
# All of regcred but the policy that attaches at birth, which needs Kubernetes 1.36 (attach-at-birth.yaml).
# Rendered from deploy/chart by `just generate`.
apiVersion: v1
kind: Namespace
metadata:
  name: regcred-system
  labels:
    pod-security.kubernetes.io/enforce: restricted
";

/// What the chart gives with these values, as one stream of YAML documents. It is rendered for a cluster that serves
/// `MutatingAdmissionPolicies`.
pub async fn render(values: &[&str]) -> Result<String> {
    let api = "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy";
    render_as(RELEASE, values, &["--kube-version", binaries::kubernetes_version(), "--api-versions", api])
        .await
}

/// What the chart gives for a release of this name with these values, and further arguments of `helm template`.
pub async fn render_as(release: &str, values: &[&str], further: &[&str]) -> Result<String> {
    let arguments = ["template", release, CHART, "--namespace", OPERATOR_NAMESPACE];
    let values = values.iter().flat_map(|value| ["--set", value]);
    let arguments: Vec<_> = arguments.into_iter().chain(further.iter().copied()).chain(values).collect();
    helm(None, &arguments).await
}

/// Applies what the chart gives with these values, by kubectl.
pub async fn apply(control_plane: &ControlPlane, values: &[&str]) -> Result<()> {
    let manifest = render(values).await?;
    let arguments = ["apply", "--server-side", "--force-conflicts", "--validate=strict", "-f", "-"];
    let output = control_plane.kubectl(control_plane.admin_identity(), &arguments, &manifest).await?;
    output.success().map(drop)
}

/// Installs the chart as a user does; what Helm prints comes back.
pub async fn install(control_plane: &ControlPlane, values: &[&str]) -> Result<String> {
    let arguments = ["install", RELEASE, CHART, "--namespace", OPERATOR_NAMESPACE, "--create-namespace"];
    let values = values.iter().flat_map(|value| ["--set", value]);
    helm(Some(control_plane), &arguments.into_iter().chain(values).collect::<Vec<_>>()).await
}

/// Runs Helm in the repository, as cluster administrator if there is a cluster.
pub async fn helm(control_plane: Option<&ControlPlane>, arguments: &[&str]) -> Result<String> {
    let program = tokio::task::spawn_blocking(binaries::helm).await.expect("the build panicked")?;
    let home = tempfile::tempdir().context("make a folder")?;
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).current_dir(repository()).env("HOME", home.path()).stdin(Stdio::null());
    if let Some(control_plane) = control_plane {
        command.env("KUBECONFIG", &control_plane.admin_identity().kubeconfig);
    }
    let Output { status, stdout, stderr } = command.kill_on_drop(true).output().await.context("run helm")?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if status.success() {
        return Ok(text(&stdout));
    }
    Err(Error::Unexpected(format!("helm {}: {}{}", arguments.join(" "), text(&stdout), text(&stderr))))
}

/// Every file of `deploy` and `docs` that is made from another here: its path in the repository, and its content.
pub async fn generated_files() -> Result<Vec<(&'static str, String)>> {
    let install = without_helm(&render(&["attachAtBirth.enabled=false"]).await?);
    let policy = without_helm(&render(&["attachAtBirth.enabled=true"]).await?);
    let policy = policy.split("---\n").filter(|document| document.contains("MutatingAdmissionPolicy"));
    let head = "# Rendered from deploy/chart by `just generate`; needs Kubernetes 1.36.\n";
    let crd = read("crds/registrycredentials.regcred.dev.yaml")?;
    Ok(vec![
        ("deploy/install.yaml", format!("{NAMESPACE}{}", caged_first(&install))),
        ("deploy/attach-at-birth.yaml", format!("{head}---\n{}", policy.collect::<Vec<_>>().join("---\n"))),
        ("deploy/chart/files/crd.yaml", crd),
        ("deploy/chart/files/dashboard.json", dashboard::json()),
        ("deploy/chart/README.md", values_page()?),
        (argo_cd::CONFIG_MAP, argo_cd::config_map()?),
        ("docs/stolen-token.md", stolen_token::page()),
        (reference::PAGE, reference::page()?),
        ("README.md", readme()?),
    ])
}

/// A manifest without the labels that say that Helm has it.
fn without_helm(manifest: &str) -> String {
    let is_of_helm = |line: &str| {
        let line = line.trim();
        line == "app.kubernetes.io/managed-by: Helm" || line.starts_with("helm.sh/chart: ")
    };
    manifest.split_inclusive('\n').filter(|line| !is_of_helm(line)).collect()
}

/// A manifest with the cage at its beginning. kubectl applies it in its order, and so gives the operator no right before
/// the policies that limit it.
fn caged_first(manifest: &str) -> String {
    let documents = manifest.split("---\n").filter(|document| !document.is_empty());
    let (cage, rest): (Vec<_>, Vec<_>) =
        documents.partition(|document| document.contains("kind: ValidatingAdmissionPolicy"));
    let documents: Vec<_> = cage.into_iter().chain(rest).collect();
    format!("---\n{}", documents.join("---\n"))
}

/// The README with its table of what a stolen token can do made anew.
fn readme() -> Result<String> {
    let [begin, end] = ["<!-- stolen token, by `just generate` -->\n", "<!-- end -->"];
    let text = read("README.md")?;
    let parts = text.split_once(begin).and_then(|(head, rest)| Some((head, rest.split_once(end)?.1)));
    let (head, tail) = parts.ok_or_else(|| Error::Unexpected(format!("README.md lacks {begin} or {end}")))?;
    Ok(format!("{head}{begin}{}{end}{tail}", stolen_token::summary_table()))
}

pub(crate) fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(repository().join(path)).context(format!("read {path}"))
}

/// The page of the chart's values, from their schema and defaults.
fn values_page() -> Result<String> {
    let schema: Value = serde_json::from_str(&read("deploy/chart/values.schema.json")?)
        .map_err(|error| Error::Unexpected(format!("values.schema.json: {error}")))?;
    let defaults: Value = serde_saphyr::from_str(&read("deploy/chart/values.yaml")?)
        .map_err(|error| Error::Unexpected(format!("values.yaml: {error}")))?;
    let mut page = String::from(
        "<!-- Made from values.schema.json and values.yaml by `just generate`. -->\n\
         # Values of the regcred chart\n\n| value | default | what it is |\n|---|---|---|\n",
    );
    list_values(&mut page, "", &schema, &defaults);
    Ok(page)
}

fn list_values(page: &mut String, path: &str, schema: &Value, defaults: &Value) {
    let Some(properties) = schema["properties"].as_object() else { return };
    for (name, property) in properties {
        let path = format!("{path}{name}");
        if let Some(description) = property["description"].as_str() {
            let default =
                if defaults[name].is_null() { String::new() } else { format!("`{}`", defaults[name]) };
            // Writing to a String cannot fail.
            let _ = writeln!(page, "| `{path}` | {default} | {description} |");
        }
        list_values(page, &format!("{path}."), property, &defaults[name]);
    }
}

/// Writes every generated file.
pub async fn generate() -> Result<()> {
    // The chart carries a copy of the CRD, so that comes before anything is rendered.
    let crd = read("crds/registrycredentials.regcred.dev.yaml")?;
    write("deploy/chart/files/crd.yaml", &crd)?;
    for (path, content) in generated_files().await? {
        write(path, &content)?;
    }
    Ok(())
}

fn write(path: &str, content: &str) -> Result<()> {
    let path = repository().join(path);
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).context(format!("create {}", folder.display()))?;
    std::fs::write(&path, content).context(format!("write {}", path.display()))
}
