//! The commit batch in memory: all fences, then all guards in order, then all writes.

use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Included, Unbounded},
};

use async_trait::async_trait;
use proto_ids::{NamespaceId, RunKey, ShardId, TaskId, Timestamp, WorkflowId};

use super::{CurrentKey, MemoryStore, Run, State};
use crate::{
    error::{CommitError, StoreError},
    execution::{
        CommitBatch, CurrentExpected, CurrentRecord, ExecutionStore, Expected, Fence,
        LANE_COMMITS_KEPT, OutboxRow, RowWrite, RunRecord, RunUpdate, ShardProgress, TimerRow,
    },
};

#[async_trait]
impl ExecutionStore for MemoryStore {
    async fn commit(&self, batch: CommitBatch) -> Result<(), CommitError> {
        batch.check()?;
        let mut state = self.state();
        state.check_fences(&batch.fences)?;
        state.check_guards(&batch.updates)?;
        for update in batch.updates {
            state.write(update);
        }
        for progress in batch.progress {
            state.progress(progress);
        }
        let seqs = state.lanes.entry(batch.lane).or_default();
        seqs.insert(batch.seq);
        while seqs.len() as i64 > LANE_COMMITS_KEPT {
            seqs.pop_first();
        }
        Ok(())
    }

    async fn commit_happened(&self, lane: &str, seq: i64) -> Result<bool, StoreError> {
        Ok(self
            .state()
            .lanes
            .get(lane)
            .is_some_and(|seqs| seqs.contains(&seq)))
    }

    async fn run_load(
        &self,
        shard: ShardId,
        key: &RunKey,
    ) -> Result<Option<RunRecord>, StoreError> {
        Ok(self
            .state()
            .runs
            .get(&(shard, key.clone()))
            .map(|run| RunRecord {
                version: run.version,
                hot: run.hot.clone(),
                start: run.start.clone(),
                items: run
                    .items
                    .iter()
                    .map(|(key, value)| (key.clone(), value.clone()))
                    .collect(),
            }))
    }

    async fn current_load(
        &self,
        shard: ShardId,
        namespace_id: &NamespaceId,
        workflow_id: &WorkflowId,
    ) -> Result<Option<CurrentRecord>, StoreError> {
        let key = (shard, namespace_id.clone(), workflow_id.clone());
        Ok(self.state().currents.get(&key).cloned())
    }

    async fn outbox_read(
        &self,
        shard: ShardId,
        after: TaskId,
        limit: usize,
    ) -> Result<Vec<OutboxRow>, StoreError> {
        let state = self.state();
        let rows = state
            .outbox
            .range((Excluded((shard, after)), Unbounded))
            .take_while(|((of, _), _)| *of == shard);
        Ok(rows.take(limit).map(|(_, row)| row.clone()).collect())
    }

    async fn timer_read(
        &self,
        shard: ShardId,
        after: (Timestamp, TaskId),
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<TimerRow>, StoreError> {
        let (low, high) = (
            (shard, after.0, after.1),
            (shard, until, TaskId::new(i64::MAX)),
        );
        if low >= high {
            return Ok(Vec::new());
        }
        let state = self.state();
        let rows = state
            .timers
            .range((Excluded(low), Included(high)))
            .take(limit);
        Ok(rows
            .map(|((_, fire_at, task_id), data)| TimerRow {
                fire_at: *fire_at,
                task_id: *task_id,
                data: data.clone(),
            })
            .collect())
    }

    async fn run_list(
        &self,
        shard: ShardId,
        after: Option<RunKey>,
        limit: usize,
    ) -> Result<Vec<RunKey>, StoreError> {
        let state = self.state();
        let low = match after {
            Some(key) => Excluded((shard, key)),
            None => Included((shard, RunKey::default())),
        };
        let runs = state
            .runs
            .range((low, Unbounded))
            .take_while(|((of, _), _)| *of == shard);
        Ok(runs.take(limit).map(|((_, key), _)| key.clone()).collect())
    }
}

impl State {
    fn check_fences(&self, fences: &[Fence]) -> Result<(), CommitError> {
        let lost = |fence: &&Fence| {
            self.shards.get(&fence.shard).map(|shard| shard.range) != Some(fence.range)
        };
        let fenced: Vec<ShardId> = fences
            .iter()
            .filter(lost)
            .map(|fence| fence.shard)
            .collect();
        if fenced.is_empty() {
            Ok(())
        } else {
            Err(CommitError::Fenced(fenced))
        }
    }

    /// Guards hold in the order of the updates: a pointer written by an earlier update of the batch is what
    /// a later one is compared with.
    fn check_guards(&self, updates: &[RunUpdate]) -> Result<(), CommitError> {
        let mut written: BTreeMap<CurrentKey, Option<&CurrentRecord>> = BTreeMap::new();
        let mut failed = Vec::new();
        for update in updates {
            let stored = self
                .runs
                .get(&(update.shard, update.key.clone()))
                .map(|run| run.version);
            let mut holds = match update.expected {
                Expected::Absent => stored.is_none(),
                Expected::Version(version) => stored == Some(version),
                Expected::Any => true,
            };
            if let Some(current) = &update.current {
                let key = current_key(update);
                let now = written
                    .get(&key)
                    .copied()
                    .unwrap_or_else(|| self.currents.get(&key));
                holds &= match &current.expected {
                    CurrentExpected::Absent => now.is_none(),
                    CurrentExpected::Run(run) => now.is_some_and(|now| now.run_id == *run),
                    CurrentExpected::Any => true,
                };
                if holds {
                    written.insert(key, current.record.as_ref());
                }
            }
            if !holds {
                failed.push(update.key.clone());
            }
        }
        if failed.is_empty() {
            Ok(())
        } else {
            Err(CommitError::Conflict(failed))
        }
    }

    fn write(&mut self, update: RunUpdate) {
        let shard = update.shard;
        if let Some(current) = &update.current {
            let key = current_key(&update);
            match current.record.clone() {
                Some(record) => self.currents.insert(key, record),
                None => self.currents.remove(&key),
            };
        }
        for branch in update.branches {
            let tree = self
                .branches
                .entry((shard, branch.tree_id.clone()))
                .or_default();
            tree.insert(branch.branch_id.clone(), branch);
        }
        for node in update.history {
            let tree = self.nodes.entry((shard, node.tree_id.clone())).or_default();
            tree.insert((node.branch_id.clone(), node.node_id), node);
        }
        for row in update.outbox {
            self.outbox.insert((shard, row.last_task_id), row);
        }
        for timer in update.timers {
            self.timers
                .insert((shard, timer.fire_at, timer.task_id), timer.data);
        }
        let key = (shard, update.key);
        match update.row {
            RowWrite::Delete => {
                self.runs.remove(&key);
                return;
            }
            RowWrite::Put {
                version,
                hot,
                start,
            } => {
                let run = self.runs.entry(key.clone()).or_insert_with(Run::empty);
                run.version = version;
                run.hot = hot;
                if let Some(start) = start {
                    run.start = start;
                }
            }
            RowWrite::Keep => {}
        }
        let Some(run) = self.runs.get_mut(&key) else {
            return;
        };
        if update.items_replaced {
            run.items.clear();
        }
        for item in update.items {
            match item.value {
                Some(value) => run.items.insert(item.key, value),
                None => run.items.remove(&item.key),
            };
        }
    }

    fn progress(&mut self, progress: ShardProgress) {
        let shard = progress.shard;
        if let Some(record) = self.shards.get_mut(&shard) {
            record.state = progress.state;
        }
        if let Some(until) = progress.trim_outbox {
            let first = (shard, TaskId::new(i64::MIN));
            drop_range(&mut self.outbox, first, &(shard, until));
        }
        if let Some((at, id)) = progress.trim_timers {
            let first = (
                shard,
                Timestamp::from_nanos(i64::MIN),
                TaskId::new(i64::MIN),
            );
            drop_range(&mut self.timers, first, &(shard, at, id));
        }
    }
}

/// Removes entries from `first` to `last`, both inclusive, without a walk over the others.
fn drop_range<K: Ord + Clone, V>(map: &mut BTreeMap<K, V>, first: K, last: &K) {
    if first > *last {
        return;
    }
    let gone: Vec<K> = map
        .range(first..=last.clone())
        .map(|(key, _)| key.clone())
        .collect();
    for key in gone {
        map.remove(&key);
    }
}

impl Run {
    fn empty() -> Self {
        Self {
            version: 0,
            hot: Default::default(),
            start: Default::default(),
            items: BTreeMap::new(),
        }
    }
}

fn current_key(update: &RunUpdate) -> CurrentKey {
    (
        update.shard,
        update.key.namespace_id.clone(),
        update.key.workflow_id.clone(),
    )
}
