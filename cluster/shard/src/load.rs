//! The cache of workflow state. One entry per workflow id holds its lock, its loaded runs and its current
//! pointer, possibly ahead of the store. Entries are evicted by bytes, least recently used first (second
//! chance), those without an open run much sooner; one that is in use, waits for a commit or holds unstored
//! state has references and stays.
//!
//! When a write fails, the entry's epoch rises: cached state belongs to the old epoch and is dropped by the
//! next holder of the lock, and writes of the old epoch that still wait for their lane fail there.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use cluster_core::{Delta, MutableState, Task};
use cluster_runtime::Sampled;
use hashbrown::HashMap;
use parking_lot::Mutex;
use proto_ids::{NamespaceId, RunId, RunKey, WorkflowId};
use schema_store::execution::{CurrentRecord, HistoryNode};
use tokio::{
    sync::{Mutex as AsyncMutex, OwnedMutexGuard},
    time::Instant,
};

use crate::{commit::Ticket, error::ShardError, host::Host, record, shard::Shard};

/// Names an entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct WorkflowKey {
    pub(crate) namespace_id: NamespaceId,
    pub(crate) workflow_id: WorkflowId,
}

/// One workflow id.
pub(crate) struct Entry {
    pub(crate) key: WorkflowKey,
    epoch: AtomicU64,
    cached: Arc<AsyncMutex<Cached>>,
    used: AtomicBool,
    /// No run is open, as far as is loaded.
    closed: AtomicBool,
    bytes: AtomicUsize,
}

/// The cached state of a workflow id.
#[derive(Default)]
pub(crate) struct Cached {
    /// The epoch the rest belongs to.
    pub(crate) epoch: u64,
    /// The last write that was submitted; an answer that depends on this state waits for it.
    pub(crate) last: Option<Arc<Ticket>>,
    /// State in memory is invalid: it is dropped once the last write has ended.
    pub(crate) reload: bool,
    /// The current pointer; the outer `None` means not loaded.
    pub(crate) current: Option<Option<CurrentRecord>>,
    /// Loaded runs.
    pub(crate) runs: Vec<Slot>,
    /// Runs whose deletion is on its way: the store still has them.
    pub(crate) deleted: Vec<(RunId, Arc<Ticket>)>,
}

/// A loaded run.
pub(crate) struct Slot {
    pub(crate) mutable_state: MutableState,
    /// The row version that will be stored when all submitted writes are; 0 when there is no row yet.
    pub(crate) row: i64,
    /// Write-behind state: ahead of all submitted writes.
    pub(crate) write_behind: Option<WriteBehind>,
    /// Tasks may have been done on the ground of state that was not submitted.
    pub(crate) ahead: bool,
    /// The last write of this run.
    pub(crate) last: Option<Arc<Ticket>>,
    pub(crate) execution_info_bytes: usize,
    pub(crate) start_bytes: usize,
    pub(crate) item_bytes: usize,
}

/// Write-behind state of a run.
pub(crate) struct WriteBehind {
    pub(crate) since: Instant,
    pub(crate) delta: Delta,
    pub(crate) nodes: Vec<HistoryNode>,
    pub(crate) tasks: Vec<Task>,
    /// Set when the tasks are stored: the copies armed in memory before are then void.
    pub(crate) superseded: Arc<AtomicBool>,
}

/// Entries of one shard.
#[derive(Default)]
pub(crate) struct Cache(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    by_key: HashMap<WorkflowKey, Arc<Entry>>,
    /// Eviction order.
    clock: VecDeque<Weak<Entry>>,
    /// Entries that were closed, in that order; some may be open again or gone.
    closed: VecDeque<Weak<Entry>>,
}

/// A locked entry, loaded on demand.
pub(crate) struct Locked {
    pub(crate) shard: Shard,
    pub(crate) entry: Arc<Entry>,
    pub(crate) cached: OwnedMutexGuard<Cached>,
    since: Instant,
}

/// Entries without an open run that a shard keeps: what follows a close (the tasks, the visibility row, clients that
/// look at the result) finds them, later readers may load them again.
const CLOSED_KEPT: usize = 512;

/// A lock held for longer than this is worth a line in the log: nothing but the store is awaited under it.
const LONG_HOLD: Duration = Duration::from_secs(2);

/// On a machine that is too slow every hold is long.
static LONG_HOLDS: Sampled = Sampled::new();

impl Slot {
    fn bytes(&self) -> usize {
        // The struct, its strings and maps; the rest is close to its stored size.
        size_of::<Self>()
            + 1_500
            + 2 * (self.execution_info_bytes + self.start_bytes + self.item_bytes)
    }
}

impl Entry {
    fn new(key: WorkflowKey) -> Self {
        Self {
            key,
            epoch: AtomicU64::new(1),
            cached: Arc::new(AsyncMutex::new(Cached {
                epoch: 1,
                ..Cached::default()
            })),
            used: AtomicBool::new(true),
            closed: AtomicBool::new(false),
            bytes: AtomicUsize::new(0),
        }
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Makes everything of the present epoch void.
    pub(crate) fn fail(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn run_key(&self, run_id: &RunId) -> RunKey {
        RunKey {
            namespace_id: self.key.namespace_id.clone(),
            workflow_id: self.key.workflow_id.clone(),
            run_id: run_id.clone(),
        }
    }
}

impl Cache {
    /// The entry, made if need be; and some of the least used ones go when there are too many bytes.
    fn entry(&self, host: &Host, key: WorkflowKey) -> Arc<Entry> {
        let mut entries = self.0.lock();
        if let Some(found) = entries.by_key.get(&key) {
            found.used.store(true, Ordering::Relaxed);
            return found.clone();
        }
        let made = Arc::new(Entry::new(key.clone()));
        entries.by_key.insert(key, made.clone());
        entries.clock.push_back(Arc::downgrade(&made));
        entries.compact();
        if host.cache_bytes.load(Ordering::Relaxed) > host.options.cache_bytes {
            entries.evict(host, 16);
        }
        made
    }

    /// Whether anything of the workflow id is in memory.
    pub(crate) fn holds(&self, key: &WorkflowKey) -> bool {
        self.0.lock().by_key.contains_key(key)
    }

    /// Evicts while the process holds too many bytes.
    pub(crate) fn trim(&self, host: &Host) {
        let mut entries = self.0.lock();
        let looks = entries.clock.len();
        entries.evict(host, looks);
    }

    /// The entry has no open run any more: the ones closed longest ago go.
    fn closed(&self, host: &Host, entry: &Arc<Entry>) {
        let mut entries = self.0.lock();
        entries.closed.push_back(Arc::downgrade(entry));
        entries.evict_closed(host);
    }

    /// Forgets everything.
    pub(crate) fn clear(&self, host: &Host) {
        let mut entries = self.0.lock();
        for entry in entries.by_key.values() {
            Host::recount(&host.cache_bytes, entry.bytes.swap(0, Ordering::Relaxed), 0);
        }
        *entries = Entries::default();
    }
}

impl Entries {
    fn evict(&mut self, host: &Host, looks: usize) {
        for _ in 0..looks {
            if host.cache_bytes.load(Ordering::Relaxed) <= host.options.cache_bytes {
                return;
            }
            let Some(next) = self.clock.pop_front() else {
                return;
            };
            let Some(entry) = next.upgrade() else {
                continue;
            };
            if entry.used.swap(false, Ordering::Relaxed) || !self.remove_idle(host, &entry) {
                self.clock.push_back(next);
            }
        }
    }

    fn evict_closed(&mut self, host: &Host) {
        // One that is still in use gets to the end; a look at two others makes up for it.
        for _ in 0..3 {
            if self.closed.len() <= CLOSED_KEPT {
                return;
            }
            let Some(next) = self.closed.pop_front() else {
                return;
            };
            let Some(entry) = next.upgrade() else {
                continue;
            };
            if entry.closed.load(Ordering::Relaxed) && !self.remove_idle(host, &entry) {
                self.closed.push_back(next);
            }
        }
    }

    /// Removes the entry if it is not in use and no write of it waits.
    fn remove_idle(&mut self, host: &Host, entry: &Arc<Entry>) -> bool {
        // The map's reference and the caller's.
        let is_idle = Arc::strong_count(entry) == 2;
        if is_idle && self.by_key.remove(&entry.key).is_some() {
            Host::recount(&host.cache_bytes, entry.bytes.load(Ordering::Relaxed), 0);
        }
        is_idle
    }

    /// Drops what is left in the clock of entries that went otherwise.
    fn compact(&mut self) {
        if self.clock.len() > 2 * self.by_key.len() + 64 {
            self.clock.retain(|entry| entry.strong_count() > 0);
        }
    }
}

impl Locked {
    /// Locks the entry and drops what became void since.
    pub(crate) async fn lock(shard: &Shard, key: WorkflowKey) -> Result<Self, ShardError> {
        shard.check()?;
        let entry = shard.0.cache.entry(&shard.0.host, key);
        let cached = entry.cached.clone().lock_owned().await;
        let mut locked = Self {
            shard: shard.clone(),
            entry,
            cached,
            since: Instant::now(),
        };
        locked.refresh().await;
        shard.check()?;
        Ok(locked)
    }

    async fn refresh(&mut self) {
        if self.cached.reload
            && let Some(last) = self.cached.last.clone()
        {
            // However it ends, afterwards the store has all there is.
            let _ = last.wait().await;
        }
        let epoch = self.entry.epoch();
        if self.cached.reload || self.cached.epoch != epoch {
            if !self.cached.reload {
                self.regenerate_lost();
            }
            *self.cached = Cached {
                epoch,
                ..Cached::default()
            };
            self.shard.forget_write_behind(&self.entry.key);
        }
    }

    /// Invalidates what is in memory: it is dropped as soon as the writes under way have ended, and pending
    /// tasks are generated again by [`Shard::regenerate_tasks`].
    pub(crate) fn invalidate(&mut self) {
        self.cached.reload = true;
        self.regenerate_lost();
    }

    /// Regenerates pending tasks of runs where a task may have been done on the ground of state that is dropped now.
    fn regenerate_lost(&self) {
        let lossy = self.cached.runs.iter().filter(|s| s.ahead);
        let runs = lossy.map(|s| s.mutable_state.key.run_id.clone()).collect();
        self.shard.regenerate_tasks(self.entry.clone(), runs);
    }

    /// The current pointer.
    pub(crate) async fn current(&mut self) -> Result<&Option<CurrentRecord>, ShardError> {
        if self.cached.current.is_none() {
            let key = &self.entry.key;
            let store = &self.shard.0.host.deps.store.execution;
            let found = store
                .current_load(self.shard.id(), &key.namespace_id, &key.workflow_id)
                .await?;
            self.cached.current = Some(found);
        }
        Ok(self.cached.current.as_ref().unwrap_or(&None))
    }

    /// Where the run is among the loaded ones; it is loaded if need be.
    pub(crate) async fn find(&mut self, run_id: &RunId) -> Result<Option<usize>, ShardError> {
        if let Some(at) = self.loaded(run_id) {
            return Ok(Some(at));
        }
        self.cached.deleted.retain(|(_, write)| !write.is_done());
        if self.cached.deleted.iter().any(|(id, _)| id == run_id) {
            return Ok(None);
        }
        let key = self.entry.run_key(run_id);
        let host = &self.shard.0.host;
        host.meters.loads.inc();
        let Some(stored) = host
            .deps
            .store
            .execution
            .run_load(self.shard.id(), &key)
            .await?
        else {
            return Ok(None);
        };
        let (execution_info_bytes, start_bytes) = (stored.hot.len(), stored.start.len());
        let item_bytes = stored.items.iter().map(|(_, value)| value.len()).sum();
        let row = stored.version;
        let ms = record::decode(key, stored).map_err(|error| {
            let run = self.entry.run_key(run_id);
            // Whoever asks again and again would fill the log.
            if host.is_first_told_unreadable(&run) {
                tracing::error!(shard = %self.shard.id(), %run, %error, "a stored run cannot be read");
            }
            ShardError::Corrupt(error.to_string())
        })?;
        self.cached.runs.push(Slot {
            mutable_state: ms,
            row,
            write_behind: None,
            ahead: false,
            last: None,
            execution_info_bytes,
            start_bytes,
            item_bytes,
        });
        Ok(Some(self.cached.runs.len() - 1))
    }

    /// Where the run is among the loaded ones.
    pub(crate) fn loaded(&self, run_id: &RunId) -> Option<usize> {
        self.cached
            .runs
            .iter()
            .position(|s| s.mutable_state.key.run_id == *run_id)
    }

    /// Forgets closed runs whose writes are all done, so that a long chain does not pile up.
    pub(crate) fn prune(&mut self) {
        if self.cached.runs.len() <= 4 {
            return;
        }
        let current = self
            .cached
            .current
            .as_ref()
            .and_then(|c| c.as_ref())
            .map(|c| c.run_id.clone());
        self.cached.runs.retain(|slot| {
            slot.mutable_state.is_running()
                || slot.write_behind.is_some()
                || slot.last.as_ref().is_some_and(|t| !t.is_done())
                || current.as_ref() == Some(&slot.mutable_state.key.run_id)
        });
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        let held = self.since.elapsed();
        if held > LONG_HOLD {
            LONG_HOLDS.say(|unsaid| {
                tracing::warn!(shard = %self.shard.id(), namespace = %self.entry.key.namespace_id,
                    workflow_id = %self.entry.key.workflow_id, ?held, unsaid, "a workflow was locked for long");
            });
        }
        let bytes = match self.shard.is_lost() {
            true => 0,
            false => 300 + self.cached.runs.iter().map(Slot::bytes).sum::<usize>(),
        };
        let before = self.entry.bytes.swap(bytes, Ordering::Relaxed);
        let host = &self.shard.0.host;
        Host::recount(&host.cache_bytes, before, bytes);
        let runs = &self.cached.runs;
        let is_closed = !runs.is_empty() && !runs.iter().any(|s| s.mutable_state.is_running());
        let was_closed = self.entry.closed.swap(is_closed, Ordering::Relaxed);
        if is_closed && !was_closed && !self.shard.is_lost() {
            self.shard.0.cache.closed(host, &self.entry);
        }
    }
}
