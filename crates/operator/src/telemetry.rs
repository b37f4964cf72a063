//! Logs on standard error.

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{FilterFn, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::args::LogFormat;

/// Starts logging.
pub(crate) fn start(format: LogFormat, level: LevelFilter) {
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(false).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(lines.with_filter(harmless(level))).init();
}

/// What may be logged at all. kube logs the whole body of an answer that it cannot decode, which
/// may be a Secret, so nothing of it is logged, at no level; our own code logs every failure.
/// Other crates may warn.
fn harmless(level: LevelFilter) -> FilterFn<impl Fn(&tracing::Metadata<'_>) -> bool> {
    filter_fn(move |metadata| {
        let target = metadata.target();
        if target.starts_with("regcred") {
            *metadata.level() <= level
        } else {
            *metadata.level() <= Level::WARN && !target.starts_with("kube")
        }
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn nothing_of_kube_is_logged_even_at_trace() {
        let sink = Sink::default();
        let writer = sink.clone();
        let lines = fmt::layer().with_writer(move || writer.clone());
        let subscriber = tracing_subscriber::registry().with(lines.with_filter(harmless(LevelFilter::TRACE)));
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(target: "kube_client::client", "body with a password");
            tracing::trace!(target: "hyper::proto", "bytes of a password");
            tracing::trace!(target: "regcred_controller::watch", "own words");
        });
        let logged = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        assert!(logged.contains("own words"));
        assert!(!logged.contains("password"), "{logged}");
    }
}
