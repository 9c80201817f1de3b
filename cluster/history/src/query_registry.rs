//! The query registry: buffered queries, which wait for a workflow task to carry them. They live in memory
//! only: when the host is lost, the caller's call fails with it and is made again.
//!
//! Invariant: each query is completed exactly once.

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

/// The buffered queries of all runs of this host.
#[derive(Debug, Default)]
pub struct QueryRegistry {
    runs: Mutex<HashMap<RunKey, RunQueries>>,
    next_id: AtomicU64,
}

#[derive(Debug, Default)]
struct RunQueries {
    queries: HashMap<String, Query>,
}

#[derive(Debug)]
struct Query {
    query: WorkflowQuery,
    end: oneshot::Sender<QueryCompletion>,
}

/// How a buffered query is completed.
#[derive(Debug)]
pub enum QueryCompletion {
    /// The worker answered.
    Succeeded(Option<Payloads>),
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

/// A query in the buffer; dropping it takes it out.
#[derive(Debug)]
pub struct BufferedQuery<'a> {
    queries: &'a QueryRegistry,
    key: RunKey,
    id: String,
    /// Resolves when the query is completed.
    pub end: oneshot::Receiver<QueryCompletion>,
}

impl QueryRegistry {
    /// Buffers a query; `None` when the run has `limit` buffered already.
    pub fn buffer(
        &self,
        key: &RunKey,
        query: WorkflowQuery,
        limit: usize,
    ) -> Option<BufferedQuery<'_>> {
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
        Some(BufferedQuery {
            queries: self,
            key: key.clone(),
            id,
            end,
        })
    }

    /// Whether the run has buffered queries.
    pub fn has_buffered(&self, key: &RunKey) -> bool {
        self.runs.lock().contains_key(key)
    }

    /// All buffered queries of the run, to go with the workflow task that was just started. Queries an earlier task
    /// carried in vain go again.
    pub fn buffered(&self, key: &RunKey) -> HashMap<String, WorkflowQuery> {
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
                QueryResultType::Answered => QueryCompletion::Succeeded(result.answer),
                _ => QueryCompletion::Failed {
                    text: result.error_message,
                    failure: result.failure.map(Box::new),
                },
            };
            self.end_one(key, &id, end);
        }
    }

    /// No workflow task is pending any more: queries that are still buffered go to a worker directly.
    pub fn unblock(&self, key: &RunKey) {
        let ended = self.runs.lock().remove(key);
        for (_, query) in ended.into_iter().flat_map(|w| w.queries) {
            // A receiver that is gone has given up.
            let _ = query.end.send(QueryCompletion::Unblocked);
        }
    }

    fn end_one(&self, key: &RunKey, id: &str, end: QueryCompletion) {
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

impl Drop for BufferedQuery<'_> {
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
    fn each_query_ends_once_and_a_dropped_one_makes_room() {
        let queries = QueryRegistry::default();
        let key = RunKey::new("n", "w", "r");
        let buffered = queries.buffer(&key, query(), 1).unwrap();
        assert!(
            queries.buffer(&key, query(), 1).is_none(),
            "the limit holds"
        );
        drop(buffered);
        assert!(!queries.has_buffered(&key));

        let mut buffered = queries.buffer(&key, query(), 1).unwrap();
        let carried = queries.buffered(&key);
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
        assert!(matches!(
            buffered.end.try_recv(),
            Ok(QueryCompletion::Succeeded(None))
        ));
        assert!(!queries.has_buffered(&key));
    }
}
