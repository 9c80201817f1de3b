//! A shard that this process owns: the handle through which drivers read and change workflows.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use cluster_core::{DecisionContext, MutableState, Refusal, Reply, Transition};
use cluster_membership::Role;
use cluster_runtime::CancellationToken;
use hashbrown::HashMap;
use parking_lot::Mutex;
use proto_ids::{EventId, NamespaceId, RangeId, RunId, RunKey, ShardId, Timestamp, WorkflowId};
use schema_store::execution::CurrentRecord;
use tokio::{sync::watch, time::Instant};
use tracing::Instrument;

use crate::{
    changes::Changes,
    commit::Lane,
    error::{Ended, ReadError, ShardError, TxnError, UpdateError},
    event_cache::EventCache,
    host::Host,
    lease::Lease,
    load::{Cache, Entry, Locked, WorkflowKey},
    notify::{RunProgress, Watchers},
    queue::{Executable, QueuedTask, Queues, WaitList},
    record::AckLevels,
    regenerate::Regenerations,
    txn::{Mode, Txn},
};

/// A shard this process owns. Cheap to clone; clones are the same shard. After the shard is lost every
/// method fails, and a new handle has to be asked for.
#[derive(Clone)]
pub struct Shard(pub(crate) Arc<ShardInner>);

pub(crate) struct ShardInner {
    pub(crate) id: ShardId,
    pub(crate) host: Arc<Host>,
    pub(crate) lane: Arc<Lane>,
    pub(crate) lease: Lease,
    pub(crate) cache: Cache,
    pub(crate) queues: Queues,
    pub(crate) wait_list: WaitList,
    pub(crate) watchers: Watchers,
    pub(crate) changes: Changes,
    pub(crate) event_cache: EventCache,
    /// Runs whose tasks have to be generated again.
    pub(crate) regenerations: Regenerations,
    /// Entries with write-behind state.
    pub(crate) write_behind: Mutex<HashMap<WorkflowKey, Arc<Entry>>>,
    /// Whether the flusher knows of it.
    pub(crate) dirty: AtomicBool,
    pub(crate) last_flush: Mutex<Instant>,
    lost: CancellationToken,
    /// No new transactions: it is being handed over in good order.
    closing: AtomicBool,
}

/// The result of an update.
#[derive(Clone, Debug)]
pub struct Updated<T> {
    /// The value that the closure returned.
    pub value: T,
    /// The rules' data for the answer.
    pub reply: Reply,
    /// The run, when the request did not name one.
    pub run_id: RunId,
    /// Id of the run's next event afterwards.
    pub next_event_id: EventId,
    /// Whether the run is closed afterwards.
    pub closed: bool,
}

impl Shard {
    pub(crate) fn new(host: Arc<Host>, id: ShardId, range: RangeId, stored: AckLevels) -> Self {
        let lease = Lease::new(range);
        let edge = host.now().plus(host.options.timer_window);
        let queues = Queues::new(
            (id, host.options.shard_count),
            lease.next(),
            stored,
            edge,
            host.options.replication_ring,
        );
        Self(Arc::new(ShardInner {
            id,
            lane: host.lane_of(id),
            lease,
            cache: Cache::default(),
            queues,
            wait_list: WaitList::default(),
            watchers: Watchers::default(),
            changes: Changes::default(),
            event_cache: EventCache::default(),
            regenerations: Regenerations::default(),
            write_behind: Mutex::default(),
            dirty: AtomicBool::new(false),
            last_flush: Mutex::new(Instant::now()),
            lost: CancellationToken::new(),
            closing: AtomicBool::new(false),
            host,
        }))
    }

    /// Which shard.
    pub fn id(&self) -> ShardId {
        self.0.id
    }

    /// The range its writes name.
    pub fn range(&self) -> RangeId {
        self.0.lease.range()
    }

    /// Returns when the shard is lost.
    pub async fn lost(&self) {
        self.0.lost.cancelled().await;
    }

    /// The general transaction on one workflow id: locks it, loads on demand, lets `f` decide, hands what it
    /// staged to the commit lane, unlocks, and returns when everything `f` may have seen is durable. Refuses
    /// when the namespace is not active here or in handover.
    pub async fn transact<T, E>(
        &self,
        namespace_id: &NamespaceId,
        workflow_id: &WorkflowId,
        f: impl AsyncFnOnce(&mut Txn) -> Result<T, E>,
    ) -> Result<T, TxnError<E>> {
        self.run_txn(key_of(namespace_id, workflow_id), Mode::Active, f)
            .await
    }

    /// [`Self::transact`] for writes that are right on a standby too: events of other clusters, deletions.
    pub async fn replicate<T, E>(
        &self,
        namespace_id: &NamespaceId,
        workflow_id: &WorkflowId,
        f: impl AsyncFnOnce(&mut Txn) -> Result<T, E>,
    ) -> Result<T, TxnError<E>> {
        self.run_txn(key_of(namespace_id, workflow_id), Mode::Replicating, f)
            .await
    }

    async fn run_txn<T, E>(
        &self,
        key: WorkflowKey,
        mode: Mode,
        f: impl AsyncFnOnce(&mut Txn) -> Result<T, E>,
    ) -> Result<T, TxnError<E>> {
        let span = tracing::debug_span!("transaction", shard = %self.id(),
            namespace = %key.namespace_id, workflow_id = %key.workflow_id, ?mode);
        let transaction = async {
            let mut txn = Txn::begin(self, key, mode).await?;
            let result = f(&mut txn).await;
            txn.end(result).await
        };
        transaction.instrument(span).await
    }

    /// Decides on one existing run; an empty run id means the current run. A refusal is returned when the
    /// state it was based on is durable.
    pub async fn update<T>(
        &self,
        key: &RunKey,
        f: impl FnOnce(&mut MutableState, &DecisionContext<'_>) -> Result<(Transition, T), Refusal>,
    ) -> Result<Updated<T>, UpdateError> {
        let span = tracing::debug_span!("update", shard = %self.id(), namespace = %key.namespace_id,
            workflow_id = %key.workflow_id, run_id = %key.run_id);
        self.update_in_span(key, f).instrument(span).await
    }

    async fn update_in_span<T>(
        &self,
        key: &RunKey,
        f: impl FnOnce(&mut MutableState, &DecisionContext<'_>) -> Result<(Transition, T), Refusal>,
    ) -> Result<Updated<T>, UpdateError> {
        let key_of_workflow = key_of(&key.namespace_id, &key.workflow_id);
        let mut txn = Txn::begin::<Ended>(self, key_of_workflow, Mode::Active).await?;
        let result = decide(&mut txn, &key.run_id, f).await;
        let ended = match result {
            Ok(decided) => txn.end(decided).await,
            Err(error) => {
                txn.end::<(), Ended>(Ok(())).await?;
                return Err(error.into());
            }
        };
        Ok(ended?)
    }

    /// Reads one run; an empty run id means the current run. What is read is durable when this returns,
    /// except for write-behind state ("started").
    pub async fn read<T>(
        &self,
        key: &RunKey,
        f: impl FnOnce(&MutableState) -> T,
    ) -> Result<T, ReadError> {
        let mut locked = Locked::lock(self, key_of(&key.namespace_id, &key.workflow_id)).await?;
        let run_id = match named_run(&mut locked, &key.run_id).await? {
            Some(run_id) => run_id,
            None => return Err(ReadError::NotFound),
        };
        let found = locked.find(&run_id).await?;
        let value = found.map(|at| f(&locked.cached.runs[at].mutable_state));
        let last = locked.cached.last.clone();
        drop(locked);
        if let Some(last) = last {
            last.wait().await?;
        }
        value.ok_or(ReadError::NotFound)
    }

    /// [`Self::read`] for scans: a run that is not in memory is read from the store and not kept.
    pub async fn glance<T>(
        &self,
        key: &RunKey,
        f: impl FnOnce(&MutableState) -> T,
    ) -> Result<T, ReadError> {
        // What is not stored yet is in memory.
        if self
            .0
            .cache
            .holds(&key_of(&key.namespace_id, &key.workflow_id))
        {
            return self.read(key, f).await;
        }
        self.check()?;
        let store = &self.0.host.deps.store.execution;
        let stored = store.run_load(self.id(), key).await;
        let stored = stored.map_err(ShardError::from)?;
        let stored = stored.ok_or(ReadError::NotFound)?;
        let ms = crate::record::decode(key.clone(), stored)
            .map_err(|error| ShardError::Corrupt(error.to_string()))?;
        Ok(f(&ms))
    }

    /// [`Self::current`] for scans.
    pub async fn glance_current(
        &self,
        namespace_id: &NamespaceId,
        workflow_id: &WorkflowId,
    ) -> Result<Option<CurrentRecord>, ShardError> {
        if self.0.cache.holds(&key_of(namespace_id, workflow_id)) {
            return self.current(namespace_id, workflow_id).await;
        }
        self.check()?;
        let store = &self.0.host.deps.store.execution;
        let found = store.current_load(self.id(), namespace_id, workflow_id);
        Ok(found.await?)
    }

    /// The workflow id's current pointer.
    pub async fn current(
        &self,
        namespace_id: &NamespaceId,
        workflow_id: &WorkflowId,
    ) -> Result<Option<CurrentRecord>, ShardError> {
        let mut locked = Locked::lock(self, key_of(namespace_id, workflow_id)).await?;
        let current = locked.current().await?.clone();
        let last = locked.cached.last.clone();
        drop(locked);
        if let Some(last) = last {
            last.wait().await?;
        }
        Ok(current)
    }

    /// Fires after each commit of the run from now on. Subscribe, then read: the first value says nothing.
    /// The sender goes away when the shard is lost.
    pub fn watch_run(&self, key: &RunKey) -> watch::Receiver<RunProgress> {
        let receiver = self.0.watchers.watch(key);
        if self.is_lost() {
            self.0.watchers.clear();
        }
        receiver
    }

    /// Keys of all runs of the shard, in order, after `after`; for scans.
    pub async fn runs(
        &self,
        after: Option<RunKey>,
        limit: usize,
    ) -> Result<Vec<RunKey>, ShardError> {
        self.check()?;
        Ok(self
            .0
            .host
            .deps
            .store
            .execution
            .run_list(self.id(), after, limit)
            .await?)
    }

    /// Deletes a run with its history: branches first, so that a crash leaves the run, and with it the
    /// reason to come again. Allowed on a standby. A run that does not exist is deleted.
    pub async fn delete_run(&self, key: &RunKey) -> Result<(), ShardError> {
        let branches = match self.read(key, |w| w.versions.clone()).await {
            Ok(versions) => versions.histories,
            Err(ReadError::NotFound) => return Ok(()),
            Err(ReadError::Shard(error)) => return Err(error),
        };
        for history in &branches {
            let branch = crate::record::branch_record(self.id(), &history.branch);
            self.0.event_cache.forget(&self.0.host, &branch.branch_id);
            self.0
                .host
                .deps
                .store
                .history
                .history_delete(&branch)
                .await?;
        }
        let deleted = self
            .replicate(
                &key.namespace_id,
                &key.workflow_id,
                async |txn: &mut Txn| match txn.run(&key.run_id).await? {
                    Some(_) => txn.delete(&key.run_id),
                    None => Ok(()),
                },
            )
            .await;
        match deleted {
            Ok(()) => Ok(()),
            Err(TxnError::Decided(error) | TxnError::Shard(error)) => Err(error),
            Err(other) => Err(ShardError::Unavailable(other.to_string())),
        }
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.0.lost.is_cancelled()
    }

    /// Whether the ring gives the shard to this process.
    pub(crate) fn is_mine(&self) -> bool {
        let membership = &self.0.host.deps.membership;
        let ring = membership.ring(Role::History);
        ring.owner(&ring_key(self.id()))
            .is_some_and(|m| membership.is_me(m))
    }

    pub(crate) fn check(&self) -> Result<(), ShardError> {
        if self.is_lost() {
            return Err(ShardError::Lost(self.id()));
        }
        if self.0.closing.load(Ordering::Acquire) {
            let ring = self.0.host.deps.membership.ring(Role::History);
            let owner = ring.owner(&ring_key(self.id())).map(|m| m.id.clone());
            return Err(ShardError::NotOwner {
                shard: self.id(),
                owner,
            });
        }
        Ok(())
    }

    /// No new transactions from here on.
    pub(crate) fn close(&self) {
        self.0.closing.store(true, Ordering::Release);
    }

    /// Ownership is gone: everything in memory is worthless.
    pub(crate) fn lose(&self, why: &str) {
        if self.is_lost() {
            return;
        }
        self.0.lost.cancel();
        if self.0.closing.load(Ordering::Acquire) {
            tracing::info!(shard = %self.id(), range = %self.range(), "released the shard");
        } else {
            tracing::warn!(shard = %self.id(), range = %self.range(), why, "lost the shard");
        }
        self.0.cache.clear(&self.0.host);
        self.0.write_behind.lock().clear();
        self.0.regenerations.clear();
        self.0.wait_list.clear();
        self.0.watchers.clear();
        self.0.event_cache.clear(&self.0.host);
        self.0.host.lost.notify_one();
    }

    pub(crate) fn arm_unsaved(&self, task: QueuedTask, superseded: Option<Arc<AtomicBool>>) {
        let at = task.task.fire_at.unwrap_or(Timestamp::ZERO);
        let mut executable = Executable::new(self, Arc::new(task));
        executable.superseded = superseded;
        self.0.host.timers.arm_task(at, executable);
    }

    pub(crate) fn note_write_behind(&self, entry: &Arc<Entry>) {
        self.0
            .write_behind
            .lock()
            .insert(entry.key.clone(), entry.clone());
        self.mark_dirty();
    }

    pub(crate) fn forget_write_behind(&self, key: &WorkflowKey) {
        self.0.write_behind.lock().remove(key);
    }

    /// Notifies the flusher that there is something to write in the background.
    pub(crate) fn mark_dirty(&self) {
        if !self.0.dirty.swap(true, Ordering::AcqRel) {
            self.0.host.flusher.mark_dirty(self);
        }
    }
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shard({}, range {})", self.id(), self.range())
    }
}

/// The key of a shard in the history ring.
pub(crate) fn ring_key(shard: ShardId) -> String {
    shard.get().to_string()
}

pub(crate) fn key_of(namespace_id: &NamespaceId, workflow_id: &WorkflowId) -> WorkflowKey {
    WorkflowKey {
        namespace_id: namespace_id.clone(),
        workflow_id: workflow_id.clone(),
    }
}

/// The run a request means.
async fn named_run(locked: &mut Locked, run_id: &RunId) -> Result<Option<RunId>, ShardError> {
    if !run_id.is_empty() {
        return Ok(Some(run_id.clone()));
    }
    Ok(locked.current().await?.as_ref().map(|c| c.run_id.clone()))
}

type Decided<T> = Result<Updated<T>, Ended>;

async fn decide<T>(
    txn: &mut Txn,
    run_id: &RunId,
    f: impl FnOnce(&mut MutableState, &DecisionContext<'_>) -> Result<(Transition, T), Refusal>,
) -> Result<Decided<T>, ShardError> {
    let run_id = if run_id.is_empty() {
        match txn.current().await? {
            Some(current) => current.run_id,
            None => return Ok(Err(Ended::NotFound)),
        }
    } else {
        run_id.clone()
    };
    let context = txn.decision_context();
    let Some(ms) = txn.run(&run_id).await? else {
        return Ok(Err(Ended::NotFound));
    };
    match f(ms, &context.borrowed()) {
        Ok((transition, value)) => {
            let (next_event_id, closed) = (ms.execution_info.next_event_id, !ms.is_running());
            let reply = txn.put(&run_id, transition)?;
            Ok(Ok(Updated {
                value,
                reply,
                run_id,
                next_event_id,
                closed,
            }))
        }
        Err(refusal) => {
            if matches!(refusal, Refusal::Corrupt(_)) {
                txn.invalidate();
            }
            Ok(Err(Ended::Refused(refusal)))
        }
    }
}
