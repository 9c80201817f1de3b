//! Queries that wait for a workflow task to carry them. They live in memory only: when the host is lost,
//! the caller's call fails with it and is made again.
//!
//! Invariant: each query gets exactly one end, whoever comes first.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;
use proto_ids::RunKey;
use proto_messages::temporal::api::{
    common::v1::Payloads,
    enums::v1::QueryResultType,
    failure::v1::Failure,
    query::v1::{WorkflowQuery, WorkflowQueryResult},
};
use tokio::sync::oneshot;

/// All waiting queries of this host.
#[derive(Debug, Default)]
pub struct Queries {
    runs: Mutex<HashMap<RunKey, Waiting>>,
    next_id: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    queries: HashMap<String, Query>,
}

#[derive(Debug)]
struct Query {
    query: WorkflowQuery,
    end: oneshot::Sender<End>,
}

/// How a wait ends.
#[derive(Debug)]
pub enum End {
    /// The worker answered.
    Answered(Option<Payloads>),
    /// The worker's handler failed.
    Failed {
        /// Its text.
        text: String,
        /// Its failure.
        failure: Option<Box<Failure>>,
    },
    /// No workflow task will carry it: it is safe to ask a worker directly.
    Unblocked,
}

/// A place in the queue; dropping it gives the place up.
#[derive(Debug)]
pub struct Place<'a> {
    queries: &'a Queries,
    key: RunKey,
    id: String,
    /// Resolves with the end.
    pub end: oneshot::Receiver<End>,
}

impl Queries {
    /// Queues a query; `None` when the run has `limit` waiting already.
    pub fn wait(&self, key: &RunKey, query: WorkflowQuery, limit: usize) -> Option<Place<'_>> {
        let (sender, end) = oneshot::channel();
        let id = format!("query-{}", self.next_id.fetch_add(1, Ordering::Relaxed));
        let mut runs = self.runs.lock();
        let waiting = runs.entry(key.clone()).or_default();
        if waiting.queries.len() >= limit {
            return None;
        }
        waiting
            .queries
            .insert(id.clone(), Query { query, end: sender });
        drop(runs);
        Some(Place {
            queries: self,
            key: key.clone(),
            id,
            end,
        })
    }

    /// Whether any query of the run waits.
    pub fn are_waiting(&self, key: &RunKey) -> bool {
        self.runs.lock().contains_key(key)
    }

    /// All waiting queries, to go with the workflow task that was just started. Queries an earlier task
    /// carried in vain go again.
    pub fn carry(&self, key: &RunKey) -> HashMap<String, WorkflowQuery> {
        let runs = self.runs.lock();
        let waiting = runs.get(key).into_iter().flat_map(|w| &w.queries);
        waiting
            .map(|(id, query)| (id.clone(), query.query.clone()))
            .collect()
    }

    /// Hands out the answers of a completed workflow task.
    pub fn answer(&self, key: &RunKey, results: HashMap<String, WorkflowQueryResult>) {
        for (id, result) in results {
            let end = match result.result_type() {
                QueryResultType::Answered => End::Answered(result.answer),
                _ => End::Failed {
                    text: result.error_message,
                    failure: result.failure.map(Box::new),
                },
            };
            self.end_one(key, &id, end);
        }
    }

    /// No workflow task is pending any more: everybody who still waits asks a worker directly.
    pub fn unblock(&self, key: &RunKey) {
        let ended = self.runs.lock().remove(key);
        for (_, query) in ended.into_iter().flat_map(|w| w.queries) {
            // A receiver that is gone has given up.
            let _ = query.end.send(End::Unblocked);
        }
    }

    fn end_one(&self, key: &RunKey, id: &str, end: End) {
        if let Some(query) = self.remove(key, id) {
            // A receiver that is gone has given up.
            let _ = query.end.send(end);
        }
    }

    fn remove(&self, key: &RunKey, id: &str) -> Option<Query> {
        let mut runs = self.runs.lock();
        let waiting = runs.get_mut(key)?;
        let query = waiting.queries.remove(id);
        if waiting.queries.is_empty() {
            runs.remove(key);
        }
        query
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.queries.remove(&self.key, &self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query() -> WorkflowQuery {
        WorkflowQuery {
            query_type: "q".into(),
            ..Default::default()
        }
    }

    #[test]
    fn each_query_ends_once_and_a_given_up_place_is_free() {
        let queries = Queries::default();
        let key = RunKey::new("n", "w", "r");
        let place = queries.wait(&key, query(), 1).unwrap();
        assert!(queries.wait(&key, query(), 1).is_none(), "the limit holds");
        drop(place);
        assert!(!queries.are_waiting(&key));

        let mut place = queries.wait(&key, query(), 1).unwrap();
        let carried = queries.carry(&key);
        assert_eq!(carried.len(), 1);
        let result = WorkflowQueryResult {
            result_type: QueryResultType::Answered as i32,
            ..Default::default()
        };
        queries.answer(
            &key,
            carried.into_keys().map(|id| (id, result.clone())).collect(),
        );
        queries.unblock(&key);
        assert!(matches!(place.end.try_recv(), Ok(End::Answered(None))));
        assert!(!queries.are_waiting(&key));
    }
}
