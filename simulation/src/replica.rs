//! One replica of the operator: started, killed, told to stop, and started again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use regcred_controller::{
    Clients, Clock, Entropy, Issuers, Metrics, Options, Pulse, Registries as Verifiers, Stage,
};
use serde::Serialize;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::faults::{Network, Weather};
use crate::issuer::Issuer;
use crate::names::{HOME, TARGETS};
use crate::registry::Registries;
use crate::server::{Server, time_at};
use crate::trace::{Trace, in_seconds};

/// How a replica is set up.
#[derive(Clone, Debug, Serialize)]
pub struct Setup {
    /// Its name.
    pub name: &'static str,
    /// Whether a lease decides who works.
    pub lease: bool,
    /// Whether target names are listed.
    pub listed: bool,
    /// Namespaces worked on at once.
    pub concurrency: usize,
    /// In how long every copy is looked at again.
    #[serde(serialize_with = "in_seconds")]
    pub verification_period: Duration,
    /// When it is killed or told to stop, and how long it stays away.
    pub outages: Vec<Outage>,
}

/// A time without a replica.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Outage {
    /// When it begins, from the start of the run.
    #[serde(serialize_with = "in_seconds")]
    pub at: Duration,
    /// How long it lasts.
    #[serde(serialize_with = "in_seconds")]
    pub lasts: Duration,
    /// How it begins.
    pub ends: End,
}

/// What becomes of a replica.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub enum End {
    /// Its process is killed.
    Killed,
    /// It is told to stop, and ends by itself.
    Told,
    /// It lives on, and none of its requests arrives.
    CutOff,
}

/// Where a replica lives.
#[derive(Clone, Debug)]
pub struct World {
    /// The API server.
    pub server: Server,
    /// Who gives tokens.
    pub issuer: Issuer,
    /// Who says whether a credential is good.
    pub registries: Registries,
    /// The network.
    pub weather: Weather,
    /// The account of the run.
    pub trace: Trace,
    /// Every replica is killed and started again with this. It wakes in a fixed order, as a `watch` does not.
    pub recall: Arc<Notify>,
    /// The namespace in which a webhook refuses every write for good.
    pub refused: Option<&'static str>,
    /// Whether somebody applies other data in the operator's name: a new process finds that only as it looks again.
    pub forged: bool,
}

struct Incarnation {
    task: JoinHandle<()>,
    dead: CancellationToken,
    cut_off: Arc<AtomicBool>,
    stage: Stage,
}

/// Keeps a replica going, whatever kills it.
pub async fn keep(world: World, setup: Setup) {
    let mut outages = setup.outages.iter().copied();
    let mut next = outages.next();
    for number in 0_u32.. {
        world.trace.started(setup.name);
        let incarnation = start(&world, &setup, number);
        let away = loop {
            let (outage, away) = incarnation.live(&world, next).await;
            if outage.is_some() {
                next = outages.next();
            }
            match outage {
                Some(outage) if outage.ends == End::CutOff => {
                    incarnation.cut_off(&world, setup.name, outage).await;
                }
                _ => break away,
            }
        };
        incarnation.end(&world, setup.name).await;
        sleep(away).await;
    }
}

async fn until(due: Option<Instant>, outage: Option<Outage>) -> Outage {
    match (due, outage) {
        (Some(due), Some(outage)) => {
            sleep_until(due).await;
            outage
        }
        _ => std::future::pending().await,
    }
}

impl Incarnation {
    /// Lives until something ends it: an outage, and otherwise itself or a recall. Returns how long it stays away.
    async fn live(&self, world: &World, next: Option<Outage>) -> (Option<Outage>, Duration) {
        let due = next.map(|outage| world.server.started() + outage.at);
        tokio::select! {
            biased;
            () = self.dead.cancelled() => (None, Duration::from_millis(fastrand::u64(0..20_000))),
            () = world.recall.notified() => {
                self.dead.cancel();
                (None, Duration::ZERO)
            }
            outage = until(due, next) => {
                if outage.ends == End::Killed {
                    self.dead.cancel();
                }
                (Some(outage), outage.lasts)
            }
        }
    }

    /// Lives on, and none of its requests arrives for a while.
    async fn cut_off(&self, world: &World, name: &str, outage: Outage) {
        world.trace.disturbed(name, "is cut off");
        self.cut_off.store(true, Ordering::Relaxed);
        sleep(outage.lasts).await;
        self.cut_off.store(false, Ordering::Relaxed);
        world.trace.note(name, "is no longer cut off");
    }

    /// One that was not killed is told to stop, and ends by itself. After that nothing that it had under way comes to
    /// an end.
    async fn end(mut self, world: &World, name: &str) {
        let killed = self.dead.is_cancelled();
        world.trace.note(name, if killed { "is killed" } else { "is told to stop" });
        if !killed {
            self.stage.stopping.cancel();
            let _ended = (&mut self.task).await;
        }
        self.dead.cancel();
        self.task.abort();
        // Tasks that the operator has left behind end with this; none of their requests gets out any more.
        self.stage.stopping.cancel();
    }
}

fn start(world: &World, setup: &Setup, number: u32) -> Incarnation {
    let (dead, stage) = (CancellationToken::new(), Stage::default());
    let cut_off = Arc::<AtomicBool>::default();
    let network = Network {
        server: world.server.clone(),
        weather: world.weather.clone(),
        trace: world.trace.clone(),
        who: Arc::from(setup.name),
        identity: setup.lease.then(|| identity(setup, number)),
        dead: dead.clone(),
        cut_off: cut_off.clone(),
    };
    let client = || kube::Client::new(network.clone(), "default");
    let clients = Clients { watch: client(), write: client(), pulse: Pulse::new() };
    let options = options(world, setup, number);
    let running = regcred_controller::run(clients, options, Metrics::default(), stage.clone());
    let trace = world.trace.clone();
    let task = tokio::task::spawn_local(async move {
        if let Err(error) = running.await {
            trace.violation(format!("the operator ended: {error}"));
        }
    });
    Incarnation { task, dead, cut_off, stage }
}

fn identity(setup: &Setup, number: u32) -> String {
    format!("{}_{number}", setup.name)
}

fn options(world: &World, setup: &Setup, number: u32) -> Options {
    let started = world.server.started();
    let own = identity(setup, number);
    Options {
        source_namespace: HOME.to_owned(),
        target_names: if setup.listed { TARGETS.map(str::to_owned).to_vec() } else { Vec::new() },
        concurrency: setup.concurrency,
        lease: setup.lease,
        identity: identity(setup, number),
        verification_period: setup.verification_period,
        clock: Clock::new(move || time_at(started.elapsed())),
        entropy: Entropy::new(move |key| {
            key.iter_mut().zip(own.bytes().cycle()).for_each(|(to, from)| *to = from);
            Ok(())
        }),
        issuers: Issuers::Other(Arc::new(world.issuer.clone())),
        registries: Verifiers::Other(Arc::new(world.registries.clone())),
    }
}
