//! History branches in memory.

use async_trait::async_trait;
use proto_ids::ShardId;

use super::MemoryStore;
use crate::{
    error::StoreError,
    execution::{BranchRecord, HistoryNode},
    history::{Direction, HistoryRange, HistoryStore, keep_below, segments},
};

#[async_trait]
impl HistoryStore for MemoryStore {
    async fn history_read(&self, range: HistoryRange) -> Result<Vec<HistoryNode>, StoreError> {
        let state = self.state();
        let Some(nodes) = state
            .nodes
            .get(&(range.shard, range.branch.tree_id.clone()))
        else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        for segment in segments(&range.branch) {
            let low = (segment.branch_id.to_owned(), segment.begin);
            let high = (segment.branch_id.to_owned(), segment.end);
            let overlaps = |node: &&HistoryNode| {
                node.node_id < range.until && node.next_node_id.min(segment.end) > range.from
            };
            found.extend(
                nodes
                    .range(low..high)
                    .map(|(_, node)| node)
                    .filter(overlaps)
                    .cloned(),
            );
        }
        if range.direction == Direction::Reverse {
            found.reverse();
        }
        found.truncate(range.limit);
        Ok(found)
    }

    async fn history_branches(
        &self,
        shard: ShardId,
        tree_id: &str,
    ) -> Result<Vec<BranchRecord>, StoreError> {
        let state = self.state();
        let tree = state.branches.get(&(shard, tree_id.to_owned()));
        Ok(tree
            .map(|tree| tree.values().cloned().collect())
            .unwrap_or_default())
    }

    async fn history_delete(&self, branch: &BranchRecord) -> Result<(), StoreError> {
        let mut state = self.state();
        let tree = (branch.shard, branch.tree_id.clone());
        let mut left = state.branches.remove(&tree).unwrap_or_default();
        left.remove(&branch.branch_id);
        let keep = keep_below(branch, left.values());
        if let Some(nodes) = state.nodes.get_mut(&tree) {
            for (of, below) in keep {
                nodes.retain(|(id, node_id), _| *id != of || *node_id < below);
            }
            if nodes.is_empty() {
                state.nodes.remove(&tree);
            }
        }
        if !left.is_empty() {
            state.branches.insert(tree, left);
        }
        Ok(())
    }
}
