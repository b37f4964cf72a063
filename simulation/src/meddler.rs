//! Somebody who does something to an object just as the operator has written it: the time at which answers, events
//! and other people's writes meet.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use regcred_api::names::{FIELD_MANAGER, FINGERPRINT_ANNOTATION, SECRET_KEY, SERVERS_ANNOTATION};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::guard::entries;
use crate::names::{HOME, TARGETS};
use crate::replica::World;
use crate::server::{Key, Kind, Store, Writer};

/// How often what the operator deleted is put back.
const PUTS_BACK: f64 = 0.7;

/// Meddles at most so many times, each time with this probability, until people are done. What the operator deleted
/// is put back more often.
pub async fn meddle(world: World, mut budget: usize, probability: f64, until: Duration) {
    let mut seen = 0;
    while budget > 0 {
        world.server.changed().notified().await;
        for key in world.trace.written(seen) {
            seen += 1;
            let gone = world.server.store().get(&key).is_none();
            let due = fastrand::f64() < if gone { PUTS_BACK } else { probability };
            if !due || key.namespace == HOME || world.server.started().elapsed() > until {
                continue;
            }
            if !gone {
                budget = budget.saturating_sub(1);
            }
            tokio::task::spawn_local(strike(world.clone(), key));
        }
    }
}

/// Undoes every write of one copy until people are done: edits it where it is there, and puts it back where it was
/// deleted. Does not count as a disturbance: the operator has to find out by itself that this does not end.
pub async fn fight(world: World, key: Key, until: Duration) {
    let mut seen = 0;
    while world.server.started().elapsed() < until {
        world.server.changed().notified().await;
        let written = world.trace.written(seen);
        seen += written.len();
        if written.contains(&key) && world.server.started().elapsed() < until {
            sleep(pause()).await;
            let done = world.server.write(|store, now| undo(store, &key, now, world.forged));
            world.trace.note("fighter", &format!("{key}: {}", done.unwrap_or("nothing to do")));
        }
    }
}

fn undo(store: &mut Store, key: &Key, now: Timestamp, forged: bool) -> Option<&'static str> {
    if store.get(key).is_some() { spoil(store, key, now, forged) } else { restore(store, key, now) }
}

fn spoil(store: &mut Store, key: &Key, now: Timestamp, forged: bool) -> Option<&'static str> {
    let mut secret = (**store.get(key)?).clone();
    secret["data"][SECRET_KEY] = json!(STANDARD.encode(r#"{"auths":{}}"#));
    if forged && fastrand::bool() {
        return store.update(key, secret, &forger(), now).is_ok().then_some("forged");
    }
    store.update(key, secret, &writer(), now).is_ok().then_some("edited")
}

async fn strike(world: World, key: Key) {
    sleep(pause()).await;
    let done = world.server.write(|store, now| act(store, &key, now, world.forged));
    world.trace.disturbed("meddler", &format!("{key}: {}", done.unwrap_or("nothing to do")));
}

fn pause() -> Duration {
    let millis = if fastrand::bool() { fastrand::u64(0..20) } else { fastrand::u64(20..3_000) };
    Duration::from_millis(millis)
}

fn act(store: &mut Store, key: &Key, now: Timestamp, forged: bool) -> Option<&'static str> {
    match (key.kind, store.get(key).is_some()) {
        (Kind::Secret, true) => act_on_secret(store, key, now, forged),
        (Kind::Secret, false) => restore(store, key, now),
        (Kind::ServiceAccount, true) => act_on_account(store, key, now),
        _ => None,
    }
}

fn act_on_secret(store: &mut Store, key: &Key, now: Timestamp, forged: bool) -> Option<&'static str> {
    match fastrand::u8(0..4) {
        0 => spoil(store, key, now, forged),
        1 => take_over(store, key, now),
        _ => store.delete(key, None, now).is_ok().then_some("deleted"),
    }
}

/// Changes an annotation of ours and puts it back, which leaves it right and somebody else's.
fn take_over(store: &mut Store, key: &Key, now: Timestamp) -> Option<&'static str> {
    let before = (**store.get(key)?).clone();
    let name = [FINGERPRINT_ANNOTATION, SERVERS_ANNOTATION][usize::from(fastrand::bool())];
    let mut changed = before.clone();
    changed["metadata"]["annotations"][name] = json!("other");
    store.update(key, changed, &writer(), now).ok()?;
    let mut back = (**store.get(key)?).clone();
    back["metadata"]["annotations"][name] = before["metadata"]["annotations"][name].clone();
    store.update(key, back, &writer(), now).is_ok().then_some("taken over")
}

/// Puts a Secret back as it was, as a backup or a cloner does.
fn restore(store: &mut Store, key: &Key, now: Timestamp) -> Option<&'static str> {
    let mut secret: Value = (**store.last(key)?).clone();
    let metadata = &secret["metadata"];
    secret["metadata"] = json!({"labels": metadata["labels"], "annotations": metadata["annotations"]});
    store.create(key, secret, &writer(), now).is_ok().then_some("put back")
}

fn act_on_account(store: &mut Store, key: &Key, now: Timestamp) -> Option<&'static str> {
    let mut account = (**store.get(key)?).clone();
    match fastrand::u8(0..3) {
        0 => return store.delete(key, None, now).is_ok().then_some("deleted"),
        1 => {
            let kept = entries(&account).into_iter().filter(|own| !TARGETS.contains(own));
            account["imagePullSecrets"] = kept.map(|name| json!({"name": name})).collect();
        }
        _ => account["metadata"]["annotations"] = json!({"touched": fastrand::u32(..).to_string()}),
    }
    store.update(key, account, &writer(), now).is_ok().then_some("edited")
}

/// Somebody who applies under the name of the operator's field manager.
fn forger() -> Writer {
    Writer { manager: FIELD_MANAGER.to_owned(), operation: "Apply", status: false }
}

fn writer() -> Writer {
    Writer { manager: "backup".to_owned(), operation: "Update", status: false }
}
