//! The queries that run now: who asked what since when, and the way to end one.

use axum::extract::{ConnectInfo, Request};
use kymo_query::Progress;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::time::Instant;

/// The address a request came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub IpAddr);

impl Peer {
    /// That of a request, as the accept loop wrote it down.
    pub fn of(request: &Request) -> Option<Self> {
        request.extensions().get::<ConnectInfo<SocketAddr>>().map(|address| Self(address.0.ip()))
    }
}

/// What is asked, for the list.
#[derive(Debug, Clone)]
pub struct Question {
    /// `instant`, `range`, `series`, `labels` or `label_values`.
    pub kind: &'static str,
    /// The text of the query, or the selectors.
    pub text: String,
    /// Who asked, if that is known.
    pub peer: Option<Peer>,
}

/// The longest piece of a text that the list keeps, in bytes.
const TEXT_BYTES_MAX: usize = 4 << 10;

/// One query of the list.
#[derive(Debug, Clone)]
pub struct ActiveQuery {
    /// Its number; no other query since the start of the server has it.
    pub id: u64,
    /// What is asked.
    pub question: Question,
    /// When it got its turn, in milliseconds since the Unix epoch.
    pub started_ms: i64,
    /// The same, to measure how long it takes.
    pub since: Instant,
    /// How far it has come.
    pub progress: Arc<Progress>,
    cancel: Arc<AtomicBool>,
}

/// The queries that run now.
#[derive(Debug, Default)]
pub struct ActiveQueries {
    next: AtomicU64,
    running: Mutex<BTreeMap<u64, ActiveQuery>>,
}

/// One query's place in the list; it leaves the list when this is dropped.
#[derive(Debug)]
pub struct Listed {
    list: Arc<ActiveQueries>,
    id: u64,
}

impl ActiveQueries {
    /// Puts a query on the list; `cancel` ends it when raised.
    pub fn enter(
        self: &Arc<Self>,
        mut question: Question,
        started_ms: i64,
        progress: Arc<Progress>,
        cancel: Arc<AtomicBool>,
    ) -> Listed {
        let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let mut end = TEXT_BYTES_MAX.min(question.text.len());
        while !question.text.is_char_boundary(end) {
            end -= 1;
        }
        question.text.truncate(end);
        question.text.shrink_to_fit();
        let query = ActiveQuery { id, question, started_ms, since: Instant::now(), progress, cancel };
        self.running.lock().insert(id, query);
        Listed { list: Arc::clone(self), id }
    }

    /// All queries, the oldest first.
    pub fn list(&self) -> Vec<ActiveQuery> {
        self.running.lock().values().cloned().collect()
    }

    /// Ends query `id`; says whether it was running.
    pub fn cancel(&self, id: u64) -> bool {
        let running = self.running.lock();
        let query = running.get(&id);
        if let Some(query) = query {
            query.cancel.store(true, Ordering::Relaxed);
        }
        query.is_some()
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.list.running.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn queries_are_listed_while_they_run() {
        let list = Arc::<ActiveQueries>::default();
        let cancel = Arc::<AtomicBool>::default();
        let question = |text: &str| Question { kind: "instant", text: text.to_owned(), peer: None };
        let first = list.enter(question("up"), 1_000, Arc::default(), cancel.clone());
        let long = "é".repeat(TEXT_BYTES_MAX);
        let _second = list.enter(question(&long), 2_000, Arc::default(), Arc::default());
        let all = list.list();
        assert_eq!((all[0].id, all[0].question.text.as_str(), all[1].id), (1, "up", 2));
        assert!(all[1].question.text.len() <= TEXT_BYTES_MAX);
        assert!(list.cancel(1) && cancel.load(Ordering::Relaxed));
        drop(first);
        assert!(!list.cancel(1) && list.list().len() == 1);
    }
}
