//! One replica of the operator: started, killed, told to stop, and started again.

use std::sync::Arc;
use std::time::Duration;

use regcred_controller::{Clients, Clock, Metrics, Options, Pulse, Stage};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::faults::{Network, Weather};
use crate::names::{HOME, TARGETS};
use crate::oracle::Past;
use crate::server::{Server, time_at};
use crate::trace::Trace;

/// How a replica is set up.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Its name.
    pub name: &'static str,
    /// Whether a lease decides who works.
    pub lease: bool,
    /// Whether target names are listed.
    pub listed: bool,
    /// Namespaces worked on at once.
    pub concurrency: usize,
    /// How long it stays away when all are started again.
    pub comes_back_after: Duration,
    /// When it is killed or told to stop, and how long it stays away.
    pub outages: Vec<Outage>,
}

/// A time without a replica.
#[derive(Clone, Copy, Debug)]
pub struct Outage {
    /// When it begins, from the start of the run.
    pub at: Duration,
    /// How long it lasts.
    pub lasts: Duration,
    /// Whether it is killed rather than told to stop.
    pub killed: bool,
}

/// Where a replica lives.
#[derive(Clone, Debug)]
pub struct World {
    /// The API server.
    pub server: Server,
    /// The network.
    pub weather: Weather,
    /// The account of the run.
    pub trace: Trace,
    /// Whether some credential retains what it put somewhere.
    pub retained: bool,
    /// Every replica is killed and started again when this changes.
    pub recall: watch::Sender<u32>,
}

impl World {
    /// What the run was so far.
    pub fn past(&self) -> Past {
        Past { restarted: self.trace.starts() > 1, retained: self.retained }
    }
}

struct Incarnation {
    task: JoinHandle<()>,
    dead: CancellationToken,
    stage: Stage,
}

/// Keeps a replica going, whatever kills it.
pub async fn keep(world: World, setup: Setup) {
    let mut outages = setup.outages.iter().copied();
    let mut next = outages.next();
    let mut recall = world.recall.subscribe();
    for number in 0_u32.. {
        world.trace.started(setup.name);
        let incarnation = start(&world, &setup, number);
        let due = next.map(|outage| world.server.started() + outage.at);
        let lasts = tokio::select! {
            biased;
            () = incarnation.dead.cancelled() => {
                incarnation.kill();
                Duration::from_millis(fastrand::u64(0..20_000))
            }
            // tokio wakes replicas in an order of its own, so each comes back at a time of its own.
            Ok(()) = recall.changed() => {
                incarnation.kill();
                setup.comes_back_after
            }
            outage = until(due, next) => {
                next = outages.next();
                world.trace.note(setup.name, if outage.killed { "is killed" } else { "is told to stop" });
                incarnation.end(outage).await;
                outage.lasts
            }
        };
        sleep(lasts).await;
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
    /// Nothing that it had under way comes to an end.
    fn kill(&self) {
        self.dead.cancel();
        self.task.abort();
        // Tasks that the operator has left behind end with this; none of their requests gets out any more.
        self.stage.stopping.cancel();
    }

    async fn end(mut self, outage: Outage) {
        if outage.killed {
            return self.kill();
        }
        self.stage.stopping.cancel();
        let _ended = (&mut self.task).await;
        self.kill();
    }
}

fn start(world: &World, setup: &Setup, number: u32) -> Incarnation {
    let (dead, stage) = (CancellationToken::new(), Stage::default());
    let network = Network {
        server: world.server.clone(),
        weather: world.weather.clone(),
        trace: world.trace.clone(),
        who: Arc::from(setup.name),
        identity: setup.lease.then(|| identity(setup, number)),
        dead: dead.clone(),
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
    Incarnation { task, dead, stage }
}

fn identity(setup: &Setup, number: u32) -> String {
    format!("{}_{number}", setup.name)
}

fn options(world: &World, setup: &Setup, number: u32) -> Options {
    let started = world.server.started();
    Options {
        source_namespace: HOME.to_owned(),
        target_names: if setup.listed { TARGETS.map(str::to_owned).to_vec() } else { Vec::new() },
        concurrency: setup.concurrency,
        lease: setup.lease,
        identity: identity(setup, number),
        clock: Clock::new(move || time_at(started.elapsed())),
    }
}
