//! Tasks in the background: a bug in one of them is said and counted, and the task goes on; none ends silently.

use crate::telemetry::Metrics;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// How long a task that met a bug rests, so that one which meets it at once does not take a core.
const REST: Duration = Duration::from_secs(1);

/// Runs what `start` makes until it ends in order. After a panic it is made and run again.
pub(super) async fn keep<F>(what: &'static str, metrics: Arc<Metrics>, mut start: impl FnMut() -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    while let Err(failure) = tokio::spawn(start()).await {
        if failure.is_cancelled() {
            // The runtime ends.
            return;
        }
        metrics.tasks_restarted.inc();
        tracing::error!(%failure, "{what} met a bug and is started again");
        tokio::time::sleep(REST).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_is_started_again() {
        let (metrics, begun) = (Arc::new(Metrics::default()), Arc::new(AtomicU32::new(0)));
        let seen = Arc::clone(&begun);
        keep("the task of a test", Arc::clone(&metrics), move || {
            let seen = Arc::clone(&seen);
            async move {
                let times = seen.fetch_add(1, Ordering::Relaxed);
                assert!(times == 2, "the first two times it has a bug");
            }
        })
        .await;
        assert_eq!(begun.load(Ordering::Relaxed), 3);
        assert_eq!(metrics.tasks_restarted.get(), 2);
    }
}
