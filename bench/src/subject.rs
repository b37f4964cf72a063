//! An operator to measure. Its file says how it is started, what it needs in the cluster, and how it is told of
//! a credential; somebody with another operator's binary adds such a file and nothing else.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use kube::{
    Api, ResourceExt as _,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams},
};
use regcred_tests::{
    Identity,
    install::repository,
    plain_http,
    process::{Launch, Process},
    site::free_addresses,
    wait::try_eventually,
};
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use crate::{
    Error, Result,
    cluster::{Cluster, SERVER, USER},
    error::InFile as _,
    least_writes::{self, Call},
};

/// The longest that a workload may take.
pub const DEADLINE: Duration = Duration::from_mins(20);
const SOON: Duration = Duration::from_mins(1);
/// The names that may be in braces in a command, its environment and its address.
const PLACEHOLDERS: [&str; 9] = [
    "kubeconfig",
    "port",
    "concurrency",
    "secrets",
    "regcred",
    "bareWriter",
    "leastWrites",
    "leastApplies",
    "tokenEndpoints",
];
const READINESS_INTERVAL: Duration = Duration::from_millis(2);

/// What a subject's file says. In texts, `{kubeconfig}`, `{port}`, `{concurrency}`, `{secrets}`, `{regcred}`,
/// `{bareWriter}`, `{leastWrites}`, `{leastApplies}` and `{tokenEndpoints}` stand for what they name; in manifests `{name}`, `{label}`, `{server}`,
/// `{user}` and `{password}` do.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Subject {
    /// Names it in results.
    pub name: String,
    /// The program and its arguments. One that names `{leastWrites}` or `{leastApplies}` is started anew for each workload.
    pub command: Vec<String>,
    /// Its environment.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Files and folders of this repository, applied as cluster administrator before it first starts.
    #[serde(default)]
    pub set_up: Vec<String>,
    /// Whose rights it has, and under whose name the audit log knows it.
    pub user: Account,
    /// The address that answers `/readyz` once it is ready; ready at once if absent.
    pub readiness: Option<String>,
    /// Where the credential comes from: a manifest.
    #[serde(default)]
    pub source: String,
    /// What asks for the Secret `{name}` in all namespaces with the label `{label}`: a manifest. Its deletion ends
    /// that.
    #[serde(default)]
    pub credential: String,
    /// Whether it puts the Secret's name on ServiceAccounts; a pair is done without that if not.
    pub attaches: bool,
    /// Files of this repository with an admission policy that attaches at birth; applied for W11 alone.
    #[serde(default)]
    pub at_birth: Vec<String>,
    /// Credentials whose registry gives tokens, if it knows such; measured in W12 alone.
    pub tokens: Option<Tokens>,
    /// Makes a subject of each number, as `{concurrency}`.
    #[serde(default)]
    pub concurrency: Vec<usize>,
}

/// Names in braces.
fn placeholders(text: &str) -> impl Iterator<Item = &str> {
    text.split('{').skip(1).filter_map(|rest| Some(rest.split_once('}')?.0))
}

/// A ServiceAccount.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Account {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub service_account: String,
}

/// How a subject is told of a credential whose tokens come from Amazon for one ServiceAccount.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tokens {
    /// Files of this repository, applied as cluster administrator.
    pub set_up: Vec<String>,
    /// A manifest like that of other credentials.
    pub credential: String,
}

/// The programs of this repository.
#[derive(Debug, Clone)]
pub struct Programs {
    /// The operator.
    pub regcred: PathBuf,
    /// The bare writer.
    pub bare_writer: PathBuf,
}

impl Subject {
    /// Reads a file: one subject, or one for each concurrency.
    pub fn read(path: &Path) -> Result<Vec<Self>> {
        let wrong = |reason: String| Error::Subject { path: path.display().to_string(), reason };
        let text = std::fs::read_to_string(path).in_file(path)?;
        let subject: Self = serde_saphyr::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        if subject.command.is_empty() {
            return Err(wrong("command names no program".to_owned()));
        }
        if !subject.is_one_shot() && subject.credential.is_empty() {
            return Err(wrong("credential says how it is told what to do; it is missing".to_owned()));
        }
        subject.check().map_err(wrong)?;
        if subject.concurrency.is_empty() {
            return Ok(vec![subject]);
        }
        Ok(subject.concurrency.iter().map(|number| subject.with_concurrency(*number)).collect())
    }

    /// What would otherwise show minutes later, or not at all.
    fn check(&self) -> Result<(), String> {
        let texts = self.command.iter().chain(self.environment.values()).chain(&self.readiness);
        for text in texts {
            for name in placeholders(text) {
                if !PLACEHOLDERS.contains(&name) {
                    return Err(format!(
                        "{{{name}}} in {text:?} stands for nothing; there are {PLACEHOLDERS:?}"
                    ));
                }
            }
        }
        let of_tokens = self.tokens.iter().flat_map(|tokens| &tokens.set_up);
        for path in self.set_up.iter().chain(&self.at_birth).chain(of_tokens) {
            if !repository().join(path).exists() {
                return Err(format!("{path} is no file or folder of this repository"));
            }
        }
        let program = Path::new(&self.command[0]);
        if program.is_absolute() && !program.is_file() {
            return Err(format!("there is no program {}", program.display()));
        }
        match &self.readiness {
            Some(address) if address.replace("{port}", "1").parse::<SocketAddr>().is_err() => Err(format!(
                "readiness is {address:?}, but an address and a port are needed: \"127.0.0.1:{{port}}\""
            )),
            _ => Ok(()),
        }
    }

    fn with_concurrency(&self, number: usize) -> Self {
        let fill = |text: &String| text.replace("{concurrency}", &number.to_string());
        Self {
            name: fill(&self.name),
            command: self.command.iter().map(fill).collect(),
            concurrency: Vec::new(),
            ..self.clone()
        }
    }

    /// Whether it is the bare writer, or another that sends given requests.
    pub fn is_one_shot(&self) -> bool {
        self.command.iter().any(|word| word.contains("{leastWrites}")) || self.applies()
    }

    /// Whether it creates Secrets by server-side apply.
    pub fn applies(&self) -> bool {
        self.command.iter().any(|word| word.contains("{leastApplies}"))
    }
}

/// A subject with its rights in a cluster, running or not.
pub struct Session<'a> {
    /// The cluster.
    pub cluster: &'a Cluster,
    /// What it is.
    pub subject: &'a Subject,
    programs: &'a Programs,
    identity: Identity,
    /// The names of all Secrets that it will be asked for.
    secrets: Vec<String>,
    process: Option<Process>,
    readiness: Option<SocketAddr>,
}

impl<'a> Session<'a> {
    /// Applies what the subject needs, and takes its token.
    pub async fn open(
        cluster: &'a Cluster,
        subject: &'a Subject,
        programs: &'a Programs,
        secrets: Vec<String>,
    ) -> Result<Self> {
        for path in &subject.set_up {
            regcred_tests::install::apply(&cluster.control_plane, path).await?;
        }
        let user = &subject.user;
        let identity = cluster.control_plane.service_account(&user.namespace, &user.service_account).await;
        let identity =
            identity.map_err(|source| Error::OfSubject { subject: subject.name.clone(), source })?;
        Ok(Self { cluster, subject, programs, identity, secrets, process: None, readiness: None })
    }

    /// The user name in the audit log.
    pub fn user(&self) -> &str {
        &self.identity.name
    }

    /// The process id; zero while it does not run.
    pub fn process_id(&self) -> u32 {
        self.process.as_ref().map_or(0, Process::id)
    }

    /// Starts it; a one-shot subject is given its requests and does not wait for anything.
    pub fn start(&mut self, calls: &[Call]) -> Result<()> {
        let number = self.cluster.control_plane.next_number();
        let requests = self.cluster.control_plane.folder().join(format!("requests-{number}.jsonl"));
        if self.subject.applies() {
            let applies: Vec<Call> = calls.iter().cloned().map(Call::as_apply).collect();
            least_writes::write(&requests, &applies).in_file(&requests)?;
        } else if self.subject.is_one_shot() {
            least_writes::write(&requests, calls).in_file(&requests)?;
        }
        // The subject listens there a moment later.
        let [address] = free_addresses()?;
        let fill = |text: &String| {
            text.replace("{kubeconfig}", &self.identity.kubeconfig.display().to_string())
                .replace("{regcred}", &self.programs.regcred.display().to_string())
                .replace("{bareWriter}", &self.programs.bare_writer.display().to_string())
                .replace("{leastWrites}", &requests.display().to_string())
                .replace("{leastApplies}", &requests.display().to_string())
                .replace("{secrets}", &self.secrets.join(","))
                .replace("{tokenEndpoints}", &self.cluster.clouds.endpoints().join(","))
                .replace("{port}", &address.port().to_string())
        };
        let words: Vec<String> = self.subject.command.iter().map(fill).collect();
        let launch = Launch {
            name: format!("subject-{number}"),
            program: PathBuf::from(&words[0]),
            arguments: words[1..].to_vec(),
            environment: self.subject.environment.iter().map(|(k, v)| (k.clone(), fill(v))).collect(),
        };
        self.readiness = self.subject.readiness.as_ref().and_then(|address| fill(address).parse().ok());
        self.process = Some(self.cluster.control_plane.spawn(&launch)?);
        Ok(())
    }

    /// Waits until it says it is ready. Looks often: what is measured may be some ten milliseconds.
    pub async fn ready(&self) -> Result<()> {
        let Some(address) = self.readiness else { return Ok(()) };
        let end = Instant::now() + SOON;
        loop {
            let reason = match plain_http::get(address, "/readyz").await {
                Ok(reply) if reply.status == 200 => return Ok(()),
                Ok(reply) => reply.body,
                Err(error) => error.to_string(),
            };
            if let Some(process) = self.process.as_ref().filter(|process| !process.is_running()) {
                return Err(self.failed(process.failure("ended before it was ready")));
            }
            if Instant::now() >= end {
                let what = "it to be ready";
                return Err(self.failed(regcred_tests::Error::timeout(what, SOON, reason)));
            }
            sleep(READINESS_INTERVAL).await;
        }
    }

    /// Stops it as a cluster would, by SIGTERM.
    pub async fn stop(&mut self) -> Result<()> {
        if let Some(process) = self.process.take()
            && process.is_running()
        {
            process.signal(rustix::process::Signal::TERM)?;
            process.wait(SOON).await?;
        }
        Ok(())
    }

    /// Waits for the end of a one-shot subject, and tells whether it went well.
    pub async fn finished(&mut self) -> Result<()> {
        let Some(process) = self.process.take() else { return Ok(()) };
        let status = process.wait(SOON).await?;
        if status.success() { Ok(()) } else { Err(process.failure(status.to_string()).into()) }
    }

    /// Applies the source of a credential.
    pub async fn apply_source(&self, name: &str, password: &str) -> Result<()> {
        self.apply(&[self.manifest(&self.subject.source, name, "", password)?]).await
    }

    /// Applies credentials, one after the other as every client does.
    pub async fn apply_credentials(&self, names: &[String], label: &str) -> Result<()> {
        self.apply_all(&self.subject.credential, names, label).await
    }

    /// Applies a credential of each name from this manifest.
    pub(crate) async fn apply_all(&self, template: &str, names: &[String], label: &str) -> Result<()> {
        self.apply(&self.manifests(template, names, label)?).await
    }

    /// Deletes those of these credentials that are there, and waits until they are gone.
    pub async fn remove_credentials(&self, names: &[String]) -> Result<()> {
        self.remove_all(&self.subject.credential, names).await
    }

    /// The same for credentials of another manifest.
    pub(crate) async fn remove_all(&self, template: &str, names: &[String]) -> Result<()> {
        let manifests = self.manifests(template, names, "")?;
        for manifest in &manifests {
            match self.api(manifest)?.delete(&manifest.name_any(), &DeleteParams::default()).await {
                Ok(_) => {}
                // A workload that was over early did not come to apply it.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(error.into()),
            }
        }
        for manifest in &manifests {
            let api = self.api(manifest)?;
            let look = async || match api.get_opt(&manifest.name_any()).await {
                Ok(None) => Ok(()),
                Ok(Some(_)) => Err("it is still there".to_owned()),
                Err(error) => Err(error.to_string()),
            };
            try_eventually("a credential to be gone", DEADLINE, look).await?;
        }
        Ok(())
    }

    fn manifests(&self, template: &str, names: &[String], label: &str) -> Result<Vec<DynamicObject>> {
        names.iter().map(|name| self.manifest(template, name, label, "")).collect()
    }

    fn manifest(&self, template: &str, name: &str, label: &str, password: &str) -> Result<DynamicObject> {
        let text = template
            .replace("{name}", name)
            .replace("{label}", label)
            .replace("{server}", SERVER)
            .replace("{user}", USER)
            .replace("{password}", password);
        serde_saphyr::from_str(&text).map_err(|error| self.wrong(&format!("{error} in:\n{text}")))
    }

    fn failed(&self, source: regcred_tests::Error) -> Error {
        Error::OfSubject { subject: self.subject.name.clone(), source }
    }

    fn wrong(&self, reason: &str) -> Error {
        Error::Subject { path: self.subject.name.clone(), reason: reason.to_owned() }
    }

    async fn apply(&self, manifests: &[DynamicObject]) -> Result<()> {
        let params = PatchParams::apply("bench-regcred").force();
        for manifest in manifests {
            let applied =
                self.api(manifest)?.patch(&manifest.name_any(), &params, &Patch::Apply(manifest)).await;
            applied
                .map_err(|error| self.wrong(&format!("its manifest of {}: {error}", manifest.name_any())))?;
        }
        Ok(())
    }

    /// The plural is that of the CRDs that subjects bring: lower case, and an `s`.
    fn api(&self, manifest: &DynamicObject) -> Result<Api<DynamicObject>> {
        let types = manifest.types.as_ref().ok_or_else(|| self.wrong("a manifest has no kind"))?;
        let kind = GroupVersionKind::try_from(types).map_err(|error| self.wrong(&error.to_string()))?;
        let plural = format!("{}s", kind.kind.to_lowercase());
        let resource = ApiResource::from_gvk_with_plural(&kind, &plural);
        let client = self.cluster.client.clone();
        Ok(match &manifest.metadata.namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &resource),
            None => Api::all_with(client, &resource),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Subject>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("subject.yaml");
        std::fs::write(&path, text).unwrap();
        Subject::read(&path)
    }

    #[test]
    fn every_file_beside_the_subjects_is_one() {
        let files = std::fs::read_dir(repository().join("bench/subjects")).unwrap();
        let files = files.map(|file| file.unwrap().path());
        let subjects: Vec<_> = files
            .filter(|file| file.extension().is_some_and(|end| end == "yaml"))
            .map(|file| Subject::read(&file).unwrap_or_else(|error| panic!("{error}")))
            .collect();
        assert!(subjects.len() > 3, "{}", subjects.len());
    }

    #[test]
    fn mistakes_in_a_file_are_named_before_anything_starts() {
        let good = std::fs::read_to_string(repository().join("bench/subjects/regcred.yaml")).unwrap();
        assert_eq!(read(&good).unwrap()[0].name, crate::record::SUBJECT);
        for (from, to, named) in [
            ("attaches: true", "attached: true", "attached"),
            ("{kubeconfig}", "{kubecfg}", "{kubecfg}"),
            ("\"{regcred}\"", "/no/such/operator", "/no/such/operator"),
            ("deploy/install.yaml", "deploy/nothing.yaml", "deploy/nothing.yaml"),
            ("readiness: \"127.0.0.1:", "readiness: \"localhost:", "readiness"),
            ("credential: |", "source2: |", "source2"),
        ] {
            let wrong = good.replace(from, to);
            assert_ne!(wrong, good, "{from}");
            let error = read(&wrong).unwrap_err().to_string();
            assert!(error.contains(named) && error.contains("subject.yaml"), "{error}");
        }
    }
}
