//! Matching's backlog: tasks that found no waiting poller.

use async_trait::async_trait;
use bytes::Bytes;
use proto_ids::{NamespaceId, RangeId, TaskId};

use crate::error::StoreError;

/// Names a task queue.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskQueueKey {
    /// The namespace.
    pub namespace_id: NamespaceId,
    /// The queue's name (with its partition).
    pub name: String,
    /// The public enum's number: workflow 1, activity 2.
    pub kind: i32,
}

/// A task queue's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskQueueRecord {
    /// Ownership generation.
    pub range: RangeId,
    /// Tasks at or below are done.
    pub ack: TaskId,
}

/// A task in the backlog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BacklogTask {
    /// Its id, rising.
    pub task_id: TaskId,
    /// The task.
    pub data: Bytes,
}

/// Appends to several queues in one transaction.
#[derive(Clone, Debug)]
pub struct BacklogAppend {
    /// The queue.
    pub key: TaskQueueKey,
    /// The appender's range.
    pub range: RangeId,
    /// The tasks.
    pub tasks: Vec<BacklogTask>,
}

/// Task queues.
#[async_trait]
pub trait TaskQueueStore: Send + Sync + 'static {
    /// Takes the queue: raises its range by one, creating the row at first.
    async fn task_queue_acquire(&self, key: &TaskQueueKey) -> Result<TaskQueueRecord, StoreError>;

    /// Appends durably, all or nothing. `Fenced` names the first queue whose range is old.
    async fn task_queue_append(&self, appends: Vec<BacklogAppend>) -> Result<(), StoreError>;

    /// Tasks above `after`, in order.
    async fn task_queue_read(
        &self,
        key: &TaskQueueKey,
        after: TaskId,
        limit: usize,
    ) -> Result<Vec<BacklogTask>, StoreError>;

    /// How many tasks there are above `after`.
    async fn task_queue_count(&self, key: &TaskQueueKey, after: TaskId) -> Result<i64, StoreError>;

    /// Notes that tasks at or below `ack` are done and deletes them. Fenced by the range.
    async fn task_queue_ack(
        &self,
        key: &TaskQueueKey,
        range: RangeId,
        ack: TaskId,
    ) -> Result<(), StoreError>;
}

/// The error of a writer whose range is old; every backend says the same.
pub fn fenced(key: &TaskQueueKey, range: RangeId) -> StoreError {
    StoreError::Fenced(format!(
        "task queue {} (kind {}) of namespace {} is not held with range {range}",
        key.name, key.kind, key.namespace_id
    ))
}
