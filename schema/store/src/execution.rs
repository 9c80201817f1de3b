//! Runs and everything that changes with them in one transaction: the commit lane's side of the store.

use std::collections::HashSet;

use async_trait::async_trait;
use bytes::Bytes;
use proto_ids::{NamespaceId, RangeId, RunId, RunKey, ShardId, TaskId, Timestamp, WorkflowId};

use crate::error::{CommitError, StoreError};

/// One transaction: updates of many runs in many shards of one process.
#[derive(Clone, Debug, Default)]
pub struct CommitBatch {
    /// Which lane writes; unique per process start.
    pub lane: String,
    /// Rises by one with each batch of the lane; stored with it so that an unknown outcome can be settled.
    pub seq: i64,
    /// Range of every shard that appears below; all are checked.
    pub fences: Vec<Fence>,
    /// At most one per run.
    pub updates: Vec<RunUpdate>,
    /// Queue positions and trims, per shard.
    pub progress: Vec<ShardProgress>,
}

/// A shard and the range its owner holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The shard.
    pub shard: ShardId,
    /// The range.
    pub range: RangeId,
}

/// The write of one transaction to one run.
#[derive(Clone, Debug)]
pub struct RunUpdate {
    /// Its shard.
    pub shard: ShardId,
    /// The run.
    pub key: RunKey,
    /// The guard: what must be stored before.
    pub expected: Expected,
    /// The write to the run's row.
    pub row: RowWrite,
    /// Items: upserts (`Some`) and deletes (`None`); each key at most once.
    pub items: Vec<ItemWrite>,
    /// All stored items go before `items` are written.
    pub items_replaced: bool,
    /// The write to the current pointer of the workflow id.
    pub current: Option<CurrentWrite>,
    /// Branches that begin with this update.
    pub branches: Vec<BranchRecord>,
    /// History nodes; a node that exists is replaced.
    pub history: Vec<HistoryNode>,
    /// Tasks, as rows for recovery; at most one row per merged update, ids rising within the shard.
    pub outbox: Vec<OutboxRow>,
    /// Tasks with a far fire time.
    pub timers: Vec<TimerRow>,
}

/// Guard of a run's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The run does not exist.
    Absent,
    /// The run exists with this row version.
    Version(i64),
    /// No guard (delete by retention, branch-only writes).
    Any,
}

/// The run's row.
#[derive(Clone, Debug)]
pub enum RowWrite {
    /// Insert or update.
    Put {
        /// The new row version.
        version: i64,
        /// The part that changes often.
        hot: Bytes,
        /// The part that does not; `None` keeps what is stored.
        start: Option<Bytes>,
    },
    /// Remove the row and all items. History is deleted apart, by branch.
    Delete,
    /// Leave it.
    Keep,
}

/// A part of the run stored as a row of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemWrite {
    /// Kind and key within the run.
    pub key: ItemRowKey,
    /// The value; `None` deletes.
    pub value: Option<Bytes>,
}

/// Names an item within its run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemRowKey {
    /// Its kind; numbers are given by the writer and never reused.
    pub kind: i16,
    /// Its name within the kind.
    pub id: String,
}

/// Change of a workflow id's current pointer. Touched only at start, close, reset and continue-as-new.
#[derive(Clone, Debug)]
pub struct CurrentWrite {
    /// The guard: what must be stored before.
    pub expected: CurrentExpected,
    /// The new pointer; `None` removes it.
    pub record: Option<CurrentRecord>,
}

/// Guard of a current pointer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CurrentExpected {
    /// There is none.
    Absent,
    /// It names this run.
    Run(RunId),
    /// No guard.
    Any,
}

/// Which run of a workflow id is current, and what id policies need to know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CurrentRecord {
    /// The run.
    pub run_id: RunId,
    /// Request id that started it, for dedup.
    pub request_id: String,
    /// Its status, as the public enum's number.
    pub status: i32,
    /// Version of its last write.
    pub last_write_version: i64,
    /// When it started.
    pub start_time: Timestamp,
    /// First run of its chain.
    pub first_run_id: RunId,
}

/// A branch of a history tree. Deleting one branch keeps what others still read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchRecord {
    /// The shard of the run.
    pub shard: ShardId,
    /// The tree.
    pub tree_id: String,
    /// The branch.
    pub branch_id: String,
    /// Ancestors, oldest first: (branch, begin inclusive, end exclusive).
    pub ancestors: Vec<(String, i64, i64)>,
}

/// One batch of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryNode {
    /// The tree.
    pub tree_id: String,
    /// The branch.
    pub branch_id: String,
    /// Id of its first event.
    pub node_id: i64,
    /// Id after its last event.
    pub next_node_id: i64,
    /// The events, encoded as `temporal.api.history.v1.History`.
    pub data: Bytes,
}

/// The tasks of one update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxRow {
    /// Lowest task id in it.
    pub first_task_id: TaskId,
    /// Highest task id in it; the row's key with the shard.
    pub last_task_id: TaskId,
    /// Run and tasks.
    pub data: Bytes,
}

/// A task that is due later than the outbox should keep it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimerRow {
    /// When.
    pub fire_at: Timestamp,
    /// Its id; breaks ties.
    pub task_id: TaskId,
    /// Run and task.
    pub data: Bytes,
}

/// Positions of a shard's queues and what may go.
#[derive(Clone, Debug)]
pub struct ShardProgress {
    /// The shard.
    pub shard: ShardId,
    /// Queue positions, as one blob.
    pub state: Bytes,
    /// Outbox rows whose last task id is at or below this go.
    pub trim_outbox: Option<TaskId>,
    /// Timer rows due at or before this (and fired) go.
    pub trim_timers: Option<(Timestamp, TaskId)>,
}

/// A stored run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRecord {
    /// Row version.
    pub version: i64,
    /// The part that changes often.
    pub hot: Bytes,
    /// The part that does not.
    pub start: Bytes,
    /// Items in key order.
    pub items: Vec<(ItemRowKey, Bytes)>,
}

/// How many of a lane's last commits [`ExecutionStore::commit_happened`] can tell of. A lane stops at the first
/// unknown one, so more than one is comfort.
pub const LANE_COMMITS_KEPT: i64 = 16;

impl CommitBatch {
    /// Refuses a batch that breaks the contract of its fields; every backend asks before it writes.
    pub fn check(&self) -> Result<(), CommitError> {
        let refuse = |what: String| Err(CommitError::Refused(what));
        let fenced: HashSet<ShardId> = self.fences.iter().map(|fence| fence.shard).collect();
        if fenced.len() != self.fences.len() {
            return refuse("a shard is fenced twice in one batch".to_owned());
        }
        let mut runs = HashSet::with_capacity(self.updates.len());
        for update in &self.updates {
            if !fenced.contains(&update.shard) {
                return refuse(format!(
                    "shard {} of run {} has no fence",
                    update.shard, update.key
                ));
            }
            if !runs.insert((update.shard, &update.key)) {
                return refuse(format!("run {} is updated twice in one batch", update.key));
            }
            let row_is_there = match update.row {
                RowWrite::Put { .. } => true,
                RowWrite::Keep => matches!(update.expected, Expected::Version(_)),
                RowWrite::Delete => false,
            };
            let writes_items = update.items_replaced || !update.items.is_empty();
            if writes_items && !row_is_there {
                return refuse(format!("run {} has items but no row", update.key));
            }
        }
        match self
            .progress
            .iter()
            .find(|progress| !fenced.contains(&progress.shard))
        {
            Some(progress) => refuse(format!("shard {} has no fence", progress.shard)),
            None => Ok(()),
        }
    }
}

/// Runs, pointers, outbox and timers.
#[async_trait]
pub trait ExecutionStore: Send + Sync + 'static {
    /// Commits the batch whole or not at all, in as few round trips as the backend can, durably: when this
    /// returns `Ok`, a power cut loses nothing of it. Every fence is checked inside the transaction.
    /// Cancelling the future leaves the outcome unknown.
    async fn commit(&self, batch: CommitBatch) -> Result<(), CommitError>;

    /// Whether the lane's batch with this sequence number is stored. Meaningful only after every shard of
    /// that batch was acquired anew, which waits out a transaction still under way, and only for the lane's
    /// last [`LANE_COMMITS_KEPT`] commits.
    async fn commit_happened(&self, lane: &str, seq: i64) -> Result<bool, StoreError>;

    /// A run with its items, in one round trip.
    async fn run_load(&self, shard: ShardId, key: &RunKey)
    -> Result<Option<RunRecord>, StoreError>;

    /// The current pointer of a workflow id.
    async fn current_load(
        &self,
        shard: ShardId,
        namespace_id: &NamespaceId,
        workflow_id: &WorkflowId,
    ) -> Result<Option<CurrentRecord>, StoreError>;

    /// Outbox rows with a last task id above `after`, in order.
    async fn outbox_read(
        &self,
        shard: ShardId,
        after: TaskId,
        limit: usize,
    ) -> Result<Vec<OutboxRow>, StoreError>;

    /// Timer rows after `after` and due at or before `until`, in order of (time, id).
    async fn timer_read(
        &self,
        shard: ShardId,
        after: (Timestamp, TaskId),
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<TimerRow>, StoreError>;

    /// Keys of all runs of a shard, after `after`, in an order of the store's own that never changes; for scans
    /// (force replication, verification).
    async fn run_list(
        &self,
        shard: ShardId,
        after: Option<RunKey>,
        limit: usize,
    ) -> Result<Vec<RunKey>, StoreError>;
}
