//! The files of a release: image, chart and manifests belong together by the image's digest, and checksums are of all.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

use regcred_image::{
    Architecture,
    oci::Blob,
    release::{CHECKSUMS, NOTES, Release},
};
use regcred_tests::{
    binaries,
    chart::helm,
    install::{OPERATOR_NAMESPACE, repository},
};
use serde_json::Value;
use tempfile::TempDir;

const VERSION: &str = env!("CARGO_PKG_VERSION");
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

/// A release of this checkout with such binaries, in a folder; the digest of its image.
fn release(folder: &TempDir) -> String {
    let architectures = [Architecture::Amd64, Architecture::Arm64];
    let binaries = architectures.map(|architecture| binary(folder.path(), architecture));
    let sbom = folder.path().join("regcred.cdx.json");
    std::fs::write(&sbom, "{}").unwrap();
    let helm = binaries::helm().unwrap();
    let release = Release {
        repository: &repository(),
        output: &folder.path().join("dist"),
        registry: REGISTRY,
        version: VERSION,
        binaries: &binaries,
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
            files.iter().any(|file| *file == name || name.ends_with('-') && file.starts_with(&name)),
            "{name}"
        );
        count += 1;
    }
    assert_eq!(count, 4, "image, chart, SBOM, and all that begins with regcred-");
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
            further: &[],
            helm,
            draft: false,
        };
        let said = release.make().unwrap_err().to_string();
        assert!(said.ends_with(refusal), "{said}");
    }
    assert!(!output.exists(), "nothing was made");
}
