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
    async fn history_branches(
        &self,
        shard: ShardId,
        tree_id: &str,
    ) -> Result<Vec<BranchRecord>, StoreError>;

    /// Deletes a branch: its own nodes that no other branch of the tree reads. Idempotent.
    async fn history_delete(&self, branch: &BranchRecord) -> Result<(), StoreError>;
}

/// A stretch of one branch's own nodes that a branch reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// The branch of the nodes.
    pub branch_id: &'a str,
    /// First node id, inclusive.
    pub begin: i64,
    /// Node ids end here, exclusive.
    pub end: i64,
}

/// The nodes that a branch reads, oldest first: its ancestors' parts, then its own nodes.
pub fn segments(branch: &BranchRecord) -> Vec<Segment<'_>> {
    let mut all: Vec<Segment<'_>> = branch
        .ancestors
        .iter()
        .map(|(branch_id, begin, end)| Segment {
            branch_id,
            begin: *begin,
            end: *end,
        })
        .collect();
    all.push(Segment {
        branch_id: &branch.branch_id,
        begin: all.last().map_or(i64::MIN, |last| last.end),
        end: i64::MAX,
    });
    all
}

/// The nodes that deleting `branch` removes while `left` are the tree's other branches: for each named branch,
/// its nodes at or above the number. Besides the branch's own nodes these are nodes of ancestors that were
/// deleted earlier and were kept only for this branch.
pub fn keep_below<'a>(
    branch: &BranchRecord,
    left: impl IntoIterator<Item = &'a BranchRecord> + Clone,
) -> Vec<(String, i64)> {
    let mut cuts = Vec::new();
    for segment in segments(branch) {
        if left
            .clone()
            .into_iter()
            .any(|other| other.branch_id == segment.branch_id)
        {
            continue;
        }
        let readers = left.clone().into_iter().flat_map(|other| &other.ancestors);
        let needed = readers
            .filter(|(branch_id, _, _)| branch_id == segment.branch_id)
            .map(|(_, _, end)| *end)
            .max();
        cuts.push((segment.branch_id.to_owned(), needed.unwrap_or(i64::MIN)));
    }
    cuts
}
