//! The files of a release: image, chart and manifests belong together by the image's digest, and checksums are of all.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

use regcred_image::{
    Architecture,
    oci::Blob,
    plugin::{ELSEWHERE, Platform, packed},
    release::{CHECKSUMS, KREW, NOTES, Release},
};
use regcred_tests::{
    binaries,
    chart::helm,
    install::{OPERATOR_NAMESPACE, repository},
};
use serde_json::Value;
use tempfile::TempDir;

const VERSION: &str = env!("CARGO_PKG_VERSION");
const DOWNLOADS: &str = "https://downloads.example.com/acme";
const REGISTRY: &str = "registry.example.com/acme";

/// An ELF header for this machine, whose one program header asks for no dynamic linker, and nothing after it.
fn binary(folder: &Path, architecture: Architecture) -> (Architecture, PathBuf) {
    let mut bytes = vec![0; 120];
    bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
    bytes[18] = if architecture == Architecture::Amd64 { 62 } else { 183 };
    (bytes[32], bytes[54], bytes[56], bytes[64]) = (64, 56, 1, 1);
    let path = folder.join(architecture.to_string());
    std::fs::write(&path, bytes).unwrap();
    (architecture, path)
}

/// The plugin for every platform. Only those for Linux are looked at.
fn plugins(folder: &Path) -> Vec<(Platform, PathBuf)> {
    let linux = [Architecture::Amd64, Architecture::Arm64];
    let linux = linux.map(|architecture| (Platform::linux(architecture), binary(folder, architecture).1));
    let elsewhere = ELSEWHERE.map(|platform| {
        let path = platform.binary_in(folder);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, platform.to_string()).unwrap();
        (platform, path)
    });
    linux.into_iter().chain(elsewhere).collect()
}

/// A release of this checkout with such binaries, in a folder; the digest of its image.
fn release(folder: &TempDir) -> String {
    let architectures = [Architecture::Amd64, Architecture::Arm64];
    let binaries = architectures.map(|architecture| binary(folder.path(), architecture));
    let sbom = folder.path().join("regcred.cdx.json");
    std::fs::write(&sbom, "{}").unwrap();
    let helm = binaries::helm().unwrap();
    let plugins = plugins(folder.path());
    let release = Release {
        repository: &repository(),
        output: &folder.path().join("dist"),
        registry: REGISTRY,
        version: VERSION,
        binaries: &binaries,
        plugins: &plugins,
        downloads: DOWNLOADS,
        further: &[sbom],
        helm: &helm,
        draft: true,
    };
    release.make().unwrap()
}

fn blob(image: &Path, digest: &str) -> Value {
    let content = std::fs::read(image.join("blobs").join(digest.replace(':', "/"))).unwrap();
    assert_eq!(Blob::new(content.clone()).digest, digest);
    serde_json::from_slice(&content).unwrap()
}

#[test]
fn the_image_is_an_index_of_both_architectures_under_the_version() {
    let folder = tempfile::tempdir().unwrap();
    let digest = release(&folder);
    let image = folder.path().join("dist/image");
    let entry: Value = serde_json::from_slice(&std::fs::read(image.join("index.json")).unwrap()).unwrap();
    assert_eq!(entry["manifests"][0]["digest"], digest);
    assert_eq!(entry["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"], VERSION);
    let index = blob(&image, &digest);
    let manifests = index["manifests"].as_array().unwrap();
    let found: Vec<_> = manifests.iter().map(|it| it["platform"]["architecture"].as_str().unwrap()).collect();
    assert_eq!(found, ["amd64", "arm64"]);
    for manifest in manifests {
        let manifest = blob(&image, manifest["digest"].as_str().unwrap());
        let config = blob(&image, manifest["config"]["digest"].as_str().unwrap());
        assert_eq!(config["config"]["Labels"]["org.opencontainers.image.version"], VERSION);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn chart_and_manifests_name_the_image_by_its_digest() {
    let folder = tempfile::tempdir().unwrap();
    let wanted = format!("image: \"{REGISTRY}/regcred@{}\"", release(&folder));
    let dist = folder.path().join("dist");
    let package = dist.join(format!("regcred-{VERSION}.tgz")).display().to_string();
    let arguments = ["template", "regcred", &package, "--namespace", OPERATOR_NAMESPACE];
    let rendered = helm(None, &arguments).await.unwrap();
    let manifest = std::fs::read_to_string(dist.join("install.yaml")).unwrap();
    for text in [&rendered, &manifest] {
        let images: Vec<_> = text.lines().map(str::trim).filter(|line| line.starts_with("image: ")).collect();
        assert_eq!(images, [&wanted]);
    }
    let committed = std::fs::read_to_string(repository().join("deploy/install.yaml")).unwrap();
    let lines = |text: &str| {
        text.lines().filter(|line| !line.contains("image: ")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(lines(&manifest), lines(&committed), "nothing else differs");
}

#[test]
fn all_that_is_downloaded_is_in_the_checksums() {
    let folder = tempfile::tempdir().unwrap();
    release(&folder);
    let dist = folder.path().join("dist");
    let text = std::fs::read_to_string(dist.join(CHECKSUMS)).unwrap();
    let sums: BTreeMap<&str, &str> =
        text.lines().map(|line| line.split_once("  ").unwrap()).map(|(sum, name)| (name, sum)).collect();
    let chart = format!("regcred-{VERSION}.tgz");
    let files = [
        "attach-at-birth.yaml",
        "install.yaml",
        "krew.yaml",
        "kubectl-regcred_darwin_amd64.tar.gz",
        "kubectl-regcred_darwin_arm64.tar.gz",
        "kubectl-regcred_linux_amd64.tar.gz",
        "kubectl-regcred_linux_arm64.tar.gz",
        "kubectl-regcred_windows_amd64.tar.gz",
        "regcred-linux-amd64",
        "regcred-linux-arm64",
        "regcred.cdx.json",
        &chart,
    ];
    assert_eq!(sums.keys().copied().collect::<BTreeSet<_>>(), files.into());
    let check = Command::new("sha256sum")
        .args(["--check", "--strict", CHECKSUMS])
        .current_dir(&dist)
        .output()
        .unwrap();
    assert!(check.status.success(), "{check:?}");
    let notes = std::fs::read_to_string(dist.join(NOTES)).unwrap();
    assert!(notes.starts_with("### ") && !notes.contains("\n## "), "{notes}");
}

/// Whoever follows krew's manifest gets the plugin, what completes it, and the licence; the same files give the same bytes.
#[test]
fn krew_finds_an_archive_for_each_platform_by_address_and_digest() {
    let folder = tempfile::tempdir().unwrap();
    release(&folder);
    let dist = folder.path().join("dist");
    let text = std::fs::read_to_string(dist.join(KREW)).unwrap();
    assert!(
        text.starts_with("apiVersion: krew.googlecontainertools.github.com/v1alpha2\nkind: Plugin\n"),
        "{text}"
    );
    let manifest: Value = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(manifest["metadata"]["name"], "regcred");
    assert_eq!(manifest["spec"]["version"], format!("v{VERSION}"));
    let short = manifest["spec"]["shortDescription"].as_str().unwrap();
    assert!(short.len() <= 50, "krew cuts it");
    let platforms = manifest["spec"]["platforms"].as_array().unwrap();
    assert_eq!(platforms.len(), 5);
    for platform in platforms {
        let [system, architecture] =
            ["os", "arch"].map(|key| platform["selector"]["matchLabels"][key].as_str().unwrap());
        let name = format!("kubectl-regcred_{system}_{architecture}.tar.gz");
        assert_eq!(platform["uri"], format!("{DOWNLOADS}/v{VERSION}/{name}"));
        let archive = std::fs::read(dist.join(&name)).unwrap();
        let digest = format!("sha256:{}", platform["sha256"].as_str().unwrap());
        assert_eq!(Blob::new(archive).digest, digest);
        let program = platform["bin"].as_str().unwrap();
        let wanted = if system == "windows" { "kubectl-regcred.exe" } else { "kubectl-regcred" };
        assert_eq!(program, wanted);
        assert_eq!(
            listed(&dist.join(&name)),
            [
                "-rw-r--r-- 0/0 LICENSE".to_owned(),
                format!("-rwxr-xr-x 0/0 {program}"),
                "-rwxr-xr-x 0/0 kubectl_complete-regcred".to_owned(),
            ]
        );
    }
    let again = tempfile::tempdir().unwrap();
    release(&again);
    assert_eq!(std::fs::read_to_string(again.path().join("dist").join(KREW)).unwrap(), text);
}

/// Mode, owner and name of each file in an archive.
fn listed(archive: &Path) -> Vec<String> {
    let output = Command::new("tar").args(["--numeric-owner", "-tvzf"]).arg(archive).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let columns = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        format!("{} {} {}", columns[0], columns[1], columns.last().unwrap())
    };
    text.lines().map(columns).collect()
}

#[test]
fn a_plugin_for_linux_that_needs_a_dynamic_linker_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubectl-regcred");
    std::fs::write(&path, "#!/bin/sh\n").unwrap();
    let refused = packed(&repository(), Platform::linux(Architecture::Amd64), &path).unwrap_err().to_string();
    assert!(refused.contains("build it for the musl target"), "{refused}");
}

/// The workflow cannot be run here: what it pushes has to be what is made.
#[test]
fn the_workflow_names_files_that_there_are() {
    let folder = tempfile::tempdir().unwrap();
    release(&folder);
    let workflow = std::fs::read_to_string(repository().join(".github/workflows/release.yaml")).unwrap();
    assert!(workflow.contains("just release --tag \"$GITHUB_REF_NAME\" --registry \"$REGISTRY\""));
    let marks = |char: char| char.is_whitespace() || "\"':*".contains(char);
    let named = workflow.split("target/dist/").skip(1).map(|rest| rest.split(marks).next().unwrap());
    let files: Vec<String> = std::fs::read_dir(folder.path().join("dist"))
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    let mut count = 0;
    for name in named.map(|name| name.replace("$VERSION", VERSION)) {
        assert!(
            files.iter().any(|file| *file == name || name.ends_with(['-', '_']) && file.starts_with(&name)),
            "{name}"
        );
        count += 1;
    }
    assert_eq!(count, 5, "image, chart, SBOM, and all that begins with regcred- or kubectl-regcred_");
    for platform in ELSEWHERE {
        assert!(workflow.contains(&format!("platform: {platform}\n")), "{platform} is built by a job");
    }
}

/// Whoever makes it again gets what is of this one, and nothing of the last; a folder of something else stays.
#[test]
fn what_an_earlier_release_left_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let dist = folder.path().join("dist");
    std::fs::create_dir_all(&dist).unwrap();
    let other = dist.join("notes-of-mine");
    std::fs::write(&other, "x").unwrap();
    let first = release(&folder);
    assert!(other.is_file());
    assert_eq!(release(&folder), first, "the same image");
    assert!(!other.is_file());
}

#[test]
fn a_version_that_the_chart_or_the_changelog_lacks_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (repository, output, helm) = (folder.path(), folder.path().join("dist"), Path::new("helm"));
    std::fs::create_dir_all(repository.join("deploy/chart")).unwrap();
    std::fs::write(repository.join("deploy/chart/Chart.yaml"), "version: 1.2.0\nappVersion: 1.2.0\n")
        .unwrap();
    std::fs::write(repository.join("CHANGELOG.md"), "# Changelog\n\n## Unreleased\n\n- new\n").unwrap();
    for (version, refusal) in [
        ("1.3.0", "Chart.yaml has another version than 1.3.0: correct it"),
        ("1.2.0", "CHANGELOG.md has no section \"## 1.2.0\": write it"),
    ] {
        let (output, registry) = (&output, REGISTRY);
        let release = Release {
            repository,
            output,
            registry,
            version,
            binaries: &[],
            plugins: &[],
            downloads: DOWNLOADS,
            further: &[],
            helm,
            draft: false,
        };
        let said = release.make().unwrap_err().to_string();
        assert!(said.ends_with(refusal), "{said}");
    }
    assert!(!output.exists(), "nothing was made");
}
