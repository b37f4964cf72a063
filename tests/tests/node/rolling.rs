//! A registry whose credential lives a minute: Pods start all the while, each pulls an image of its own, and no pull fails.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use regcred_tests::{
    chart,
    clouds::{Clouds, STATIC_KEYS},
    install::OPERATOR_NAMESPACE,
    node::{ADDRESS, registry::Registry, token_server::TokenServer},
};
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::stage::{AFTER_BACK_OFF, SOON, Stage, credential_of, pod};

const NAME: &str = "rolling";
const HOST: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
const ISSUER: &str = "api.ecr.eu-west-1.amazonaws.com";
/// How long a token lives, in seconds.
const LIFE: u32 = 60;
/// How many Pods start, if somebody says so: one every three seconds.
const PODS: &str = "REGCRED_ROLLING_PODS";

/// How many Pods start, and how long after each other. The short form goes on until the first token has ended.
fn pace() -> (u32, Duration) {
    let asked = std::env::var(PODS).map(|text| text.parse().expect("a number of Pods"));
    asked.map_or((10, Duration::from_secs(7)), |pods| (pods, Duration::from_secs(3)))
}

/// Passwords that pulled.
type Used = Arc<Mutex<BTreeSet<String>>>;

pub(crate) async fn no_pull_fails_while_tokens_of_a_minute_roll(stage: &Stage) {
    let clouds = Clouds::start_at(ADDRESS).await.unwrap();
    clouds.set_life(LIFE.into());
    let (server, used) = token_server(&clouds).await;
    let registry = stage.node.registry_behind(HOST, &server).await.unwrap();
    let endpoint = format!("tokens.endpoints.{}={}", ISSUER.replace('.', r"\."), clouds.endpoint(ISSUER));
    stage.helm(&["upgrade", chart::RELEASE, "deploy/chart"], &[&endpoint]).await;
    let source = json!({ "ecr": { "auth": { "secretRef": { "name": NAME } } } });
    stage.apply(&[keys(), credential_of(NAME, &json!([{ "server": HOST, "source": source }]))]).await;
    stage.namespace(NAME, NAME).await;
    stage.served(NAME, NAME).await;

    let (pods, apart) = pace();
    let begin = Instant::now();
    start(stage, (&registry, &server), pods, apart).await;
    let (mints, took) = (clouds.mints(), begin.elapsed().as_secs());
    let used = used.lock().unwrap().len();
    println!("{pods} of {pods} Pods pulled in {took} s, with {used} of {mints} tokens; no pull failed");
    assert_eq!(clouds.complaints(), Vec::<String>::new());
    let ended = usize::try_from(took / u64::from(LIFE)).unwrap();
    assert!(used > ended, "in {took} s {ended} tokens have ended, and {used} pulled");
    let takes = clouds.taker();
    assert!(!takes(&basic(&clouds.logins()[0].password)), "the first one is of no use any more");

    stage.clear(&[NAME], &[NAME]).await;
    stage.helm(&["upgrade", chart::RELEASE, "deploy/chart"], &["tokens.endpoints=null"]).await;
}

/// Lets those pull whose password Amazon gave a minute ago at most.
async fn token_server(clouds: &Clouds) -> (TokenServer, Used) {
    let (takes, used) = (clouds.taker(), Used::default());
    let seen = used.clone();
    let who = move |shown: &str| {
        let is_taken = takes(shown);
        if is_taken {
            seen.lock().unwrap().insert(shown.to_owned());
        }
        is_taken.then(String::new)
    };
    (TokenServer::start_with(who).await.unwrap(), used)
}

fn basic(password: &str) -> String {
    let login = regcred_tests::node::registry::Login::new("AWS", password);
    regcred_tests::node::registry::basic(&login)
}

/// Keys of AWS, which the source names.
fn keys() -> Value {
    let (id, secret) = STATIC_KEYS;
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {
            "name": NAME, "namespace": OPERATOR_NAMESPACE, "labels": { "regcred.dev/source": "identity" },
        },
        "stringData": { "AWS_ACCESS_KEY_ID": id, "AWS_SECRET_ACCESS_KEY": secret },
    })
}

/// Starts Pods one after the other, takes those away that run, and demands that all come to run and no pull failed.
async fn start(stage: &Stage, (registry, server): (&Registry, &TokenServer), pods: u32, apart: Duration) {
    let mut ticks = interval(apart);
    // A Pod that came late must not make the next ones come all at once.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut begun = BTreeSet::new();
    for number in 0..pods {
        ticks.tick().await;
        let (tag, name) = (stage.new_tag(), format!("app-{number}"));
        let image = stage.node.new_image(&tag).unwrap();
        registry.push(&image, "team/app", &tag, &server.pusher("team/app").unwrap()).await.unwrap();
        stage.apply(&[pod(NAME, &name, &format!("{HOST}/team/app:{tag}"))]).await;
        begun.insert(name);
        take_away_what_runs(stage, &mut begun).await;
    }
    for name in &begun {
        stage.runs(NAME, name, if pods > 50 { AFTER_BACK_OFF } else { SOON }).await;
    }
    let failed =
        "get events --namespace rolling --field-selector reason=Failed --output jsonpath={.items[*].message}";
    assert_eq!(stage.kubectl(failed).await, "", "no pull failed");
    let pulled = "get events --namespace rolling --field-selector reason=Pulled --output name";
    let pulled = stage.kubectl(pulled).await.lines().count();
    assert_eq!(pulled, usize::try_from(pods).unwrap(), "the kubelet pulled each image once");
}

async fn take_away_what_runs(stage: &Stage, begun: &mut BTreeSet<String>) {
    let running = "get pods --namespace rolling --field-selector status.phase=Running --output jsonpath={.items[*].metadata.name}";
    let running = stage.kubectl(running).await;
    let running: Vec<&str> = running.split_whitespace().filter(|name| begun.remove(*name)).collect();
    if !running.is_empty() {
        let names = running.join(" ");
        stage.kubectl(&format!("delete pod --namespace rolling --wait=false {names}")).await;
    }
}
