//! Follows one watch for ever, with a back-off of its own: a kind that cannot be listed does not hold up the others.

use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

use futures::{Stream, StreamExt};
use kube::Api;
use kube::runtime::watcher::{self, Config, watcher};
use regcred_index::{Body, Event, Origin, Unread};
use serde::de::DeserializeOwned;
use tokio::sync::SemaphorePermit;

use super::intake::note_unreadable;
use crate::context::Context;
use crate::pause::Pause;

/// Objects in a page, of which the bytes are held: one may be of 1.5 MB.
const PAGE: u32 = 10;

/// Follows the objects of a kind, and lists them again where `again` returns.
pub(super) async fn follow<T: Body, A: Future<Output = ()>>(
    context: &Context,
    kind: &'static str,
    api: Api<Unread<T>>,
    config: Config,
    again: impl Fn() -> A,
    mut ingest: impl FnMut(Event<T>),
) where
    Unread<T>: Clone + DeserializeOwned + Debug,
{
    let stream = |config| watcher(api.clone(), config);
    follow_stream(context, kind, config, stream, again, |event| ingest(read(context, kind, event))).await;
}

/// What kube hands on is read here, one object at a time.
fn read<T: Body>(context: &Context, kind: &'static str, event: watcher::Event<Unread<T>>) -> Event<T> {
    match event {
        watcher::Event::Init => Event::ListBegins,
        watcher::Event::InitDone => Event::ListEnds,
        watcher::Event::Delete(unread) => Event::Deleted(unread.read()),
        watcher::Event::Apply(unread) | watcher::Event::InitApply(unread) => {
            let received = unread.read();
            note_unreadable(context, kind, &received);
            Event::Put(received, Origin::Watch)
        }
    }
}

/// Why a stream is begun anew.
enum End {
    /// A list is asked for, or the watch is too old to be resumed.
    ListAgain,
    /// The API server knows no streaming lists.
    ListInPages,
}

/// Begins the stream, again and again. Servers that know no streaming lists are left to us by kube.
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
        let mut events = pin!(stream(config.clone()));
        match follow_once(context, kind, &config, &mut events, &again, &mut ingest).await {
            End::ListAgain => {}
            End::ListInPages => {
                // The first line of the log says it of the API server.
                tracing::debug!(kind, "the API server knows no streaming lists; listing in pages");
                config.initial_list_strategy = watcher::InitialListStrategy::ListWatch;
                config.page_size = Some(PAGE);
            }
        }
    }
}

/// kube's stream resumes or lists again by itself after an error; what it leaves to us is the pause.
async fn follow_once<T, S, A: Future<Output = ()>>(
    context: &Context,
    kind: &'static str,
    config: &Config,
    events: &mut S,
    again: impl Fn() -> A,
    mut ingest: impl FnMut(watcher::Event<T>),
) -> End
where
    S: Stream<Item = watcher::Result<watcher::Event<T>>> + Unpin,
{
    let (mut pause, mut turn) = (Pause::default(), None);
    while let Some(event) = next(events, again()).await {
        match event {
            Ok(event) => {
                pause = Pause::default();
                turn = turn_to_list(context, config, &event, turn).await;
                let listed = matches!(event, watcher::Event::InitDone);
                ingest(event);
                if listed {
                    note_complete(context);
                }
            }
            Err(error) if lacks_streaming_lists(&error) => return End::ListInPages,
            Err(error) => {
                turn = None;
                survive(context, kind, &error, &mut pause).await;
                if is_too_old_to_start(&error) {
                    break;
                }
            }
        }
    }
    End::ListAgain
}

/// A list that comes in pages waits for its turn when it begins, and gives it back when it ends. One that fails, and is
/// begun anew, has given it back before.
async fn turn_to_list<'a, T>(
    context: &'a Context,
    config: &Config,
    event: &watcher::Event<T>,
    turn: Option<SemaphorePermit<'a>>,
) -> Option<SemaphorePermit<'a>> {
    let in_pages = matches!(config.initial_list_strategy, watcher::InitialListStrategy::ListWatch);
    match event {
        watcher::Event::Init if in_pages => context.room.to_list().await,
        watcher::Event::InitDone => None,
        _ => turn,
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
        context.metrics.watch_restarted(kind);
        report(context, kind, error);
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
fn report(context: &Context, kind: &'static str, error: &watcher::Error) {
    let code = status_code(error);
    if code == 410 {
        return tracing::debug!(kind, "the watch is too old; listing again");
    }
    // What all watches share is told of one of them.
    let of_kind = matches!(code, 403 | 404).then_some(kind);
    let Some(unsaid) = context.troubles.watches.note(of_kind, code) else { return };
    match code {
        404 => {
            tracing::warn!(
                kind,
                unsaid,
                "not served by this cluster; is the CustomResourceDefinition installed?"
            );
        }
        403 => tracing::warn!(kind, unsaid, "may not be watched; grant the permissions of the ClusterRole"),
        0 => tracing::info!(kind, unsaid, "the connection of a watch ended; it is begun again"),
        code => tracing::info!(kind, code, unsaid, "the watch was interrupted"),
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
    async fn lists_in_pages_take_turns_and_one_that_fails_gives_its_turn_away() {
        let context = fake::context("a", |_, _, _| (200, json!({})));
        let follow = async |list: fn() -> Events| {
            let stream = move |config: Config| match config.initial_list_strategy {
                watcher::InitialListStrategy::ListWatch => list(),
                watcher::InitialListStrategy::StreamingList => events(vec![refused(422)]),
            };
            let listed = tokio::sync::Notify::new();
            let ingest = |event| {
                if matches!(event, watcher::Event::InitDone) {
                    listed.notify_one();
                }
            };
            tokio::select! {
                () = follow_stream(&context, "Thing", Config::default(), stream, never, ingest) => {}
                () = listed.notified() => {}
            }
        };
        // It asks for a page, waits, and is refused, for ever.
        let hanging = || -> Events {
            let refused = stream::once(async {
                tokio::time::sleep(Duration::from_secs(10)).await;
                refused(500)
            });
            Box::pin(stream::iter([Ok(watcher::Event::Init)]).chain(refused).chain(stream::pending()))
        };
        let start = Instant::now();
        let lists = || events(vec![Ok(watcher::Event::Init), Ok(watcher::Event::InitDone)]);
        tokio::select! {
            biased;
            () = follow(hanging) => panic!("it never ends"),
            () = follow(lists) => {}
        }
        assert!((10_000..10_500).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
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
