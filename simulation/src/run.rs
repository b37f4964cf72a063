//! One run: everything that a seed stands for.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until};

use crate::faults::{Sky, Weather};
use crate::issuer::Issuer;
use crate::names::{CREDENTIALS, HOME, NAMESPACES};
use crate::people::{Action, Scope, Script};
use crate::registry::{self, Registries};
use crate::replica::{End, Outage, Setup, World};
use crate::server::{Key, Kind, Server, Traits, Writer};
use crate::trace::{Trace, yaml};
use crate::{cluster, issuer, meddler, oracle, people, replica};

/// When people and faults are done.
const REST: Duration = Duration::from_secs(62);
/// When the last of the faults is felt: a watch that fell silent ends, a lost request is given up.
const AFTERMATH: Duration = Duration::from_secs(75);
/// How long the operator may take from then on. What somebody kept changing back is left alone for up to an hour.
const PATIENCE: Duration = Duration::from_secs(4_700);
/// How often the meddler does something to what was just written.
const MEDDLING: f64 = 0.2;
/// How long nothing may be written at the end.
const SILENCE: Duration = Duration::from_mins(1);
/// How long a start may take where everything is slow: the lease expires, and lists come in.
const START: Duration = Duration::from_secs(90);
/// Writes of one object in a run in which nothing happens: status is written most often.
const CLEAN_WRITES: usize = 8;
/// What each thing that happens may cost one object.
const WRITES_PER_DISTURBANCE: usize = 2;
/// How long a deletion may take where nothing is held back.
const DELETION: Duration = Duration::from_mins(1);

/// What a run came to.
#[derive(Debug)]
pub struct Outcome {
    /// Everything that was wrong.
    pub problems: Vec<String>,
    /// What happened.
    pub trace: Vec<String>,
}

/// What a seed stands for, besides what is drawn on the way.
#[derive(Debug)]
pub struct Plan {
    traits: Traits,
    sky: Sky,
    replicas: Vec<Setup>,
    /// How often somebody writes what the operator has just written.
    meddling: usize,
    /// Whether everything is started once more at rest.
    again: bool,
    /// Where a webhook refuses from some time on, and does not stop.
    refused: Option<&'static str>,
    /// The copy of which every write is undone.
    fought: Option<Key>,
    script: Script,
}

/// Runs a seed.
pub fn run(seed: u64) -> Outcome {
    fastrand::seed(seed);
    match tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build() {
        Ok(runtime) => tokio::task::LocalSet::new().block_on(&runtime, live(plan(seed))),
        Err(error) => Outcome { problems: vec![format!("no runtime: {error}")], trace: Vec::new() },
    }
}

fn plan(seed: u64) -> Plan {
    let mut rng = Rng::with_seed(seed);
    let scope = Scope {
        actions: [0, 3, 8, 16][rng.usize(0..4)],
        namespaces: rng.usize(1..=4),
        credentials: rng.usize(1..=3),
        compactions: [0, 6][rng.usize(0..2)],
    };
    let sky = sky(&mut rng);
    let two = rng.u8(0..3) == 0;
    let (lease, listed) = (two || rng.bool(), rng.u8(0..3) == 0);
    let names = if two { &["replica-0", "replica-1"][..] } else { &["replica-0"] };
    let restless = rng.bool();
    let concurrency = rng.usize(1..6);
    // One who looks again soon asks for writes at rest that change nothing.
    let again = rng.bool();
    let hours = if again { 24 } else { [24, 1][rng.usize(0..2)] };
    let setup = |name, rng: &mut Rng| {
        let outages = if restless { outages(rng) } else { Vec::new() };
        let verification_period = Duration::from_hours(hours);
        Setup { name, lease, listed, concurrency, verification_period, outages }
    };
    let replicas = names.iter().map(|name| setup(name, &mut rng)).collect();
    let meddling = [0, 0, 3, 8][rng.usize(0..4)];
    let traits = Traits { streaming_lists: rng.u8(0..4) != 0, page: rng.usize(1..4) };
    let somewhere = |rng: &mut Rng| NAMESPACES[rng.usize(0..scope.namespaces)];
    let refused = (rng.u8(0..6) == 0).then(|| somewhere(&mut rng));
    let fought = (rng.u8(0..6) == 0)
        .then(|| Key::new(Kind::Secret, somewhere(&mut rng), CREDENTIALS[rng.usize(0..scope.credentials)]));
    let mut script = people::script(&mut rng, scope);
    let tokens = with_tokens(seed, &mut script);
    with_verification(seed, &mut script);
    let begin = Duration::from_secs(rng.u64(0..50));
    script.extend(refused.map(|namespace| (begin, Action::Refuse(namespace, true))));
    script.sort_by_key(|(at, _)| *at);
    Plan {
        traits,
        sky,
        replicas,
        meddling,
        again: again && refused.is_none() && !tokens,
        refused,
        fought,
        script,
    }
}

/// Lets some RegistryCredentials draw on a cloud, in a quarter of all seeds. Returns whether any does; a start asks for
/// new tokens then. What else a seed stands for does not depend on it.
fn with_tokens(seed: u64, script: &mut Script) -> bool {
    let mut rng = Rng::with_seed(!seed);
    let any = rng.u8(0..4) == 0;
    let specs = script.iter_mut().filter_map(|(_, action)| match action {
        Action::Apply(_, spec) => spec["registries"].as_array_mut(),
        _ => None,
    });
    for registries in specs.filter(|_| any) {
        if rng.bool() {
            registries.push(issuer::registry(rng.bool()));
        }
    }
    any
}

/// Lets some RegistryCredentials have registries asked, in a quarter of all seeds. What else a seed stands for does not depend
/// on it.
fn with_verification(seed: u64, script: &mut Script) {
    let mut rng = Rng::with_seed(seed.rotate_left(32));
    let any = rng.u8(0..4) == 0;
    let specs = script.iter_mut().filter_map(|(_, action)| match action {
        Action::Apply(_, spec) => Some(spec),
        _ => None,
    });
    for spec in specs.filter(|_| any) {
        if rng.u8(0..4) != 0 {
            spec["verify"] = registry::verify(rng.bool());
        }
    }
}

fn sky(rng: &mut Rng) -> Sky {
    let mut draw = |most: f64| if rng.bool() { rng.f64() * most } else { 0.0 };
    Sky { slow: draw(0.5), refused: draw(0.3), lost: draw(0.2), breaks: draw(1.0), dies: draw(0.02) }
}

fn outages(rng: &mut Rng) -> Vec<Outage> {
    let mut outages: Vec<Outage> = (0..rng.usize(0..4))
        .map(|_| Outage {
            at: Duration::from_millis(rng.u64(0..55_000)),
            lasts: Duration::from_millis(rng.u64(0..20_000)),
            ends: [End::Killed, End::Told, End::CutOff][rng.usize(0..3)],
        })
        .collect();
    outages.sort_by_key(|outage| outage.at);
    outages
}

async fn live(plan: Plan) -> Outcome {
    let trace = Trace::new();
    let server = Server::new(plan.traits);
    let world = World {
        issuer: Issuer::new(server.started(), REST, trace.clone()),
        registries: Registries::new(server.started(), REST, trace.clone()),
        server,
        weather: Weather::new(plan.sky),
        trace,
        recall: Arc::default(),
        refused: plan.refused,
        forged: plan.replicas.iter().all(|setup| setup.verification_period < PATIENCE),
    };
    world.trace.note("run", &format!("the API server:{}", yaml(&plan.traits)));
    world.trace.note("run", &format!("how likely each mishap is:{}", yaml(&plan.sky)));
    furnish(&world.server);
    let refusals = plan.script.iter().any(|(_, action)| matches!(action, Action::Refuse(..)));
    let patient = refusals || plan.sky.refused > 0.0 || plan.sky.lost > 0.0;
    for setup in plan.replicas {
        world.trace.note("run", &format!("a replica of the operator:{}", yaml(&setup)));
        tokio::task::spawn_local(replica::keep(world.clone(), setup));
    }
    tokio::task::spawn_local(cluster::run(world.server.clone(), world.trace.clone()));
    tokio::task::spawn_local(meddler::meddle(world.clone(), plan.meddling, MEDDLING, REST));
    if let Some(key) = plan.fought {
        tokio::task::spawn_local(meddler::fight(world.clone(), key, REST));
    }
    tokio::task::spawn_local(people::play(world.server.clone(), world.trace.clone(), plan.script));
    sleep(REST).await;
    world.weather.clear();
    world.server.refusing().clear();
    world.server.refusing().extend(plan.refused.map(str::to_owned));
    if plan.sky.is_foul() {
        // What hangs or is silent now comes to its end.
        sleep(AFTERMATH).await;
    }
    world.trace.note("run", "everybody rests");
    let mut problems = settle(&world, patient).await;
    problems.extend(too_many_writes(&world.trace));
    if plan.again && problems.is_empty() {
        problems.extend(start_again(&world).await);
    }
    problems.extend(world.trace.violations());
    Outcome { problems, trace: world.trace.lines() }
}

/// What stands in a cluster before anybody does anything.
fn furnish(server: &Server) {
    let writer = Writer { manager: "installer".to_owned(), operation: "Update", status: false };
    server.write(|store, now| {
        for name in [HOME, "default"] {
            let _new =
                store.create(&Key::new(Kind::Namespace, "", name), json!({"metadata": {}}), &writer, now);
        }
        let _new =
            store.create(&Key::new(Kind::Lease, HOME, "regcred"), json!({"metadata": {}}), &writer, now);
    });
}

/// No object is written more often than what was asked for and what went wrong can explain.
fn too_many_writes(trace: &Trace) -> Option<String> {
    let (key, count) = trace.most_written()?;
    let most = CLEAN_WRITES + WRITES_PER_DISTURBANCE * trace.disturbances();
    (count > most).then(|| format!("{key} was written {count} times, and {most} would be explained"))
}

/// Whether a start has nothing to do: a new process remembers no back-off and tries at once, and a registry that is to be asked
/// soon says something new.
fn is_quiet(world: &World) -> bool {
    let store = world.server.store();
    let end = world.server.now() + (START + SILENCE);
    !oracle::tells_of_failures(&store) && !oracle::asks_registries_by(&store, end)
}

/// Starts every replica again where all is as it should be. That is no reason to write anything, in whatever order
/// lists come in.
async fn start_again(world: &World) -> Option<String> {
    if !is_quiet(world) {
        return None;
    }
    world.trace.note("run", "every replica is killed and starts again");
    let before = (world.trace.requests(), world.trace.written(0).len());
    world.weather.turn(Sky { slow: 0.3, ..Sky::default() });
    world.recall.notify_waiters();
    sleep(START).await;
    world.weather.clear();
    sleep(SILENCE).await;
    let (requests, written) = (world.trace.requests() - before.0, world.trace.written(before.1));
    let less_known = oracle::less_known_after_a_start(&world.server.store(), &world.issuer);
    let is_told = |key: &Key| {
        key.kind == Kind::Event || (key.kind == Kind::RegistryCredential && less_known.contains(&key.name))
    };
    // One status that says so, and its event.
    let explained = if written.iter().all(is_told) { 2 * less_known.len() } else { 0 };
    let problems = oracle::problems(&world.server.store(), &world.issuer, world.refused);
    let wrong = requests > explained || !problems.is_empty();
    wrong.then(|| format!("a start at rest made {requests} writes ({written:?}) and left {problems:?}"))
}

/// Waits until the cluster is as it should be and stays so. What is wrong after that.
async fn settle(world: &World, patient: bool) -> Vec<String> {
    let rest = Instant::now();
    loop {
        let elapsed = rest.elapsed();
        // A replica that waits for the lease writes nothing either.
        let restless = world.trace.last_write().elapsed().min(elapsed) < SILENCE;
        // Nothing that is wrong counts before.
        if !restless || elapsed > DELETION {
            let problems = oracle::problems(&world.server.store(), &world.issuer, world.refused);
            if problems.is_empty() && !restless {
                return Vec::new();
            }
            let deleting = problems.iter().any(|problem| problem.ends_with(oracle::UNTOLD));
            if (deleting && !patient && elapsed > DELETION) || elapsed > PATIENCE {
                return told(world, problems, restless);
            }
        }
        sleep_until(Instant::now() + Duration::from_secs(1)).await;
    }
}

fn told(world: &World, mut problems: Vec<String>, restless: bool) -> Vec<String> {
    if restless {
        let most = world.trace.most_written();
        problems.push(format!("the operator still writes; most often {most:?}"));
    }
    problems
}
