//! Watches on both servers, opened alike, and what they tell.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use regcred_tests::wait::try_eventually;
use serde_json::{Value, json};

use crate::Pair;
use crate::draw::Draw;

type Events = Arc<Mutex<Vec<Value>>>;

/// A watch on both servers.
struct Watch {
    what: String,
    real: Events,
    fake: Events,
}

/// All of them.
pub struct Watches(Vec<Watch>);

impl Watches {
    /// Opens watches that begin with what there is.
    pub async fn open(pair: &Pair, draw: &Draw) -> Self {
        let mut watches = Self(Vec::new());
        for path in draw.watched() {
            watches.begin(pair, &format!("{path}&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"), "", "").await;
            watches.begin(pair, &path, "", "").await;
        }
        watches
    }

    /// Opens a watch that goes on after an earlier state of some object.
    pub async fn resume(&mut self, pair: &Pair, draw: &mut Draw) {
        let (path, object, ago) = draw.resumed();
        let versions = (pair.real.version(&object, ago), pair.fake.version(&object, ago));
        if let (Some(real), Some(fake)) = versions {
            let after = |version: String| format!("&resourceVersion={version}");
            self.begin(pair, &path, &after(real), &after(fake)).await;
        }
    }

    async fn begin(&mut self, pair: &Pair, path: &str, real: &str, fake: &str) {
        let what = format!("{path} after {fake}");
        let real = follow(&pair.real.client, format!("{path}{real}")).await;
        let fake = follow(&pair.fake.client, format!("{path}{fake}")).await;
        self.0.push(Watch { what, real, fake });
    }

    /// Waits until both told as much, and takes down what differs.
    pub async fn compare(self, pair: &mut Pair, within: Duration) {
        for watch in self.0 {
            let wanted = watch.fake.lock().unwrap().len();
            let told = try_eventually(&watch.what, within, async || {
                let told = watch.real.lock().unwrap().len();
                if told >= wanted { Ok(()) } else { Err(format!("{told} of {wanted} events")) }
            });
            // What is lacking shows in the comparison.
            let _late = told.await;
            let (mut real, mut fake) =
                (watch.real.lock().unwrap().clone(), watch.fake.lock().unwrap().clone());
            real.iter_mut().chain(&mut fake).for_each(only_metadata_of_bookmark);
            for event in &mut real {
                pair.real.plain(event);
            }
            for event in &mut fake {
                pair.fake.plain(event);
            }
            pair.differs(&watch.what, &Value::Array(real), &Value::Array(fake));
        }
    }
}

/// The rest of a bookmark is an object of which nothing is set.
fn only_metadata_of_bookmark(event: &mut Value) {
    if event["type"] == "BOOKMARK" {
        event["object"] = json!({"metadata": event["object"]["metadata"]});
    }
}

/// Opens a watch and gathers what it tells, but for bookmarks that say nothing but a version.
async fn follow(client: &Client, path: String) -> Events {
    let events = Events::default();
    let request = http::Request::get(&path).body(Body::empty()).expect("a request");
    let response = client.send(request).await.unwrap_or_else(|error| panic!("{path}: {error}"));
    let (mut body, gathered) = (response.into_body(), events.clone());
    tokio::spawn(async move {
        let mut rest = Vec::new();
        while let Some(Ok(frame)) = body.frame().await {
            rest.extend(frame.into_data().unwrap_or_default());
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                let event: Value = serde_json::from_slice(&line).expect("an event");
                let idle =
                    event["type"] == "BOOKMARK" && event["object"]["metadata"]["annotations"].is_null();
                if !idle {
                    gathered.lock().unwrap().push(event);
                }
            }
        }
    });
    events
}
