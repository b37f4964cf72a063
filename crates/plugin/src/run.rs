//! From the command line to a report: reads what a verb needs, and no more.

use jiff::Timestamp;

use crate::args::{Args, Audit, Explain, Global, Status, Verb};
use crate::cluster::{Cluster, Error};
use crate::print::{Report, show};
use crate::scene::Scene;
use crate::verbs::{audit, explain, status};

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

/// Runs a verb.
pub(crate) fn run(args: &Args) -> Result<Outcome, Error> {
    // An error means that a provider is installed already, which is as good.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(answer(args))
}

async fn answer(args: &Args) -> Result<Outcome, Error> {
    let global = &args.global;
    let mut cluster = Cluster::new(global).await?;
    match &args.verb {
        Verb::Explain(asked) => explain(asked, global, &mut cluster).await,
        Verb::Audit(asked) => audit(asked, global, &mut cluster).await,
        Verb::Status(asked) => status(asked, global, &mut cluster).await,
    }
}

async fn explain(asked: &Explain, global: &Global, cluster: &mut Cluster) -> Result<Outcome, Error> {
    let (mut scene, namespace) = (scene(global), cluster.namespace.clone());
    cluster.credentials(&mut scene).await?;
    cluster.namespaces(&mut scene).await?;
    cluster.accounts(&mut scene, Some(&namespace)).await?;
    let pod = asked.subject.strip_prefix("pod/").or_else(|| asked.subject.strip_prefix("po/"));
    let report = if pod.is_none() && asked.subject.contains(['/', ':', '@']) {
        explain::image(&scene, &namespace, &asked.serviceaccount, &asked.subject)
    } else {
        scene.pods.push(cluster.pod(pod.unwrap_or(&asked.subject)).await?);
        deep(global, cluster, &mut scene).await?;
        explain::pod(&scene, &scene.pods[0])
    };
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

/// Everything that decides about the Pods of a namespace, or of all.
async fn workloads(global: &Global, cluster: &mut Cluster) -> Result<Scene, Error> {
    let (mut scene, own) = (scene(global), cluster.namespace.clone());
    let namespace = (!global.all_namespaces).then_some(own.as_str());
    cluster.credentials(&mut scene).await?;
    cluster.namespaces(&mut scene).await?;
    cluster.accounts(&mut scene, namespace).await?;
    cluster.pods(&mut scene, namespace).await?;
    deep(global, cluster, &mut scene).await?;
    Ok(scene)
}

async fn deep(global: &Global, cluster: &mut Cluster, scene: &mut Scene) -> Result<(), Error> {
    if global.deep { cluster.secrets(scene).await } else { Ok(()) }
}

/// Fails where a RegistryCredential that was named does not exist.
fn named(scene: &Scene, name: Option<&str>) -> Result<(), Error> {
    let unknown =
        |name: &&str| !scene.unread.lacks("RegistryCredentials") && scene.credential(name).is_none();
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
