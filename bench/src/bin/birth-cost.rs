//! `cargo birth-cost`: measures what the policy that attaches at birth costs whoever makes a ServiceAccount, beside ever
//! more RegistryCredentials that select all ServiceAccounts of another namespace, and writes `docs/attach-at-birth.md`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people at a terminal")]

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, PostParams};
use kube::{Api, Client};
use regcred_bench::{Result, error::InFile as _};
use regcred_tests::binaries::kubernetes_version;
use regcred_tests::birth::{Cost, Shape};
use regcred_tests::wait::try_eventually;
use regcred_tests::{ControlPlane, Options, install};
use serde_json::json;

const BESIDE: [usize; 4] = [0, 10, 100, 500];
/// How often each object is made.
const PLAIN: u32 = 50;
const WORST: u32 = 2;
/// A ServiceAccount is made here, and no RegistryCredential selects it.
const ELSEWHERE: &str = "elsewhere";
/// Selected by all of them.
const SELECTED: &str = "selected";
/// The policy makes no list longer.
const MOST: usize = 64;
const SOON: Duration = Duration::from_mins(2);
const PAGE: &str = "docs/attach-at-birth.md";

const HEAD: &str = "\
# What attaching at birth costs

Made by `cargo birth-cost`. The policy is evaluated in every request that makes or changes a ServiceAccount, once for each
RegistryCredential, because each is a parameter of it. The API server converts the object for every evaluation, also where the
first condition decides, so a large object costs more. Here RegistryCredentials select another namespace by its labels, all
ServiceAccounts of it, which is what takes longest to decide. What is larger than 64 entries or labels is not looked at any further:
the operator attaches it a moment later. Processor time is the API server's; the time until it answers depends on what else the
machine does.

`attachAtBirth.selector` chooses the RegistryCredentials that are evaluated, and `attachAtBirth.namespaceSelector` the namespaces, which
costs nothing where it does not hold.
";

fn main() -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().in_file(Path::new("a runtime"));
    match runtime.and_then(|runtime| runtime.block_on(run())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("birth-cost: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    let control_plane = ControlPlane::start(Options::default()).await?;
    install::install(&control_plane).await?;
    let client = control_plane.admin().await?;
    make_namespace(&client, ELSEWHERE).await?;
    make_namespace(&client, SELECTED).await?;
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let mut page = format!("{HEAD}\nKubernetes {}, on {cores} cores.\n\n| beside |", kubernetes_version());
    for shape in Shape::ALL {
        let _ = write!(page, " {}: processor ms | answer ms |", shape.title());
    }
    let _ = write!(page, "\n|---|{}", "---|---|".repeat(Shape::ALL.len()));
    row(&mut page, "no policy", &control_plane, &client).await;
    install::apply(&control_plane, "deploy/attach-at-birth.yaml").await?;
    let mut made = 0;
    for count in BESIDE {
        for number in made..count {
            make_credential(&client, number).await?;
        }
        made = count;
        until_in_force(&client, count).await?;
        row(&mut page, &format!("{count} RegistryCredentials"), &control_plane, &client).await;
    }
    page.push('\n');
    let path = install::repository().join(PAGE);
    std::fs::write(&path, page).in_file(&path)
}

async fn row(page: &mut String, title: &str, control_plane: &ControlPlane, client: &Client) {
    println!("{title}");
    let _ = write!(page, "\n| {title} |");
    for shape in Shape::ALL {
        let times = if shape == Shape::Plain { PLAIN } else { WORST };
        let milliseconds = |duration: Duration| duration.as_secs_f64() * 1000.0;
        let _ = match Cost::of(control_plane, client, ELSEWHERE, shape, times).await {
            Ok(Cost { processor, answer }) => {
                write!(page, " {:.1} | {:.1} |", milliseconds(processor), milliseconds(answer))
            }
            Err(error) => {
                println!("{title}, {}: {error}", shape.title());
                write!(page, " — | no answer |")
            }
        };
    }
}

async fn make_namespace(client: &Client, name: &str) -> Result<()> {
    let object = json!({"metadata": {"name": name, "labels": {"pull": name}}});
    let object: Namespace = serde_json::from_value(object)?;
    Api::all(client.clone()).create(&PostParams::default(), &object).await?;
    Ok(())
}

async fn make_credential(client: &Client, number: usize) -> Result<()> {
    let kind = GroupVersionKind::gvk("regcred.dev", "v1alpha1", "RegistryCredential");
    let resource = ApiResource::from_gvk_with_plural(&kind, "registrycredentials");
    let object = json!({
        "apiVersion": "regcred.dev/v1alpha1", "kind": "RegistryCredential",
        "metadata": {"name": format!("birth-{number:03}")},
        "spec": {
            "dockerConfigSecretRefs": [{"name": "none"}],
            "namespaces": {"selector": {"matchLabels": {"pull": SELECTED}}},
            "serviceAccounts": {"from": "All"},
        },
    });
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    api.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
    Ok(())
}

/// The API server takes a moment to ingest a policy and its parameters. A list is filled up to 64 entries.
async fn until_in_force(client: &Client, count: usize) -> Result<()> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), SELECTED);
    let account: ServiceAccount = serde_json::from_value(json!({"metadata": {"name": "probe"}}))?;
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    try_eventually("the policy to be in force", SOON, async || {
        let made = accounts.create(&dry_run, &account).await.map_err(|error| error.to_string())?;
        let entries = made.image_pull_secrets.map_or(0, |list| list.len());
        if entries == count.min(MOST) { Ok(()) } else { Err(format!("{entries} entries")) }
    })
    .await?;
    Ok(())
}
