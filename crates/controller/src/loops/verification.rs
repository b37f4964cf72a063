//! The walk over all namespaces in which every copy is looked at again, although nothing speaks against it. Whoever
//! applies other data under the name of our field manager leaves no trace but an event, and an event may have come before
//! this process. Where nothing changed, a look writes nothing.

use std::sync::Arc;

use crate::context::Context;

/// The part of a period that passes before the walk begins: a start has other things to do.
const BEGINS_AFTER: u32 = 24;

/// Walks until the operator is told to stop. It begins anywhere, so that one who is often started again still comes
/// everywhere.
pub(crate) async fn work(context: Arc<Context>) {
    let stopping = context.stage.stopping.clone();
    stopping.run_until_cancelled(walk(&context)).await;
}

async fn walk(context: &Context) {
    let period = context.options.verification_period;
    tokio::time::sleep(period / BEGINS_AFTER).await;
    let mut last = somewhere(context);
    loop {
        tokio::time::sleep(period / count(context)).await;
        let next = context.index().namespace_after(&last);
        let Some(namespace) = next else { continue };
        context.index().doubt_secrets_in(&namespace);
        context.queues.verification(namespace.clone());
        last = namespace;
    }
}

fn count(context: &Context) -> u32 {
    u32::try_from(context.index().namespaces().count()).unwrap_or(u32::MAX).max(1)
}

fn somewhere(context: &Context) -> Arc<str> {
    let index = context.index();
    let any = fastrand::usize(..index.namespaces().count().max(1));
    index.namespaces().nth(any).cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use regcred_index::{Event, Origin, Received};
    use serde_json::json;

    use super::*;
    use crate::fake;

    fn observe(context: &Context, name: &str) {
        let namespace = json!({"metadata": {"name": name, "uid": name, "resourceVersion": "1"}});
        let received: Received<_> = serde_json::from_str(&namespace.to_string()).unwrap();
        context.index().ingest_namespace(Event::Put(received, Origin::Watch));
    }

    #[tokio::test(start_paused = true)]
    async fn every_namespace_is_looked_at_once_in_a_period() {
        let context = fake::context("a", |_, _, _| (500, json!({})));
        let names = ["a", "b", "c", "d"];
        for name in names {
            observe(&context, name);
        }
        tokio::spawn(work(context.clone()));
        let day = Duration::from_hours(24);
        let period = day + day / BEGINS_AFTER + Duration::from_secs(1);
        let (mut seen, end) = (Vec::new(), tokio::time::Instant::now() + period);
        while let Ok(work) = tokio::time::timeout_at(end, context.queues.namespaces.next()).await {
            seen.push(work.key.to_string());
            work.done();
        }
        seen.sort();
        assert_eq!(seen, names);
    }

    #[tokio::test(start_paused = true)]
    async fn a_walk_ends_when_the_operator_does() {
        let context = fake::context("a", |_, _, _| (500, json!({})));
        context.stage.stopping.cancel();
        work(context).await;
    }
}
