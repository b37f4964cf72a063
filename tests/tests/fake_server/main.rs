//! The API server of the simulation, held to the real one: the same random requests go to both, and codes, bodies and
//! watch events must be the same.
//!
//! | file | what it holds |
//! |---|---|
//! | `draw` | what is asked |
//! | `side` | one of the two servers, and what it has said so far |
//! | `watches` | what its watches tell |
//!
//! What is not compared: times; UIDs and resourceVersions themselves (where one appears again is compared); the
//! resourceVersion of a list and of a bookmark, and what else a bookmark's object holds; the order of managedFields,
//! which goes by time, and of conflicts; the token of the next page.
//!
//! What is not asked, because the operator does not: validation of specs, which needs CEL; `generateName`;
//! `resourceVersion=0`; selectors of sets; pages of a list with selectors; deletion of collections; deletion with
//! preconditions, in the background, of what waits for the garbage collector.

mod draw;
mod side;
mod watches;

use std::time::Duration;

use fastrand::Rng;
use futures::{StreamExt as _, stream};
use regcred_simulation::{Server, Traits};
use regcred_tests::{install, scene::shared_control_plane};

use crate::draw::{Ask, Draw};
use crate::side::Side;
use crate::watches::Watches;

/// Sequences that run side by side, each with names of its own.
const STREAMS: u64 = 72;
/// How many of them at a time.
const AT_ONCE: usize = 8;
/// How many requests each sends.
const REQUESTS: usize = 170;
/// How often a watch is opened.
const REQUESTS_PER_WATCH: usize = 40;
/// How long a watch may take to tell what has happened.
const SOON: Duration = Duration::from_secs(5);

/// Both servers.
struct Pair {
    real: Side,
    fake: Side,
    differences: Vec<String>,
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_of_the_simulation_answers_as_kubernetes_does() {
    let control_plane = shared_control_plane().await;
    install::install_crd(control_plane).await.unwrap();
    // Nobody else writes.
    control_plane.stop_controller_manager();
    // Another beginning tries other requests.
    let seed = std::env::var("REGCRED_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    let admin = control_plane.admin().await.unwrap();
    let played = stream::iter(seed..seed + STREAMS).map(|seed| play(admin.clone(), seed));
    let differences = played.buffer_unordered(AT_ONCE).collect::<Vec<_>>().await.concat();
    assert!(differences.is_empty(), "{} differences\n{}", differences.len(), differences.join("\n"));
}

/// Plays one sequence up to the first answer that differs, since others follow from it; and what differed.
async fn play(admin: kube::Client, seed: u64) -> Vec<String> {
    let server = Server::new(Traits { streaming_lists: true, page: usize::MAX });
    let fake = kube::Client::new(server, "default");
    let mut pair = Pair { real: Side::new(admin), fake: Side::new(fake), differences: Vec::new() };
    let mut draw = Draw::new(Rng::with_seed(seed), format!("d{seed}"));
    for ask in draw.opening() {
        pair.ask(&ask).await;
    }
    let mut watches = Watches::open(&pair, &draw).await;
    for number in 0..REQUESTS {
        if number % REQUESTS_PER_WATCH == 0 {
            watches.resume(&pair, &mut draw).await;
        }
        let ask = draw.ask();
        pair.ask(&ask).await;
        if !pair.differences.is_empty() {
            return pair.told(seed);
        }
    }
    for ask in draw.closing() {
        pair.ask(&ask).await;
    }
    watches.compare(&mut pair, SOON).await;
    pair.told(seed)
}

impl Pair {
    /// Sends a request to both, and takes down how their answers differ.
    async fn ask(&mut self, ask: &Ask) {
        let (real, fake) = (self.real.ask(ask).await, self.fake.ask(ask).await);
        self.differs(&format!("{ask:?}"), &real, &fake);
    }

    fn told(&self, seed: u64) -> Vec<String> {
        self.differences.iter().map(|difference| format!("seed {seed}: {difference}")).collect()
    }

    fn differs(&mut self, what: &str, real: &serde_json::Value, fake: &serde_json::Value) {
        if real != fake {
            let mut found = Vec::new();
            side::differences("", real, fake, &mut found);
            self.differences.push(format!("{what}\n  {}", found.join("\n  ")));
        }
    }
}
