//! Gates: how many queries and writes work at the same time, how long the others wait, and what happens when a client leaves.

use crate::error::{ApiError, Side};
use crate::telemetry::Metrics;
use kymo_storage::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// The longest wait for a turn.
const QUEUE_TIME_MAX: Duration = Duration::from_secs(10);
/// Requests that may wait for one place.
const WAITING_PER_PLACE: usize = 64;

/// Lets a number of requests work at the same time; the others wait a bounded time, and only so many of them.
#[derive(Debug)]
pub struct Gate {
    places: Arc<Semaphore>,
    waiting: Semaphore,
    flag: &'static str,
}

impl Gate {
    /// A gate with `places`; `flag` is the flag that sets their number, for the error text.
    pub fn new(places: usize, flag: &'static str) -> Self {
        let places = places.max(1);
        let waiting = Semaphore::new(places.saturating_mul(WAITING_PER_PLACE).min(Semaphore::MAX_PERMITS));
        Self { places: Arc::new(Semaphore::new(places)), waiting, flag }
    }

    /// A place, to be dropped when the work is done.
    ///
    /// # Errors
    /// `Unavailable` if too many wait already, or no place came free in time.
    pub async fn enter(&self, side: Side) -> Result<OwnedSemaphorePermit, ApiError> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Ok(place);
        }
        let busy = |why: &str| {
            ApiError::new(
                side,
                ErrorKind::Unavailable,
                format!("all places are taken ({}) and {why}", self.flag),
            )
        };
        let _waiting = self.waiting.try_acquire().map_err(|_| busy("too many requests wait for one"))?;
        match tokio::time::timeout(QUEUE_TIME_MAX, Arc::clone(&self.places).acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) | Err(_) => Err(busy("none came free in 10 s")),
        }
    }
}

/// Told to running work when nobody waits for its result any more.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Whether the work should stop.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// The flag itself, for those who watch it.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }
}

/// Raises the flag when dropped: the future of a request is dropped when its client leaves.
struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// Runs `work` on the pool of blocking threads, behind `gate`. Its place is free when the work has ended, not when the client
/// has left; leaving raises the flag that the work watches.
///
/// # Errors
/// Those of the gate and of `work`; a panic of `work` is an `Internal` error of this request and of no other.
pub async fn run_query<T: Send + 'static>(
    gate: &Gate,
    metrics: &Arc<Metrics>,
    work: impl FnOnce(&Cancel) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let place = {
        let _waiting = metrics.queries_waiting.hold();
        match gate.enter(Side::Read).await {
            Ok(place) => place,
            Err(error) => {
                metrics.queries.get("refused").inc();
                return Err(error);
            }
        }
    };
    let cancel = Cancel::default();
    let _raise_when_dropped = CancelOnDrop(cancel.clone());
    let work_metrics = Arc::clone(metrics);
    let running = metrics.queries_running.hold();
    let task = tokio::task::spawn_blocking(move || {
        let started = Instant::now();
        let result = work(&cancel);
        work_metrics.query_duration.observe(started.elapsed());
        let outcome = match &result {
            _ if cancel.is_cancelled() => "canceled",
            Ok(_) => "success",
            Err(error) => error.error_type,
        };
        work_metrics.queries.get(outcome).inc();
        drop((running, place));
        result
    });
    task.await.unwrap_or_else(|failure| {
        metrics.queries.get("internal").inc();
        tracing::error!(%failure, "a query ended in a bug");
        Err(ApiError::new(Side::Read, ErrorKind::Internal, "the query met a bug of Kymo; see the log"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waiting_is_bounded() {
        let gate = Gate::new(1, "--x");
        let place = gate.enter(Side::Read).await.unwrap();
        let error = gate.enter(Side::Read).await.unwrap_err();
        assert_eq!((error.status.as_u16(), error.message.contains("--x")), (503, true));
        drop(place);
        assert!(gate.enter(Side::Read).await.is_ok());
    }

    #[tokio::test]
    async fn leaving_raises_the_flag_and_a_panic_is_one_error() {
        let (gate, metrics) = (Gate::new(1, "--x"), Arc::new(Metrics::default()));
        let (started, wait_started) = tokio::sync::oneshot::channel();
        let (ended, wait_ended) = tokio::sync::oneshot::channel();
        let query = run_query(&gate, &metrics, move |cancel| {
            let _ = started.send(());
            while !cancel.is_cancelled() {
                std::thread::yield_now();
            }
            let _ = ended.send(());
            Ok(())
        });
        tokio::select! {
            _ = query => panic!("ends only when cancelled"),
            _ = wait_started => {}
        }
        wait_ended.await.unwrap();
        let bug =
            run_query(&gate, &metrics, |_| -> Result<(), ApiError> { panic!("bug") }).await.unwrap_err();
        assert_eq!(bug.status.as_u16(), 500);
        assert_eq!(run_query(&gate, &metrics, |_| Ok(7)).await.unwrap(), 7);
        assert_eq!((metrics.queries.get("canceled").get(), metrics.queries_running.get()), (1, 0));
    }
}
