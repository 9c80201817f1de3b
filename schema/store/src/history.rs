//! Reading and deleting history branches. Appends travel with the commit batch.

use async_trait::async_trait;
use proto_ids::ShardId;

use crate::{
    error::StoreError,
    execution::{BranchRecord, HistoryNode},
};

/// Order of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Rising event ids.
    Forward,
    /// Falling event ids.
    Reverse,
}

/// A range of events of one branch.
#[derive(Clone, Debug)]
pub struct HistoryRange {
    /// The shard of the run.
    pub shard: ShardId,
    /// The branch, with its ancestors.
    pub branch: BranchRecord,
    /// First event wanted; the node that contains it is returned whole.
    pub from: i64,
    /// End, exclusive.
    pub until: i64,
    /// Most nodes.
    pub limit: usize,
    /// Order.
    pub direction: Direction,
}

/// History branches.
#[async_trait]
pub trait HistoryStore: Send + Sync + 'static {
    /// Nodes that overlap the range, ancestors' included, in order. Fewer than `limit` means the end. A node
    /// of an ancestor that reaches past the fork is cut by the reader, not here.
    async fn history_read(&self, range: HistoryRange) -> Result<Vec<HistoryNode>, StoreError>;

    /// Branches of a tree.
    async fn history_branches(&self, shard: ShardId, tree_id: &str) -> Result<Vec<BranchRecord>, StoreError>;

    /// Deletes a branch: its own nodes that no other branch of the tree reads. Idempotent.
    async fn history_delete(&self, branch: &BranchRecord) -> Result<(), StoreError>;
}
