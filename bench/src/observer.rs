//! Sees when each Secret and each entry on a ServiceAccount is in place, by watches of the driver's own. Each
//! change is stamped when its event arrives.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::StreamExt as _;
use k8s_openapi::{
    ByteString,
    api::core::v1::{Secret, ServiceAccount},
};
use kube::{
    Api, Client, ResourceExt as _,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use regcred_tests::{SECRET_KEY, SECRET_TYPE};
use serde_json::Value;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::error::{Error, Result};

const LOOK_INTERVAL: Duration = Duration::from_millis(5);

type Key = (String, String);

/// What has been seen so far.
#[derive(Debug, Default)]
pub struct Seen {
    /// The password in each Secret, and when it was first seen there.
    secrets: HashMap<Key, (String, Instant)>,
    /// The names on each ServiceAccount, and when each was first seen there.
    accounts: HashMap<Key, BTreeMap<String, Instant>>,
    last_event: Option<Instant>,
    /// While a list comes in: what it has not mentioned yet.
    unlisted_secrets: HashSet<Key>,
    unlisted_accounts: HashSet<Key>,
}

impl Seen {
    /// Since when this Secret holds this password.
    pub fn holds(&self, namespace: &str, secret: &str, password: &str) -> Option<Instant> {
        let (held, since) = self.secrets.get(&(namespace.to_owned(), secret.to_owned()))?;
        (held == password).then_some(*since)
    }

    /// Since when this ServiceAccount names this Secret.
    pub fn attached(&self, namespace: &str, account: &str, secret: &str) -> Option<Instant> {
        self.accounts.get(&(namespace.to_owned(), account.to_owned()))?.get(secret).copied()
    }

    /// Whether this ServiceAccount was seen.
    pub fn has_account(&self, namespace: &str, account: &str) -> bool {
        self.accounts.contains_key(&(namespace.to_owned(), account.to_owned()))
    }

    /// Whether no Secret of this name is left, and no ServiceAccount `default` names it.
    pub fn is_gone(&self, namespace: &str, secret: &str) -> bool {
        self.attached(namespace, "default", secret).is_none()
            && !self.secrets.contains_key(&(namespace.to_owned(), secret.to_owned()))
    }

    /// When the last event of any kind arrived.
    pub fn last_event(&self) -> Option<Instant> {
        self.last_event
    }

    fn take_secret(&mut self, event: Event<Secret>, now: Instant) {
        match event {
            Event::Apply(secret) | Event::InitApply(secret) => {
                let key = key(&secret);
                self.unlisted_secrets.remove(&key);
                let password = password(&secret);
                let same = self.secrets.get(&key).is_some_and(|(held, _)| *held == password);
                if !same {
                    self.secrets.insert(key, (password, now));
                }
            }
            Event::Delete(secret) => {
                self.secrets.remove(&key(&secret));
            }
            // A list tells of no deletion: what was there before it and is not in it is gone.
            Event::Init => self.unlisted_secrets = self.secrets.keys().cloned().collect(),
            Event::InitDone => {
                for key in std::mem::take(&mut self.unlisted_secrets) {
                    self.secrets.remove(&key);
                }
            }
        }
        self.last_event = Some(now);
    }

    fn take_account(&mut self, event: Event<ServiceAccount>, now: Instant) {
        match event {
            Event::Apply(account) | Event::InitApply(account) => {
                let names = account.image_pull_secrets.iter().flatten().map(|entry| entry.name.clone());
                self.unlisted_accounts.remove(&key(&account));
                let seen = self.accounts.entry(key(&account)).or_default();
                *seen = names.map(|name| (seen.get(&name).copied().unwrap_or(now), name)).map(swap).collect();
            }
            Event::Delete(account) => {
                self.accounts.remove(&key(&account));
            }
            Event::Init => self.unlisted_accounts = self.accounts.keys().cloned().collect(),
            Event::InitDone => {
                for key in std::mem::take(&mut self.unlisted_accounts) {
                    self.accounts.remove(&key);
                }
            }
        }
        self.last_event = Some(now);
    }
}

fn swap<A, B>((a, b): (A, B)) -> (B, A) {
    (b, a)
}

/// The watches.
#[derive(Debug)]
pub struct Observer {
    seen: Arc<Mutex<Seen>>,
    tasks: [JoinHandle<()>; 2],
}

impl Observer {
    /// Starts watching.
    pub fn start(client: &Client) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let selector = format!("type={SECRET_TYPE}");
        let secrets = follow(Api::all(client.clone()), &selector, seen.clone(), Seen::take_secret);
        let accounts = follow(Api::all(client.clone()), "", seen.clone(), Seen::take_account);
        Self { seen, tasks: [secrets, accounts] }
    }

    /// What has been seen so far.
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        locked(&self.seen)
    }

    /// Looks again and again until there is an answer; `what` names what was awaited in vain.
    pub async fn until<T>(
        &self,
        what: &str,
        within: Duration,
        mut look: impl FnMut(&Seen) -> Result<T, String>,
    ) -> Result<T> {
        let end = Instant::now() + within;
        loop {
            let outcome = look(&self.seen());
            match outcome {
                Ok(value) => return Ok(value),
                Err(reason) if Instant::now() >= end => {
                    return Err(Error::Rig(regcred_tests::Error::timeout(what, within, reason)));
                }
                Err(_) => sleep(LOOK_INTERVAL).await,
            }
        }
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn locked(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Follows one kind for ever; kube's stream resumes after an error.
fn follow<K>(
    api: Api<K>,
    fields: &str,
    seen: Arc<Mutex<Seen>>,
    take: fn(&mut Seen, Event<K>, Instant),
) -> JoinHandle<()>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    let config = watcher::Config::default().fields(fields);
    tokio::spawn(async move {
        let mut events = pin!(watcher(api, config).default_backoff());
        while let Some(event) = events.next().await {
            if let Ok(event) = event {
                take(&mut locked(&seen), event, Instant::now());
            }
        }
    })
}

fn key(object: &impl kube::Resource<DynamicType = ()>) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// The password of the first server, in either form that a docker configuration may have.
fn password(secret: &Secret) -> String {
    let content = secret.data.as_ref().and_then(|data| data.get(SECRET_KEY));
    let config: Value =
        content.and_then(|ByteString(bytes)| serde_json::from_slice(bytes).ok()).unwrap_or_default();
    let server = config["auths"].as_object().and_then(|servers| servers.values().next());
    let Some(server) = server else { return String::new() };
    let plain = server["password"].as_str().map(str::to_owned);
    plain.or_else(|| decoded_password(server["auth"].as_str()?)).unwrap_or_default()
}

fn decoded_password(auth: &str) -> Option<String> {
    let text = String::from_utf8(STANDARD.decode(auth).ok()?).ok()?;
    text.split_once(':').map(|(_, password)| password.to_owned())
}
