//! Reading history: from the tail in memory when it reaches far enough back, else from the store. Only
//! committed batches, except that a run's own unsaved "started" events are shown to readers of its current
//! branch, because the worker that started the task has to see them.

use bytes::Bytes;
use cluster_core::BranchToken;
use proto_ids::{EventId, RunKey};
use proto_messages::Wire;
use proto_messages::temporal::api::history::v1::History;
use schema_store::{
    execution::{BranchRecord, HistoryNode},
    history::{Direction, HistoryRange},
};

use crate::{
    error::{ReadError, ShardError},
    load::Locked,
    record,
    shard::{Shard, key_of},
};

/// Events written together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryBatch {
    /// The first event.
    pub first: EventId,
    /// The event after the last one.
    pub next: EventId,
    /// Encoded `temporal.api.history.v1.History`.
    pub data: Bytes,
}

/// A page of history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryPage {
    /// Batches in the order asked for. The first may begin before the range, the last may reach past it:
    /// batches are never cut, except where a branch forks.
    pub batches: Vec<HistoryBatch>,
    /// Where the next page begins (forward: `from`; reverse: `until`); `None` at the end.
    pub next: Option<EventId>,
}

impl Shard {
    /// Batches of events `from` (inclusive) to `until` (exclusive), oldest first, at most `limit` batches.
    /// Without a branch: the run's current one (an empty run id means the current run).
    pub async fn history(
        &self,
        key: &RunKey,
        branch: Option<&BranchToken>,
        from: EventId,
        until: EventId,
        limit: usize,
    ) -> Result<HistoryPage, ReadError> {
        let limit = limit.max(1);
        let (branch, unsaved) = self.branch_to_read(key, branch).await?;
        let mut batches = self.read_forward(&branch, from, until, limit).await?;
        let end = batches.last().map_or(from, |b| b.next);
        let more = unsaved
            .into_iter()
            .filter(|b| b.first >= end && b.first < until);
        batches.extend(more);
        batches.truncate(limit);
        let next = batches.last().map(|b| b.next).filter(|next| *next < until);
        let next = next.filter(|_| batches.len() == limit);
        Ok(HistoryPage { batches, next })
    }

    /// The same, newest first: batches of events below `until` down to `from` (inclusive).
    pub async fn history_reverse(
        &self,
        key: &RunKey,
        branch: Option<&BranchToken>,
        from: EventId,
        until: EventId,
        limit: usize,
    ) -> Result<HistoryPage, ReadError> {
        let limit = limit.max(1);
        let (branch, mut batches) = self.branch_to_read(key, branch).await?;
        batches.retain(|b| b.first < until && b.next > from);
        batches.reverse();
        let committed = batches.last().map_or(until, |b| b.first);
        if batches.len() < limit {
            let rest = limit - batches.len();
            let read = self
                .read_store(&branch, from, committed, rest, Direction::Reverse)
                .await?;
            batches.extend(read);
        }
        batches.truncate(limit);
        let next = batches
            .last()
            .map(|b| b.first)
            .filter(|first| *first > from);
        let next = next.filter(|_| batches.len() == limit);
        Ok(HistoryPage { batches, next })
    }

    /// The branch asked for, and batches of it that are not stored yet.
    async fn branch_to_read(
        &self,
        key: &RunKey,
        branch: Option<&BranchToken>,
    ) -> Result<(BranchRecord, Vec<HistoryBatch>), ReadError> {
        if let Some(branch) = branch {
            self.check()?;
            return Ok((record::branch_record(self.id(), branch), Vec::new()));
        }
        let mut locked = Locked::lock(self, key_of(&key.namespace_id, &key.workflow_id)).await?;
        let run_id = if key.run_id.is_empty() {
            let current = locked.current().await?.as_ref().map(|c| c.run_id.clone());
            current.ok_or(ReadError::NotFound)?
        } else {
            key.run_id.clone()
        };
        let at = locked.find(&run_id).await?.ok_or(ReadError::NotFound)?;
        let slot = &locked.cached.runs[at];
        let versions = &slot.mutable_state.versions;
        let current = versions.histories.get(versions.current).ok_or_else(|| {
            ShardError::Corrupt(format!("run {} has no branch", slot.mutable_state.key))
        })?;
        let branch = record::branch_record(self.id(), &current.branch);
        let unsaved = slot
            .write_behind
            .iter()
            .flat_map(|b| b.nodes.iter().cloned().map(batch_of));
        let unsaved = unsaved.collect();
        let last = locked.cached.last.clone();
        drop(locked);
        if let Some(last) = last {
            last.wait().await?;
        }
        Ok((branch, unsaved))
    }

    async fn read_forward(
        &self,
        branch: &BranchRecord,
        from: EventId,
        until: EventId,
        limit: usize,
    ) -> Result<Vec<HistoryBatch>, ShardError> {
        match self
            .0
            .event_cache
            .read(&branch.branch_id, from, until, limit)
        {
            Some(found) => Ok(found),
            None => {
                self.read_store(branch, from, until, limit, Direction::Forward)
                    .await
            }
        }
    }

    async fn read_store(
        &self,
        branch: &BranchRecord,
        from: EventId,
        until: EventId,
        limit: usize,
        direction: Direction,
    ) -> Result<Vec<HistoryBatch>, ShardError> {
        if from >= until {
            return Ok(Vec::new());
        }
        let range = HistoryRange {
            shard: self.id(),
            branch: branch.clone(),
            from: from.get(),
            until: until.get(),
            limit,
            direction,
        };
        let nodes = self.0.host.deps.store.history.history_read(range).await?;
        nodes.into_iter().map(|node| cut(branch, node)).collect()
    }
}

fn batch_of(node: HistoryNode) -> HistoryBatch {
    HistoryBatch {
        first: EventId::new(node.node_id),
        next: EventId::new(node.next_node_id),
        data: node.data,
    }
}

/// A node of an ancestor may reach past the fork; what lies behind it belongs to the other branch.
fn cut(branch: &BranchRecord, node: HistoryNode) -> Result<HistoryBatch, ShardError> {
    let end = branch
        .ancestors
        .iter()
        .filter(|(id, _, _)| node.branch_id != branch.branch_id && *id == node.branch_id)
        .map(|(_, _, end)| *end)
        .max();
    let Some(end) = end.filter(|end| *end < node.next_node_id) else {
        return Ok(batch_of(node));
    };
    let mut history = History::from_wire(node.data.clone()).map_err(|e| {
        ShardError::Corrupt(format!("node {} of {}: {e}", node.node_id, node.branch_id))
    })?;
    history.events.retain(|e| e.event_id < end);
    let data = history.to_wire();
    Ok(HistoryBatch {
        first: EventId::new(node.node_id),
        next: EventId::new(end),
        data,
    })
}
