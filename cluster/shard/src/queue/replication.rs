//! Replication tasks: the last ones in memory for streams that keep up, all of them in the outbox until
//! every connected cluster has acknowledged them.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use cluster_core::task::Category;
use proto_ids::{ClusterName, TaskId};
use tokio::sync::watch;

use super::QueuedTask;
use crate::{error::ShardError, record, shard::Shard};

/// Outbox rows read at once when a stream is behind the ring.
const PAGE: usize = 256;

/// The replication side of one shard's queues.
pub(super) struct Stream {
    ring: VecDeque<Arc<QueuedTask>>,
    capacity: usize,
    /// From here on the ring holds every task.
    complete_from: TaskId,
    /// Ids that some connected cluster has not acknowledged.
    open: BTreeSet<TaskId>,
    /// How far each reader has acknowledged, exclusive.
    readers: BTreeMap<String, TaskId>,
}

impl Stream {
    pub(super) fn new(first: TaskId, readers: BTreeMap<String, TaskId>, capacity: usize) -> Self {
        Self {
            ring: VecDeque::new(),
            capacity,
            complete_from: first,
            open: BTreeSet::new(),
            readers,
        }
    }

    /// A durable task.
    pub(super) fn push(&mut self, task: Arc<QueuedTask>) {
        if self.ring.len() >= self.capacity
            && let Some(gone) = self.ring.pop_front()
        {
            self.complete_from = gone.task_id.next();
        }
        self.ring.push_back(task);
    }

    pub(super) fn open(&mut self, id: TaskId) -> bool {
        self.open.insert(id)
    }

    pub(super) fn close(&mut self, id: TaskId) -> bool {
        self.open.remove(&id)
    }

    pub(super) fn readers(&self) -> &BTreeMap<String, TaskId> {
        &self.readers
    }

    /// Up to here no connected cluster needs anything. A cluster that never acknowledged needs everything.
    pub(super) fn level(&mut self, committed: TaskId, remotes: &[ClusterName]) -> TaskId {
        if !self.open.is_empty() {
            let below = remotes.iter().map(|r| self.acked_by(r)).min();
            self.open = match below {
                Some(below) => self.open.split_off(&below),
                // Nobody is connected: what is registered but not yet committed stays, nothing else.
                None => self.open.split_off(&committed.next()),
            };
        }
        self.open
            .first()
            .map_or(committed, |id| TaskId::new(id.get() - 1))
    }

    /// What all readers of a cluster have acknowledged.
    fn acked_by(&self, cluster: &ClusterName) -> TaskId {
        let name = cluster.as_str();
        let of_cluster = |reader: &str| {
            reader
                .strip_prefix(name)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let acks = self.readers.iter().filter(|(reader, _)| of_cluster(reader));
        acks.map(|(_, acked)| *acked).min().unwrap_or_default()
    }

    fn read(&self, from: TaskId, until: TaskId, limit: usize) -> Option<Vec<QueuedTask>> {
        if from < self.complete_from {
            return None;
        }
        let begin = self.ring.partition_point(|t| t.task_id < from);
        let wanted = self
            .ring
            .range(begin..)
            .take_while(|t| t.task_id < until)
            .take(limit);
        Some(wanted.map(|t| (**t).clone()).collect())
    }
}

impl Shard {
    /// Exclusive: every replication task below is durable and can be read. Rises with the shard's commits.
    pub fn replication_watermark(&self) -> watch::Receiver<TaskId> {
        self.0.queues.watermark()
    }

    /// Replication tasks from `from` (inclusive) up to `until` (exclusive), in order; fewer than `limit`
    /// means the end. Served from memory when the reader keeps up.
    pub async fn replication_read(
        &self,
        from: TaskId,
        until: TaskId,
        limit: usize,
    ) -> Result<Vec<QueuedTask>, ShardError> {
        self.check()?;
        let until = until.min(*self.0.queues.watermark().borrow());
        if let Some(found) = self.0.queues.state.lock().stream.read(from, until, limit) {
            return Ok(found);
        }
        let store = &self.0.host.deps.store.execution;
        let mut found = Vec::new();
        let mut after = TaskId::new(from.get() - 1);
        loop {
            let rows = store.outbox_read(self.id(), after, PAGE).await?;
            for row in &rows {
                after = row.last_task_id;
                let tasks = record::decode_tasks(&row.data)
                    .map_err(|e| ShardError::Corrupt(e.to_string()))?;
                let wanted = tasks.into_iter().filter(|t| {
                    t.task.kind.category() == Category::Replication
                        && t.task_id >= from
                        && t.task_id < until
                });
                found.extend(wanted);
            }
            if found.len() >= limit || rows.len() < PAGE || after >= until {
                found.truncate(limit);
                return Ok(found);
            }
        }
    }

    /// A reader has everything below. Readers are named by their cluster, or `cluster/shard` where several
    /// shards of one cluster read from this one. Stored with a later commit; never falls.
    pub fn replication_ack(&self, reader: &str, acked_below: TaskId) {
        let mut state = self.0.queues.state.lock();
        let known = state.stream.readers.entry(reader.to_owned()).or_default();
        if acked_below > *known {
            *known = acked_below;
            drop(state);
            self.mark();
        }
    }

    /// Forgets a reader, so that it holds nothing back any more.
    pub fn replication_forget(&self, reader: &str) {
        self.0.queues.state.lock().stream.readers.remove(reader);
        self.mark();
    }

    /// How far each reader has acknowledged, exclusive.
    pub fn replication_acks(&self) -> BTreeMap<String, TaskId> {
        self.0.queues.state.lock().stream.readers.clone()
    }
}
