//! A store that fails on demand: the memory store behind a script of what the next commits end with.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use proto_ids::{NamespaceId, RunId, RunKey, ShardId, TaskId, Timestamp, WorkflowId};
use schema_store::{
    CommitError, Store, StoreError,
    execution::{CommitBatch, CurrentRecord, ExecutionStore, OutboxRow, RunRecord, TimerRow},
    visibility::{
        VisibilityCount, VisibilityPage, VisibilityRecord, VisibilityStore, VisibilityWrite,
        query::Query,
    },
};
use tokio::sync::Semaphore;

/// How a commit ends.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The store is away; nothing was written.
    Unavailable,
    /// The connection broke after the write.
    UnknownStored,
    /// The connection broke before the write.
    UnknownNotStored,
    /// The store has no room; nothing was written.
    Full,
    /// The guard of this workflow's run fails, if it is in the batch.
    Conflict(&'static str),
}

/// The script.
pub struct Faults {
    inner: Arc<dyn ExecutionStore>,
    next: Mutex<VecDeque<Fault>>,
    /// Workflow whose writes the store never takes.
    pub poison: Mutex<Option<&'static str>>,
    /// Commits need a permit each while the gate is closed.
    gate: Semaphore,
    pub commits: AtomicUsize,
    pub largest: AtomicUsize,
    /// Commits that wait at the gate.
    pub waiting: AtomicUsize,
    /// Timer rows cannot be read while it is set.
    pub no_timer_reads: AtomicBool,
    /// How many reads of runs fail next.
    pub failing_loads: AtomicUsize,
    /// Workflow whose runs cannot be read.
    pub corrupt: Mutex<Option<&'static str>>,
    /// Workflow whose visibility rows are refused.
    pub unlisted: Mutex<Option<&'static str>>,
    visibility: Arc<dyn VisibilityStore>,
}

/// All permits there are: the gate is open.
const OPEN: usize = 1 << 20;

impl Faults {
    pub fn new(base: &Store) -> (Arc<Self>, Store) {
        let mut store = base.clone();
        let faults = Arc::new(Self {
            inner: store.execution.clone(),
            next: Mutex::default(),
            poison: Mutex::default(),
            gate: Semaphore::new(OPEN),
            commits: AtomicUsize::new(0),
            largest: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            no_timer_reads: AtomicBool::new(false),
            failing_loads: AtomicUsize::new(0),
            corrupt: Mutex::default(),
            unlisted: Mutex::default(),
            visibility: store.visibility.clone(),
        });
        store.execution = faults.clone();
        store.visibility = faults.clone();
        (faults, store)
    }

    pub fn inject(&self, fault: Fault) {
        self.next.lock().push_back(fault);
    }

    /// Holds commits back until [`Self::open`].
    pub fn close(&self) {
        self.gate.forget_permits(OPEN);
    }

    pub fn open(&self) {
        self.gate.add_permits(OPEN);
    }

    pub fn commits(&self) -> usize {
        self.commits.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl ExecutionStore for Faults {
    async fn commit(&self, batch: CommitBatch) -> Result<(), CommitError> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let pass = self.gate.acquire().await.expect("never closed");
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        drop(pass);
        self.commits.fetch_add(1, Ordering::SeqCst);
        self.largest
            .fetch_max(batch.updates.len(), Ordering::SeqCst);
        let poison = *self.poison.lock();
        let holds = |id: &str| {
            batch
                .updates
                .iter()
                .find(|u| u.key.workflow_id.as_str() == id)
        };
        if poison.is_some_and(|id| holds(id).is_some()) {
            return Err(CommitError::Refused("poison".into()));
        }
        let fault = self.next.lock().pop_front();
        match fault {
            None => self.inner.commit(batch).await,
            Some(Fault::Unavailable) => Err(CommitError::Unavailable("injected".into())),
            Some(Fault::Full) => Err(CommitError::Full("injected".into())),
            Some(Fault::UnknownStored) => {
                self.inner.commit(batch).await?;
                Err(CommitError::Unknown("injected".into()))
            }
            Some(Fault::UnknownNotStored) => Err(CommitError::Unknown("injected".into())),
            Some(Fault::Conflict(id)) => match holds(id) {
                Some(update) => Err(CommitError::Conflict(vec![update.key.clone()])),
                None => self.inner.commit(batch).await,
            },
        }
    }

    async fn commit_happened(&self, lane: &str, seq: i64) -> Result<bool, StoreError> {
        self.inner.commit_happened(lane, seq).await
    }

    async fn run_load(
        &self,
        shard: ShardId,
        key: &RunKey,
    ) -> Result<Option<RunRecord>, StoreError> {
        if *self.corrupt.lock() == Some(key.workflow_id.as_str()) {
            return Err(StoreError::Corrupt("injected".into()));
        }
        let left = &self.failing_loads;
        let one_less = |n: usize| n.checked_sub(1);
        let fails = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less);
        if fails.is_ok() {
            return Err(StoreError::Unavailable("injected".into()));
        }
        self.inner.run_load(shard, key).await
    }

    async fn current_load(
        &self,
        shard: ShardId,
        namespace_id: &NamespaceId,
        workflow_id: &WorkflowId,
    ) -> Result<Option<CurrentRecord>, StoreError> {
        self.inner
            .current_load(shard, namespace_id, workflow_id)
            .await
    }

    async fn outbox_read(
        &self,
        shard: ShardId,
        after: TaskId,
        limit: usize,
    ) -> Result<Vec<OutboxRow>, StoreError> {
        self.inner.outbox_read(shard, after, limit).await
    }

    async fn timer_read(
        &self,
        shard: ShardId,
        after: (Timestamp, TaskId),
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<TimerRow>, StoreError> {
        if self.no_timer_reads.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("injected".into()));
        }
        self.inner.timer_read(shard, after, until, limit).await
    }

    async fn run_list(
        &self,
        shard: ShardId,
        after: Option<RunKey>,
        limit: usize,
    ) -> Result<Vec<RunKey>, StoreError> {
        self.inner.run_list(shard, after, limit).await
    }
}

#[async_trait]
impl VisibilityStore for Faults {
    async fn visibility_write(&self, writes: Vec<VisibilityWrite>) -> Result<(), StoreError> {
        let refused = *self.unlisted.lock();
        let is_refused = |write: &VisibilityWrite| match write {
            VisibilityWrite::Put(record) => refused == Some(record.workflow_id.as_str()),
            VisibilityWrite::Delete { .. } => false,
        };
        if writes.iter().any(is_refused) {
            return Err(StoreError::Invalid("injected".into()));
        }
        self.visibility.visibility_write(writes).await
    }

    async fn visibility_list(
        &self,
        namespace_id: &NamespaceId,
        query: &Query,
        page_size: usize,
        after: Option<Bytes>,
    ) -> Result<VisibilityPage, StoreError> {
        let found = self
            .visibility
            .visibility_list(namespace_id, query, page_size, after);
        found.await
    }

    async fn visibility_count(
        &self,
        namespace_id: &NamespaceId,
        query: &Query,
    ) -> Result<VisibilityCount, StoreError> {
        self.visibility.visibility_count(namespace_id, query).await
    }

    async fn visibility_get(
        &self,
        namespace_id: &NamespaceId,
        run_id: &RunId,
    ) -> Result<Option<VisibilityRecord>, StoreError> {
        self.visibility.visibility_get(namespace_id, run_id).await
    }

    async fn visibility_is_complete(&self, shard: ShardId) -> Result<bool, StoreError> {
        self.visibility.visibility_is_complete(shard).await
    }

    async fn visibility_set_complete(&self, shard: ShardId) -> Result<(), StoreError> {
        self.visibility.visibility_set_complete(shard).await
    }
}
