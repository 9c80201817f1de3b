//! A store whose rows of one workflow cannot be read.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use proto_ids::{NamespaceId, RunKey, ShardId, TaskId, Timestamp, WorkflowId};
use schema_store::{
    CommitError, Store, StoreError,
    execution::{CommitBatch, CurrentRecord, ExecutionStore, OutboxRow, RunRecord, TimerRow},
};

/// The store, and what is wrong with it.
pub struct Faults {
    inner: Arc<dyn ExecutionStore>,
    /// The workflow whose runs hold garbage.
    pub corrupt: Mutex<Option<&'static str>>,
}

impl Faults {
    pub fn before(store: &mut Store) -> Arc<Self> {
        let faults = Arc::new(Self {
            inner: store.execution.clone(),
            corrupt: Mutex::default(),
        });
        store.execution = faults.clone();
        faults
    }
}

#[async_trait]
impl ExecutionStore for Faults {
    async fn commit(&self, batch: CommitBatch) -> Result<(), CommitError> {
        self.inner.commit(batch).await
    }

    async fn commit_happened(&self, lane: &str, seq: i64) -> Result<bool, StoreError> {
        self.inner.commit_happened(lane, seq).await
    }

    async fn run_load(
        &self,
        shard: ShardId,
        key: &RunKey,
    ) -> Result<Option<RunRecord>, StoreError> {
        let mut found = self.inner.run_load(shard, key).await?;
        if let Some(run) = &mut found
            && *self.corrupt.lock() == Some(key.workflow_id.as_str())
        {
            run.hot = Bytes::from_static(&[0xff; 9]);
        }
        Ok(found)
    }

    async fn current_load(
        &self,
        shard: ShardId,
        namespace_id: &NamespaceId,
        workflow_id: &WorkflowId,
    ) -> Result<Option<CurrentRecord>, StoreError> {
        let inner = &self.inner;
        inner.current_load(shard, namespace_id, workflow_id).await
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
