//! From the command line to a report: reads what a verb needs, and no more.

use jiff::Timestamp;

use std::path::Path;
use std::time::Duration;

use crate::args::{Args, Audit, Diff, Explain, Global, Impact, Refresh, Status, Verb};
use crate::cluster::{Cluster, Error};
use crate::complete::{self, Wanted};
use crate::file;
use crate::print::{Report, show, write};
use crate::probe;
use crate::scene::{CREDENTIALS, Scene};
use crate::verbs::{audit, check, diff, explain, impact, refresh, status};

/// Kinds that make Pods, as people write them before a slash.
const WORKLOADS: [&str; 12] = [
    "deployment",
    "deploy",
    "statefulset",
    "sts",
    "daemonset",
    "ds",
    "replicaset",
    "rs",
    "job",
    "cronjob",
    "cj",
    "workload",
];

/// What a verb found, as far as somebody asked for it in the exit code.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    /// The question is answered.
    Answered,
    /// There is what the caller asked to be told of.
    Findings,
}

impl Outcome {
    /// The exit code; 1 is an error's.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Answered => 0,
            Self::Findings => 2,
        }
    }
}

impl From<bool> for Outcome {
    fn from(found: bool) -> Self {
        if found { Self::Findings } else { Self::Answered }
    }
}

/// What `explain` is asked about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Subject<'a> {
    Pod(&'a str),
    Image(&'a str),
}

/// Reads what `explain` is asked about: a Pod's name has neither a slash nor a colon.
fn subject(text: &str) -> Result<Subject<'_>, Error> {
    match text.split_once('/') {
        Some(("pod" | "pods" | "po", name)) => Ok(Subject::Pod(name)),
        Some((kind, _)) if WORKLOADS.contains(&kind) => Err(Error::Missing(format!(
            "explain takes a Pod or an image, and no {kind}: kubectl regcred audit --by pod lists Pods that cannot pull"
        ))),
        _ if text.contains(['/', ':', '@']) => Ok(Subject::Image(text)),
        _ => Ok(Subject::Pod(text)),
    }
}

/// Runs a verb.
pub(crate) fn run(args: &Args) -> Result<Outcome, Error> {
    // An error means that a provider is installed already, which is as good.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(answer(args))
}

async fn answer(args: &Args) -> Result<Outcome, Error> {
    let global = &args.global;
    let cluster = async || Cluster::new(global).await;
    match &args.verb {
        Verb::Explain(asked) => explain(asked, global, &mut cluster().await?).await,
        Verb::Audit(asked) => audit(asked, global, &mut cluster().await?).await,
        Verb::Status(asked) => status(asked, global, &mut cluster().await?).await,
        Verb::Impact(asked) => impact(asked, global, &mut cluster().await?).await,
        Verb::Diff(asked) => diff(asked, global, &mut cluster().await?).await,
        Verb::Refresh(asked) => refresh(asked, global, &mut cluster().await?).await,
        Verb::Check => check(global, &mut cluster().await?).await,
        Verb::Complete(asked) => complete(&asked.words, global).await,
    }
}

async fn explain(asked: &Explain, global: &Global, cluster: &mut Cluster) -> Result<Outcome, Error> {
    let subject = subject(&asked.subject)?;
    let (mut scene, namespace) = (scene(global), cluster.namespace.clone());
    cluster.credentials(&mut scene).await?;
    cluster.namespace_among_all(&mut scene).await?;
    cluster.accounts(&mut scene, Some(&namespace)).await?;
    let list = match subject {
        Subject::Image(_) => scene.list_of(&namespace, &asked.serviceaccount),
        Subject::Pod(name) => {
            scene.pods.push(cluster.pod(name).await?);
            scene.pods[0].list.clone()
        }
    };
    if global.deep || asked.probe {
        let names = list.iter().map(|name| (namespace.clone(), name.clone())).collect();
        cluster.secrets(&mut scene, names).await?;
    }
    let mut report = match subject {
        Subject::Image(image) => explain::image(&scene, &namespace, &asked.serviceaccount, image),
        Subject::Pod(_) => explain::pod(&scene, &scene.pods[0]),
    };
    if asked.probe {
        report.probe(&probe::registries(asked), &scene, &list).await;
    }
    show(&report, global)?;
    Ok(Outcome::from(asked.exit_code && report.has_finding()))
}

async fn audit(asked: &Audit, global: &Global, cluster: &mut Cluster) -> Result<Outcome, Error> {
    let scene = workloads(global, cluster).await?;
    let report = audit::report(&scene, asked.by);
    show(&report, global)?;
    Ok(Outcome::from(asked.fail_on.is_some_and(|level| report.has(level))))
}

async fn status(asked: &Status, global: &Global, cluster: &mut Cluster) -> Result<Outcome, Error> {
    let mut scene = scene(global);
    cluster.credentials(&mut scene).await?;
    named(&scene, asked.name.as_deref())?;
    cluster.namespaces(&mut scene).await?;
    answered(&status::report(&scene, asked.name.as_deref()), global)
}

async fn impact(asked: &Impact, global: &Global, cluster: &mut Cluster) -> Result<Outcome, Error> {
    let namespace = global.namespace.as_deref();
    let scene = read(scene(global), cluster, namespace).await?;
    named(&scene, Some(&asked.name))?;
    let Some(entry) = scene.credential(&asked.name) else {
        return Err(Error::Missing("RegistryCredentials are not shown to you: forbidden".to_owned()));
    };
    answered(&impact::report(&scene, &asked.name, entry, namespace), global)
}

async fn diff(asked: &Diff, global: &Global, cluster: &mut Cluster) -> Result<Outcome, Error> {
    let wanted = file::credentials(&text_of(&asked.filename)?)?;
    let (mut before, mut after) = (scene(global), scene(global));
    let mut names = Vec::new();
    for (name, object) in wanted {
        let present = cluster.credential(&name).await?;
        after.add_credential(file::applied(&object, present, after.now)?);
        names.push(name);
    }
    before.twin = Some(Box::new(after));
    let mut before = read(before, cluster, None).await?;
    let Some(after) = before.twin.take() else { return Ok(Outcome::Answered) };
    let report = diff::report(&before, &after, &names);
    show(&report, global)?;
    Ok(Outcome::from(asked.exit_code && report.has_change()))
}

async fn refresh(asked: &Refresh, global: &Global, cluster: &mut Cluster) -> Result<Outcome, Error> {
    let wait = asked.wait.then(|| Duration::from_secs(asked.timeout));
    let now = scene(global).now.to_string();
    answered(&refresh::refresh(cluster, &asked.name, now, wait).await?, global)
}

async fn check(global: &Global, cluster: &mut Cluster) -> Result<Outcome, Error> {
    let report = check::report(&cluster.facts(&global.operator_namespace, scene(global).now).await?);
    show(&report, global)?;
    Ok(Outcome::from(report.has_finding()))
}

/// A shell that completes is told nothing of what cannot be read.
async fn complete(words: &[String], global: &Global) -> Result<Outcome, Error> {
    let found = match complete::wanted(words) {
        Wanted::File => None,
        Wanted::Words(words) => Some(words),
        Wanted::Credential => Some(credentials(global).await.unwrap_or_default()),
        Wanted::Pod(namespace) => Some(pods(global, namespace).await.unwrap_or_default()),
    };
    write(&complete::answer(words, found))?;
    Ok(Outcome::Answered)
}

/// Names of RegistryCredentials.
async fn credentials(global: &Global) -> Result<Vec<String>, Error> {
    let (mut cluster, mut scene) = (Cluster::new(global).await?, scene(global));
    cluster.credentials(&mut scene).await?;
    Ok(scene.credentials().map(|(name, _)| name.to_string()).collect())
}

/// Names of the Pods of a namespace, or of that of the context.
async fn pods(global: &Global, namespace: Option<String>) -> Result<Vec<String>, Error> {
    let (mut cluster, mut scene) = (Cluster::new(global).await?, scene(global));
    let namespace = namespace.unwrap_or_else(|| cluster.namespace.clone());
    cluster.pods(&mut scene, Some(&namespace)).await?;
    Ok(scene.pods.into_iter().map(|pod| pod.name).collect())
}

/// Everything that decides about the Pods of a namespace, or of all.
async fn workloads(global: &Global, cluster: &mut Cluster) -> Result<Scene, Error> {
    let own = cluster.namespace.clone();
    let namespace = (!global.all_namespaces).then_some(own.as_str());
    let mut scene = read(scene(global), cluster, namespace).await?;
    if global.deep {
        let named = scene
            .pods
            .iter()
            .flat_map(|pod| pod.list.iter().map(|name| (pod.namespace.clone(), name.clone())));
        let names = named.collect();
        cluster.secrets(&mut scene, names).await?;
    }
    Ok(scene)
}

async fn read(mut scene: Scene, cluster: &mut Cluster, namespace: Option<&str>) -> Result<Scene, Error> {
    cluster.credentials(&mut scene).await?;
    cluster.namespaces(&mut scene).await?;
    cluster.accounts(&mut scene, namespace).await?;
    cluster.pods(&mut scene, namespace).await?;
    Ok(scene)
}

fn text_of(file: &Path) -> Result<String, Error> {
    let read = if file == Path::new("-") {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(file)
    };
    read.map_err(|error| Error::Missing(format!("cannot read {}: {error}", file.display())))
}

/// Fails where a RegistryCredential that was named does not exist.
fn named(scene: &Scene, name: Option<&str>) -> Result<(), Error> {
    let unknown = |name: &&str| !scene.unread.lacks(CREDENTIALS) && scene.credential(name).is_none();
    match name.filter(unknown) {
        Some(name) => Err(Error::Missing(format!(
            "RegistryCredential {name:?} does not exist; kubectl get regcred lists them"
        ))),
        None => Ok(()),
    }
}

fn answered<R: Report>(report: &R, global: &Global) -> Result<Outcome, Error> {
    show(report, global)?;
    Ok(Outcome::Answered)
}

#[expect(clippy::disallowed_methods, reason = "the one place of this program that tells the time")]
fn scene(global: &Global) -> Scene {
    Scene::new(&global.operator_namespace, Timestamp::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_and_images_are_told_apart() {
        for (text, wanted) in [
            ("web-1", Subject::Pod("web-1")),
            ("pod/web-1", Subject::Pod("web-1")),
            ("ghcr.io/acme/app", Subject::Image("ghcr.io/acme/app")),
            ("nginx:1", Subject::Image("nginx:1")),
        ] {
            assert_eq!(subject(text).unwrap(), wanted, "{text}");
        }
        assert!(subject("deploy/web").unwrap_err().to_string().contains("no deploy"));
    }
}
