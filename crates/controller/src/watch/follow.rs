//! Follows one watch for ever, with a back-off of its own: a kind that cannot be listed does not hold up the others.

use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

use futures::{Stream, StreamExt};
use kube::Api;
use kube::runtime::watcher::{self, Config, watcher};
use regcred_index::{Body, Event, Origin, Received};
use serde::de::DeserializeOwned;

use super::intake::note_unreadable;
use crate::context::Context;
use crate::pause::Pause;

/// Objects in a page, which is held whole: one may be of 1.5 MB.
const PAGE: u32 = 10;

/// Follows the objects of a kind, and lists them again where `again` returns.
pub(super) async fn follow<T: Body, A: Future<Output = ()>>(
    context: &Context,
    kind: &'static str,
    api: Api<Received<T>>,
    config: Config,
    again: impl Fn() -> A,
    mut ingest: impl FnMut(Event<T>),
) where
    Received<T>: Clone + DeserializeOwned + Debug,
{
    let stream = |config| watcher(api.clone(), config);
    follow_stream(context, kind, config, stream, again, |event| ingest(read(context, kind, event))).await;
}

fn read<T>(context: &Context, kind: &'static str, event: watcher::Event<Received<T>>) -> Event<T> {
    match event {
        watcher::Event::Init => Event::ListBegins,
        watcher::Event::InitDone => Event::ListEnds,
        watcher::Event::Delete(received) => Event::Deleted(received),
        watcher::Event::Apply(received) | watcher::Event::InitApply(received) => {
            note_unreadable(context, kind, &received);
            Event::Put(received, Origin::Watch)
        }
    }
}

/// kube's stream resumes or lists again by itself after an error; what it leaves to us is the pause, and the
/// servers that know no streaming lists.
async fn follow_stream<T, S, A: Future<Output = ()>>(
    context: &Context,
    kind: &'static str,
    config: Config,
    stream: impl Fn(Config) -> S,
    again: impl Fn() -> A,
    mut ingest: impl FnMut(watcher::Event<T>),
) where
    S: Stream<Item = watcher::Result<watcher::Event<T>>>,
{
    let mut config = config.streaming_lists();
    loop {
        let mut pause = Pause::default();
        let mut events = pin!(stream(config.clone()));
        while let Some(event) = next(&mut events, again()).await {
            match event {
                Ok(event) => {
                    pause = Pause::default();
                    let listed = matches!(event, watcher::Event::InitDone);
                    ingest(event);
                    if listed {
                        note_complete(context);
                    }
                }
                Err(error) if lacks_streaming_lists(&error) => {
                    tracing::info!(kind, "the API server knows no streaming lists; listing in pages");
                    config.initial_list_strategy = watcher::InitialListStrategy::ListWatch;
                    config.page_size = Some(PAGE);
                    break;
                }
                Err(error) => {
                    survive(context, kind, &error, &mut pause).await;
                    if is_too_old_to_start(&error) {
                        break;
                    }
                }
            }
        }
    }
}

/// `None` where a list is asked for: a stream begins with one.
async fn next<S: Stream + Unpin>(events: &mut S, again: impl Future<Output = ()>) -> Option<S::Item> {
    tokio::select! {
        biased;
        () = again => None,
        event = events.next() => event,
    }
}

/// Waits before the stream goes on. A single event that nobody can read is no reason to: it is skipped.
async fn survive(context: &Context, kind: &'static str, error: &watcher::Error, pause: &mut Pause) {
    let first = pause.is_fresh();
    let pause = pause.next();
    if is_unreadable(error) {
        context.metrics.object_unreadable(kind);
        tracing::warn!(kind, "an event could not be read and is skipped");
        if first {
            return;
        }
    } else {
        context.metrics.watch_failed(kind);
        report(kind, error);
    }
    context.pulse.beat();
    tokio::time::sleep(jittered(pause)).await;
}

/// kube would ask for the same version again. Kubernetes says it in an event, for which kube lists again; a proxy may
/// say it as a status.
fn is_too_old_to_start(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchStartFailed(_)) && status_code(error) == 410
}

/// kube takes an event that does not fit its type for a `Status` without a code, where that is possible.
fn is_unreadable(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::WatchFailed(kube::Error::SerdeError(_)) => true,
        watcher::Error::WatchFailed(kube::Error::Api(status)) => status.code == 0,
        _ => false,
    }
}

/// Lets work begin once every watch has delivered a whole list.
pub(super) fn note_complete(context: &Context) {
    if context.index().is_complete() {
        context.indexed.send_if_modified(|indexed| !std::mem::replace(indexed, true));
    }
}

/// Up to a quarter more, so that replicas and watches that failed together come back apart.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(1.0 + fastrand::f64() / 4.0)
}

/// 422 on `sendInitialEvents`: a server before 1.34, or one with the feature off.
fn lacks_streaming_lists(error: &watcher::Error) -> bool {
    status_code(error) == 422
}

/// Expected interruptions are logged quietly, and none with its text: it may quote an object.
fn report(kind: &str, error: &watcher::Error) {
    match status_code(error) {
        404 => tracing::warn!(kind, "not served by this cluster; is the CustomResourceDefinition installed?"),
        403 => {
            tracing::warn!(kind, "may not be watched; grant the permissions of the ClusterRole");
        }
        410 => tracing::debug!(kind, "the watch is too old; listing again"),
        code => tracing::info!(kind, code, "the watch was interrupted"),
    }
}

/// The HTTP status behind a watch error; 0 if there was no answer.
fn status_code(error: &watcher::Error) -> u16 {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => status.code,
        watcher::Error::InitialListFailed(_)
        | watcher::Error::WatchStartFailed(_)
        | watcher::Error::WatchFailed(_)
        | watcher::Error::NoResourceVersion => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::stream;
    use kube::core::Status;
    use serde_json::json;
    use tokio::time::Instant;

    use super::*;
    use crate::fake;

    type Events = stream::BoxStream<'static, watcher::Result<watcher::Event<()>>>;

    fn refused(code: u16) -> watcher::Result<watcher::Event<()>> {
        let status = Status { code, ..Status::default() };
        Err(watcher::Error::WatchStartFailed(kube::Error::Api(Box::new(status))))
    }

    fn events(events: Vec<watcher::Result<watcher::Event<()>>>) -> Events {
        Box::pin(stream::iter(events).chain(stream::pending()))
    }

    fn never() -> std::future::Pending<()> {
        std::future::pending()
    }

    async fn follow_until(count: usize, stream: impl Fn(Config) -> Events) {
        let context = fake::context("a", |_, _, _| (200, json!({})));
        let (seen, enough) = (AtomicUsize::new(0), tokio::sync::Notify::new());
        let ingest = |_| {
            if seen.fetch_add(1, Ordering::Relaxed) + 1 == count {
                enough.notify_one();
            }
        };
        tokio::select! {
            () = follow_stream(&context, "Thing", Config::default(), stream, never, ingest) => {}
            () = enough.notified() => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_is_refused_as_too_old_is_listed_anew() {
        let streams = AtomicUsize::new(0);
        let stream = |_| match streams.fetch_add(1, Ordering::Relaxed) {
            0 => events(vec![refused(410)]),
            _ => events(vec![Ok(watcher::Event::Init), Ok(watcher::Event::InitDone)]),
        };
        let listed = tokio::time::timeout(Duration::from_secs(5), follow_until(2, stream)).await;
        listed.expect("the list was taken");
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_is_listed_again_as_often_as_somebody_asks() {
        let context = fake::context("a", |_, _, _| (200, json!({})));
        let (asked, lists) = (tokio::sync::Notify::new(), AtomicUsize::new(0));
        let stream = |_| events(vec![Ok(watcher::Event::Init), Ok(watcher::Event::InitDone)]);
        let ingest = |event| {
            if matches!(event, watcher::Event::InitDone) && lists.fetch_add(1, Ordering::Relaxed) < 2 {
                asked.notify_one();
            }
        };
        let again = || asked.notified();
        let followed = follow_stream(&context, "Thing", Config::default(), stream, again, ingest);
        assert!(tokio::time::timeout(Duration::from_mins(1), followed).await.is_err());
        assert_eq!(lists.load(Ordering::Relaxed), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_that_cannot_be_read_pauses_nothing() {
        let start = Instant::now();
        let odd = || {
            let error = serde::de::Error::custom("an object without a name");
            Err(watcher::Error::WatchFailed(kube::Error::SerdeError(error)))
        };
        let nameless = || {
            let status = Box::new(Status::default());
            Err(watcher::Error::WatchFailed(kube::Error::Api(status)))
        };
        let good = || Ok(watcher::Event::InitDone);
        follow_until(2, |_| events(vec![odd(), good(), nameless(), good()])).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        // A proxy that answers nothing but pages of its own is not asked without a pause.
        follow_until(1, |_| events(vec![odd(), odd(), odd(), good()])).await;
        assert!(start.elapsed() >= Duration::from_secs(3), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_without_streaming_lists_is_listed_in_pages() {
        let stream = |config: Config| {
            let pages = matches!(config.initial_list_strategy, watcher::InitialListStrategy::ListWatch);
            if pages {
                assert_eq!(config.page_size, Some(PAGE));
                events(vec![Ok(watcher::Event::Init), Ok(watcher::Event::InitDone)])
            } else {
                events(vec![refused(422)])
            }
        };
        let found = tokio::time::timeout(Duration::from_secs(5), follow_until(2, stream)).await;
        found.expect("the list in pages was taken");
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_fails_pauses_longer_each_time_and_goes_on() {
        let start = Instant::now();
        let stream = |_| events(vec![refused(500), refused(500), refused(500), Ok(watcher::Event::InitDone)]);
        follow_until(1, stream).await;
        // 0.5 + 1 + 2 seconds, and up to a quarter more.
        assert!((3500..4500).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    }
}
