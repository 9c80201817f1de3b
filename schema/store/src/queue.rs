//! Durable queues: namespace replication, dead letters.

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::StoreError;

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Position, rising from 1 (0 in queues whose first id the wire fixes is never used).
    pub id: i64,
    /// The message.
    pub data: Bytes,
}

/// A queue and how much it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueInfo {
    /// Its name.
    pub name: String,
    /// Messages in it.
    pub len: i64,
    /// Highest id ever given.
    pub last_id: i64,
}

/// Durable queues by name, created by the first message.
#[async_trait]
pub trait QueueStore: Send + Sync + 'static {
    /// Appends; returns the message's id. Ids of one queue rise in commit order.
    async fn queue_enqueue(&self, queue: &str, data: Bytes) -> Result<i64, StoreError>;

    /// Messages above `after`, in order.
    async fn queue_read(
        &self,
        queue: &str,
        after: i64,
        limit: usize,
    ) -> Result<Vec<Message>, StoreError>;

    /// Deletes messages from `first` to `last`, both inclusive; returns how many.
    async fn queue_delete(&self, queue: &str, first: i64, last: i64) -> Result<i64, StoreError>;

    /// Highest id ever given; 0 for an empty or unknown queue.
    async fn queue_last_id(&self, queue: &str) -> Result<i64, StoreError>;

    /// Queues whose name begins with `prefix`.
    async fn queue_list(&self, prefix: &str) -> Result<Vec<QueueInfo>, StoreError>;

    /// A consumer's acknowledged position in a queue.
    async fn queue_ack_get(&self, queue: &str, consumer: &str) -> Result<Option<i64>, StoreError>;

    /// Notes a consumer's position; it never falls.
    async fn queue_ack_set(&self, queue: &str, consumer: &str, id: i64) -> Result<(), StoreError>;
}
