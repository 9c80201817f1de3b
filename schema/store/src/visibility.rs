//! Visibility: rows for list and count, written by a lane of their own, eventually consistent.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use proto_ids::{NamespaceId, RunId, ShardId, Timestamp, WorkflowId};

use crate::error::StoreError;

pub mod query;

mod position;

pub use position::Position;

/// A run's row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VisibilityRecord {
    /// The namespace.
    pub namespace_id: NamespaceId,
    /// The workflow id.
    pub workflow_id: WorkflowId,
    /// The run; the row's key with the namespace.
    pub run_id: RunId,
    /// Rises with each write of the run; an older one changes nothing.
    pub version: i64,
    /// The type.
    pub workflow_type: String,
    /// The queue.
    pub task_queue: String,
    /// The public enum's number.
    pub status: i32,
    /// Start time.
    pub start_time: Timestamp,
    /// Execution time.
    pub execution_time: Timestamp,
    /// Close time; zero while open.
    pub close_time: Timestamp,
    /// Events; 0 while open.
    pub history_length: i64,
    /// History bytes; 0 while open.
    pub history_size: i64,
    /// Transitions; 0 while open.
    pub state_transition_count: i64,
    /// Parent's workflow id; empty for none.
    pub parent_workflow_id: String,
    /// Parent's run; empty for none.
    pub parent_run_id: String,
    /// Root's workflow id.
    pub root_workflow_id: String,
    /// Root's run.
    pub root_run_id: String,
    /// Encoded `temporal.api.common.v1.Memo`; empty for none.
    pub memo: Bytes,
    /// Encoded `temporal.api.common.v1.SearchAttributes` (custom ones); empty for none.
    pub search_attributes: Bytes,
}

/// A write.
#[derive(Clone, Debug)]
pub enum VisibilityWrite {
    /// Insert or replace, if newer.
    Put(Box<VisibilityRecord>),
    /// Remove.
    Delete {
        /// The namespace.
        namespace_id: NamespaceId,
        /// The run.
        run_id: RunId,
    },
}

/// A page of a list. Order: open runs first, then by close time, newest first; ties by start time, run id.
#[derive(Clone, Debug, Default)]
pub struct VisibilityPage {
    /// The rows.
    pub records: Vec<VisibilityRecord>,
    /// Where the next page begins; `None` at the end. Opaque.
    pub next: Option<Bytes>,
}

/// Counts, by group when the query groups.
#[derive(Clone, Debug, Default)]
pub struct VisibilityCount {
    /// All.
    pub total: i64,
    /// Per status number, when grouped by ExecutionStatus.
    pub by_status: BTreeMap<i32, i64>,
}

/// Visibility rows.
#[async_trait]
pub trait VisibilityStore: Send + Sync + 'static {
    /// Writes all in one transaction; each run at most once.
    async fn visibility_write(&self, writes: Vec<VisibilityWrite>) -> Result<(), StoreError>;

    /// A page. `Invalid` for a query that groups, and for a page token that is none.
    async fn visibility_list(
        &self,
        namespace_id: &NamespaceId,
        query: &query::Query,
        page_size: usize,
        after: Option<Bytes>,
    ) -> Result<VisibilityPage, StoreError>;

    /// Counts.
    async fn visibility_count(
        &self,
        namespace_id: &NamespaceId,
        query: &query::Query,
    ) -> Result<VisibilityCount, StoreError>;

    /// One row.
    async fn visibility_get(
        &self,
        namespace_id: &NamespaceId,
        run_id: &RunId,
    ) -> Result<Option<VisibilityRecord>, StoreError>;

    /// Whether every run of the shard has its row, or a task that will write it. Rows that cannot be lost
    /// apart from the runs are always complete.
    async fn visibility_is_complete(&self, _shard: ShardId) -> Result<bool, StoreError> {
        Ok(true)
    }

    /// Notes that [`Self::visibility_is_complete`].
    async fn visibility_set_complete(&self, _shard: ShardId) -> Result<(), StoreError> {
        Ok(())
    }
}
