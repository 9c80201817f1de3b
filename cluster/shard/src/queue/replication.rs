//! Replication tasks: the last ones in memory for streams that keep up, all of them in the outbox until
//! every cluster that has a copy of some namespace has acknowledged them, whether it is connected or not.
//!
//! A reader is one remote shard. What it acknowledged belongs to the store behind it: a cluster that comes
//! back with a new store begins anew, and from which row on it has had everything is kept with it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use cluster_core::task::Category;
use proto_ids::{ClusterName, NamespaceId, ShardId, TaskId};
use tokio::{sync::watch, time::Instant};

use super::QueuedTask;
use crate::{error::ShardError, record::AckLevels, shard::Shard};

/// Outbox rows read at once when a stream is behind the ring.
const PAGE: usize = 256;

/// A remote shard that reads this shard's replication tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reader {
    /// The cluster id (UUID) of the store that reads; empty while none was sent.
    pub incarnation: String,
    /// Whether it ever opened a stream. One that has not has acknowledged nothing.
    pub connected: bool,
    /// Everything below is durable there.
    pub acked: TaskId,
    /// From here on it was sent every row it needs; 0 when that is all this shard ever wrote.
    pub complete_since: TaskId,
    /// It took the place of another incarnation, and rows from before were gone by then.
    pub came_back_empty: bool,
}

/// Why an acknowledgement is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AckRefused {
    /// It lies beyond what is durable here.
    #[error("task {acked} is acknowledged, and the shard has written tasks below {end} only")]
    NotWritten {
        /// The acknowledged position, exclusive.
        acked: TaskId,
        /// The end of the queue, exclusive.
        end: TaskId,
    },
    /// The acknowledgement comes from another reader than the one whose position is kept.
    #[error("the reader's place was taken by the store {incarnation:?}")]
    Replaced {
        /// The store that reads now.
        incarnation: String,
    },
}

/// A cluster whose acknowledgements replication tasks wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remote {
    pub(crate) name: ClusterName,
    pub(crate) shard_count: i32,
}

/// The name of a reader: its cluster, and which of its shards.
pub fn reader_name(cluster: &str, shard: ShardId) -> String {
    format!("{cluster}/{shard}")
}

/// The replication side of one shard's queues.
pub(super) struct Stream {
    ring: VecDeque<Arc<QueuedTask>>,
    capacity: usize,
    /// From here on the ring holds every task.
    complete_from: TaskId,
    /// Ids that some cluster has not acknowledged.
    open: BTreeSet<TaskId>,
    /// Highest id that may have been trimmed; 0 while every row ever written is there.
    dropped: TaskId,
    readers: BTreeMap<String, Reader>,
    /// Namespaces of which a cluster that came back empty was found to lack nothing since.
    complete: BTreeMap<ClusterName, BTreeSet<NamespaceId>>,
    /// When a reader came anew the last time, in this process.
    came: BTreeMap<String, Instant>,
}

/// The cluster of a reader.
fn cluster_of(reader: &str) -> &str {
    reader
        .rsplit_once('/')
        .map_or(reader, |(cluster, _)| cluster)
}

impl Stream {
    pub(super) fn new(first: TaskId, stored: &AckLevels, capacity: usize) -> Self {
        Self {
            ring: VecDeque::new(),
            capacity,
            complete_from: first,
            open: BTreeSet::new(),
            dropped: stored.dropped,
            readers: stored.readers.clone(),
            complete: BTreeMap::new(),
            came: BTreeMap::new(),
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

    pub(super) fn readers(&self) -> &BTreeMap<String, Reader> {
        &self.readers
    }

    pub(super) fn dropped(&self) -> TaskId {
        self.dropped
    }

    /// Up to here no cluster needs anything. A shard of theirs that never acknowledged needs everything.
    pub(super) fn level(
        &mut self,
        shard: ShardId,
        shard_count: i32,
        committed: TaskId,
        remotes: &[Remote],
    ) -> TaskId {
        // Nothing is kept for a cluster that was removed: added again, it begins with nothing assumed.
        let is_known = |name: &str| remotes.iter().any(|r| r.name.as_str() == cluster_of(name));
        self.readers.retain(|name, _| is_known(name));
        if !self.open.is_empty() {
            let acked = remotes.iter().map(|r| self.acked_by(shard, shard_count, r));
            // Nobody has a copy: what is registered but not yet committed stays, nothing else.
            let below = acked.min().unwrap_or(committed.next());
            let kept = self.open.split_off(&below);
            let gone = std::mem::replace(&mut self.open, kept);
            self.dropped = self.dropped.max(gone.last().copied().unwrap_or_default());
        }
        self.open
            .first()
            .map_or(committed, |id| TaskId::new(id.get() - 1))
    }

    /// The position that all shards of a cluster that are joined with this one have acknowledged.
    fn acked_by(&self, shard: ShardId, shard_count: i32, remote: &Remote) -> TaskId {
        let acked = |theirs: ShardId| {
            let reader = self.readers.get(&reader_name(remote.name.as_str(), theirs));
            reader.map(|r| r.acked).unwrap_or_default()
        };
        let joined = shard.mapped(shard_count, remote.shard_count);
        joined.into_iter().map(acked).min().unwrap_or_default()
    }

    /// The oldest row that is left, as the begin of what a reader without a past can get.
    fn oldest(&self) -> TaskId {
        match self.dropped.get() {
            0 => TaskId::default(),
            _ => self.dropped.next(),
        }
    }

    /// A reader opens a stream. Returns how it stands; it reads on from what it acknowledged.
    fn enter(&mut self, name: &str, incarnation: &str) -> Reader {
        let oldest = self.oldest();
        let is_new = !self.readers.contains_key(name);
        let reader = self.readers.entry(name.to_owned()).or_default();
        let is_other = !incarnation.is_empty()
            && !reader.incarnation.is_empty()
            && reader.incarnation != incarnation;
        if is_new || is_other {
            self.complete.remove(&ClusterName::new(cluster_of(name)));
            self.came.insert(name.to_owned(), Instant::now());
            *reader = Reader {
                complete_since: oldest,
                came_back_empty: is_other && oldest > TaskId::default(),
                ..Reader::default()
            };
        } else if reader.connected && reader.acked < oldest {
            // It was away while rows went that it had not got.
            reader.complete_since = oldest;
        }
        if !incarnation.is_empty() {
            incarnation.clone_into(&mut reader.incarnation);
        }
        reader.connected = true;
        reader.clone()
    }

    fn acknowledge(
        &mut self,
        name: &str,
        incarnation: &str,
        below: TaskId,
        end: TaskId,
    ) -> Result<bool, AckRefused> {
        if below > end || below < TaskId::default() {
            return Err(AckRefused::NotWritten { acked: below, end });
        }
        let reader = self.readers.get_mut(name);
        let is_same = |r: &Reader| incarnation.is_empty() || r.incarnation == incarnation;
        match reader {
            Some(reader) if is_same(reader) => {
                let rises = below > reader.acked;
                reader.acked = reader.acked.max(below);
                Ok(rises)
            }
            other => Err(AckRefused::Replaced {
                incarnation: other.map(|r| r.incarnation.clone()).unwrap_or_default(),
            }),
        }
    }

    /// A cluster lacks nothing of a namespace, as a comparison that began at `since` found. Whether that was the last one
    /// of those that are `needed`, so that it counts as empty no longer.
    fn complete(
        &mut self,
        cluster: &ClusterName,
        namespace: &NamespaceId,
        needed: &[NamespaceId],
        since: Instant,
    ) -> bool {
        let came = self.came.iter();
        let mut came = came.filter(|(name, _)| cluster_of(name) == cluster.as_str());
        if came.any(|(_, came)| *came >= since) {
            // It was the store before that has everything.
            return false;
        }
        let of_cluster = |(name, _): &(&String, &mut Reader)| cluster_of(name) == cluster.as_str();
        let mut empty: Vec<_> = self
            .readers
            .iter_mut()
            .filter(of_cluster)
            .map(|(_, reader)| reader)
            .filter(|reader| reader.came_back_empty)
            .collect();
        if empty.is_empty() {
            return false;
        }
        let known = self.complete.entry(cluster.clone()).or_default();
        known.insert(namespace.clone());
        if !needed.iter().all(|id| known.contains(id)) {
            return false;
        }
        empty
            .iter_mut()
            .for_each(|reader| reader.came_back_empty = false);
        self.complete.remove(cluster);
        true
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
                let category = Category::Transfer;
                let tasks = self.tasks_of_row(category, row.last_task_id, &row.data);
                let wanted = tasks.await?.into_iter().filter(|t| {
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

    /// A reader (see [`reader_name`]) of a store with this id opens a stream. From here on rows are kept for
    /// it. A store with another id than before begins anew; an empty id is one that could not be learned, and
    /// goes on as whoever was there.
    pub fn replication_open(&self, reader: &str, incarnation: &str) -> Reader {
        let opened = self.0.queues.state.lock().stream.enter(reader, incarnation);
        self.mark_dirty();
        opened
    }

    /// A reader has everything below. Stored with a later commit; never falls. Refused from another store than
    /// the one that opened the stream last, and beyond what is durable here.
    pub fn replication_ack(
        &self,
        reader: &str,
        incarnation: &str,
        acked_below: TaskId,
    ) -> Result<(), AckRefused> {
        let end = *self.0.queues.watermark().borrow();
        let mut state = self.0.queues.state.lock();
        let stream = &mut state.stream;
        if stream.acknowledge(reader, incarnation, acked_below, end)? {
            drop(state);
            self.mark_dirty();
        }
        Ok(())
    }

    /// A comparison that began at `since` found that a cluster lacks nothing of a namespace. Once that is so of all `needed`, it counts no
    /// longer as one that came back empty.
    pub fn replication_complete(
        &self,
        cluster: &ClusterName,
        namespace: &NamespaceId,
        needed: &[NamespaceId],
        since: Instant,
    ) {
        let mut state = self.0.queues.state.lock();
        if state.stream.complete(cluster, namespace, needed, since) {
            drop(state);
            self.mark_dirty();
        }
    }

    /// Readers by name, those among them that are gone included.
    pub fn replication_readers(&self) -> BTreeMap<String, Reader> {
        self.0.queues.state.lock().stream.readers.clone()
    }

    /// Readers of a cluster with this many shards: one for each shard of it that is joined with this one,
    /// those that never connected included.
    pub fn replication_readers_of(
        &self,
        cluster: &ClusterName,
        shard_count: i32,
    ) -> Vec<(ShardId, Reader)> {
        let own_count = self.0.host.options.shard_count;
        let state = self.0.queues.state.lock();
        let joined = self.id().mapped(own_count, shard_count).into_iter();
        joined
            .map(|shard| {
                let name = reader_name(cluster.as_str(), shard);
                let reader = state.stream.readers.get(&name).cloned();
                (shard, reader.unwrap_or_default())
            })
            .collect()
    }
}
