//! What the loops share, made in one place.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use regcred_index::{Index, Listed};
use regcred_planner::{Ledger, Settings};
use regcred_registry::{Environment, Registries as RegistryClient, Settings as RegistrySettings};
use regcred_sources::{CloudSettings, Clouds, Mint, Tokens};
use tokio::sync::{Notify, SetOnce, watch as signal};
use tokio_util::sync::CancellationToken;

use crate::cage::Cage;
use crate::calls::Calls;
use crate::client::{Clients, Pulse};
use crate::clock::Clock;
use crate::entropy::Entropy;
use crate::identities::ClusterIdentities;
use crate::journal::Journal;
use crate::metrics::Metrics;
use crate::mint::CountedMint;
use crate::news::Troubles;
use crate::probes::Probes;
use crate::room::Room;
use crate::unreadable::Unreadable;
use crate::verifier::Verifier;
use crate::wake::Queues;

const INCOMPLETE: &str =
    "waiting for the fingerprint key and the first list of every watch; see the log for what is missing";

/// What the operator was started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where sources, the lease and the fingerprint key live.
    pub source_namespace: String,
    /// The only Secret names that may be watched and written; empty: any.
    pub target_names: Vec<String>,
    /// Namespaces that are worked on at once.
    pub concurrency: usize,
    /// Whether a lease decides which replica works.
    pub lease: bool,
    /// Name of this replica in the lease and in events.
    pub identity: String,
    /// In how long every copy is looked at again, although nothing speaks against it.
    pub verification_period: Duration,
    /// The clock of the system, but in a simulation.
    pub clock: Clock,
    /// The random bytes of the system, but in a simulation.
    pub entropy: Entropy,
    /// Who gives tokens.
    pub issuers: Issuers,
    /// Who says whether a credential is good.
    pub registries: Registries,
}

/// Who says whether a credential is good.
#[derive(Clone)]
pub enum Registries {
    /// The registries themselves.
    Real {
        /// Requests meant for a host go to this address instead.
        endpoints: BTreeMap<String, http::Uri>,
        /// Hosts of token servers that are asked although they are neither the registry's own nor public.
        allowed_realms: Vec<String>,
    },
    /// What stands in for them in a simulation.
    Other(Arc<dyn Verifier>),
}

impl fmt::Debug for Registries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Real { .. } => "Real",
            Self::Other(_) => "Other",
        })
    }
}

/// Who gives tokens.
#[derive(Clone)]
pub enum Issuers {
    /// The clouds and registries. Requests meant for a host of `endpoints` go to its address instead.
    Clouds {
        /// Addresses by host.
        endpoints: BTreeMap<String, http::Uri>,
    },
    /// What stands in for them in a simulation.
    Other(Arc<dyn Mint>),
}

impl fmt::Debug for Issuers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Clouds { .. } => "Clouds",
            Self::Other(_) => "Other",
        })
    }
}

/// How far the operator has come, for whoever waits for it.
#[derive(Clone, Debug, Default)]
pub struct Stage {
    /// Every index was complete once, and the fingerprint key is there.
    pub complete: signal::Sender<bool>,
    /// This replica works.
    pub leading: signal::Sender<bool>,
    /// Why this replica cannot compete for the lease, and what to do.
    pub lease_trouble: signal::Sender<Option<String>>,
    /// Whether admission policies limit what this replica's token can write.
    pub cage: signal::Sender<Cage>,
    /// Cancelled when the operator is to stop.
    pub stopping: CancellationToken,
    /// Cancelled when work has ended, and the lease may be given back.
    pub(crate) drained: CancellationToken,
}

impl Stage {
    /// Why this replica is not ready to work, in words; `None` if it is.
    pub fn obstacle(&self) -> Option<String> {
        let missing = (!*self.complete.borrow()).then(|| INCOMPLETE.to_owned());
        missing.or_else(|| self.lease_trouble.borrow().clone())
    }
}

/// Watches that are to be listed again.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    namespaces: Notify,
    service_accounts: Notify,
    sources: Notify,
}

impl Lists {
    /// Asks for every list that is needed.
    pub(crate) fn ask(&self, index: &Index) {
        for listed in [Listed::Namespaces, Listed::ServiceAccounts, Listed::Sources] {
            if index.needs_list(listed) {
                self.of(listed).notify_one();
            }
        }
    }

    /// Waits until this list is needed.
    pub(crate) async fn asked(&self, context: &Context, listed: Listed) {
        loop {
            self.of(listed).notified().await;
            if context.index().needs_list(listed) {
                tracing::debug!(
                    ?listed,
                    "a RegistryCredential names what was not kept so far; listing again"
                );
                return;
            }
        }
    }

    const fn of(&self, listed: Listed) -> &Notify {
        match listed {
            Listed::Namespaces => &self.namespaces,
            Listed::ServiceAccounts => &self.service_accounts,
            Listed::Sources => &self.sources,
        }
    }
}

/// What the loops share.
pub(crate) struct Context {
    pub(crate) watch_client: kube::Client,
    pub(crate) pulse: Pulse,
    pub(crate) calls: Calls,
    pub(crate) options: Options,
    pub(crate) metrics: Metrics,
    pub(crate) stage: Stage,
    pub(crate) queues: Queues,
    /// Every watch delivered a whole list once.
    pub(crate) indexed: signal::Sender<bool>,
    /// Every RegistryCredential was listed once, so it is known what is asked of other objects.
    pub(crate) asked: SetOnce<()>,
    pub(crate) lists: Lists,
    pub(crate) room: Room,
    /// The target names in use may have changed.
    pub(crate) targets_changed: Notify,
    /// A RegistryCredential was visited: its sources were looked at, or its finalizer was written.
    pub(crate) visited: Notify,
    pub(crate) unreadable: Unreadable,
    /// What was changed, and is not told in the log yet.
    pub(crate) journal: Journal,
    /// What the log told of troubles.
    pub(crate) troubles: Troubles,
    pub(crate) tokens: Tokens,
    pub(crate) probes: Probes,
    pub(crate) verifier: Arc<dyn Verifier>,
    index: Arc<Mutex<Index>>,
    ledger: Mutex<Ledger>,
}

impl Context {
    pub(crate) fn new(clients: Clients, options: Options, metrics: Metrics, stage: Stage) -> Arc<Self> {
        let settings = Settings { target_names: options.target_names.clone() };
        let index = Arc::new(Mutex::new(Index::new(settings, &options.source_namespace)));
        let calls = Calls::new(clients.write, &options.source_namespace);
        let mint: Arc<dyn Mint> = match &options.issuers {
            Issuers::Clouds { endpoints } => {
                let clock = options.clock.clone();
                let settings = CloudSettings::new(Arc::new(move || clock.now()));
                let settings = CloudSettings { endpoints: endpoints.clone(), ..settings };
                Arc::new(Clouds::new(&settings, ClusterIdentities::new(calls.clone(), index.clone())))
            }
            Issuers::Other(mint) => mint.clone(),
        };
        Arc::new(Self {
            index,
            tokens: Tokens::new(Arc::new(CountedMint::new(mint, metrics.clone()))),
            probes: Probes::default(),
            verifier: verifier(&options.registries),
            ledger: Mutex::default(),
            calls,
            watch_client: clients.watch,
            pulse: clients.pulse,
            queues: Queues::measured(&metrics),
            indexed: signal::Sender::new(false),
            asked: SetOnce::new(),
            lists: Lists::default(),
            room: Room::default(),
            targets_changed: Notify::new(),
            visited: Notify::new(),
            unreadable: Unreadable::default(),
            journal: Journal::default(),
            troubles: Troubles::default(),
            options,
            metrics,
            stage,
        })
    }

    /// The time now.
    pub(crate) fn now(&self) -> Timestamp {
        self.options.clock.now()
    }

    /// Locks the index. Never held across a request, and taken before any other lock.
    pub(crate) fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock()
    }

    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock()
    }

    /// Waits until there is something to plan from and this replica may write.
    pub(crate) async fn may_work(&self) {
        wait_for(&self.stage.complete).await;
        wait_for(&self.stage.leading).await;
    }
}

fn verifier(registries: &Registries) -> Arc<dyn Verifier> {
    match registries {
        Registries::Real { endpoints, allowed_realms } => {
            let environment: Environment = Arc::new(|name| std::env::var(name).ok());
            let settings = RegistrySettings {
                endpoints: endpoints.clone(),
                allowed_realms: allowed_realms.clone(),
                environment,
            };
            Arc::new(RegistryClient::new(&settings))
        }
        Registries::Other(verifier) => verifier.clone(),
    }
}

/// Waits until a flag is set.
pub(crate) async fn wait_for(flag: &signal::Sender<bool>) {
    // The sender lives as long as the context, so waiting on it cannot fail.
    let mut flag = flag.subscribe();
    let _set = flag.wait_for(|set| *set).await;
}
