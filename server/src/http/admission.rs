//! Gates: how many queries and writes work at the same time, how long the others wait, and what happens when a client leaves.

use super::queries::{ActiveQueries, Question};
use crate::error::{ApiError, Side};
use crate::telemetry::Metrics;
use kymo_query::{OnLong, Progress};
use kymo_storage::ErrorKind;
use parking_lot::Mutex;
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
    /// As many more, for queries that turned out to be long: short ones do not wait for them.
    long: Arc<Semaphore>,
    waiting: Semaphore,
    waiting_max: usize,
    flag: &'static str,
    count: usize,
}

impl Gate {
    /// A gate with `places`; `flag` is the flag that sets their number, for the error text.
    pub fn new(places: usize, flag: &'static str) -> Self {
        let places = places.max(1);
        Self::with_waiting(places, places.saturating_mul(WAITING_PER_PLACE), flag)
    }

    /// As [`Gate::new`] with a quarter of the places, one at least, and four times as many who wait: for short pieces of work.
    pub fn quarter(places: usize, flag: &'static str) -> Self {
        let waiting = places.max(1).saturating_mul(4 * WAITING_PER_PLACE);
        Self::with_waiting((places / 4).max(1), waiting, flag)
    }

    fn with_waiting(places: usize, waiting: usize, flag: &'static str) -> Self {
        let waiting_max = waiting.min(Semaphore::MAX_PERMITS);
        let lane = || Arc::new(Semaphore::new(places));
        let waiting = Semaphore::new(waiting_max);
        Self { places: lane(), long: lane(), waiting, waiting_max, flag, count: places }
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
                format!("all {} places are taken ({}) and {why}", self.count, self.flag),
            )
        };
        let waiting = self.waiting_max;
        let _waiting = self
            .waiting
            .try_acquire()
            .map_err(|_| busy(&format!("{waiting} requests wait for one already")))?;
        match tokio::time::timeout(QUEUE_TIME_MAX, Arc::clone(&self.places).acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) | Err(_) => Err(busy("none came free in 10 s")),
        }
    }

    /// A place for the next piece of an answer that has begun: behind those that wait already, however long that takes, for
    /// half of an answer is of no use to anybody.
    pub async fn next_turn(&self) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed, which is all that could fail.
        Arc::clone(&self.places).acquire_owned().await.ok()
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
    let place = turn(gate, metrics).await?;
    let cancel = Cancel::default();
    run_blocking(metrics, cancel.clone(), move || {
        let _place = place;
        work(&cancel)
    })
    .await
}

/// Where queries are let in.
#[derive(Clone, Copy)]
pub struct Desk<'a> {
    /// Who may work.
    pub gate: &'a Gate,
    /// What is counted.
    pub metrics: &'a Arc<Metrics>,
    /// The list of those that run.
    pub queries: &'a Arc<ActiveQueries>,
    /// The time, in milliseconds since the Unix epoch.
    pub now_ms: i64,
}

/// A query that has got its turn.
pub struct Running {
    /// Raised when nobody waits for the answer any more, or somebody ends the query.
    pub cancel: Cancel,
    /// Where the query says how far it has come.
    pub progress: Arc<Progress>,
    /// To be called if it turns out to be long.
    pub on_long: OnLong,
    /// How long it waited for its turn.
    pub waited: Duration,
}

/// As [`run_query`], with the query on the list of those that run. One that turns out to be long gives up its place to the next
/// and takes one of the others, if there is one.
///
/// # Errors
/// As [`run_query`].
pub async fn run_listed<T: Send + 'static>(
    desk: Desk<'_>,
    question: Question,
    work: impl FnOnce(&Running) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let asked = Instant::now();
    let place = Arc::new(Mutex::new(Some(turn(desk.gate, desk.metrics).await?)));
    let (cancel, progress) = (Cancel::default(), Arc::<Progress>::default());
    let listed = desk.queries.enter(question, desk.now_ms, Arc::clone(&progress), cancel.flag());
    let (kept, long) = (Arc::clone(&place), Arc::clone(&desk.gate.long));
    let on_long = OnLong::new(move || {
        if let Ok(other) = Arc::clone(&long).try_acquire_owned() {
            kept.lock().replace(other);
        }
    });
    let running = Running { cancel: cancel.clone(), progress, on_long, waited: asked.elapsed() };
    run_blocking(desk.metrics, cancel, move || {
        let _listed = listed;
        let result = work(&running);
        // The answer may outlive the work; its place does not.
        place.lock().take();
        result
    })
    .await
}

async fn turn(gate: &Gate, metrics: &Arc<Metrics>) -> Result<OwnedSemaphorePermit, ApiError> {
    let _waiting = metrics.queries_waiting.hold();
    gate.enter(Side::Read).await.inspect_err(|_| metrics.queries.get("refused").inc())
}

async fn run_blocking<T: Send + 'static>(
    metrics: &Arc<Metrics>,
    cancel: Cancel,
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let _raise_when_dropped = CancelOnDrop(cancel.clone());
    let work_metrics = Arc::clone(metrics);
    let running = metrics.queries_running.hold();
    let task = tokio::task::spawn_blocking(move || {
        let started = Instant::now();
        let result = work();
        work_metrics.query_duration.observe(started.elapsed());
        let outcome = match &result {
            _ if cancel.is_cancelled() => "canceled",
            Ok(_) => "success",
            Err(error) => error.error_type,
        };
        work_metrics.queries.get(outcome).inc();
        drop(running);
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
