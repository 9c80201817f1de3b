//! What a stream reads from: one shard's replication queue, and the state that turns a queue row into a
//! message. A row is a pointer; what is sent is made at the moment of sending and may be newer.

use async_trait::async_trait;
use cluster_shard::QueuedTask;
use proto_ids::TaskId;
use proto_messages::temporal::server::api::replication::v1::ReplicationTask;

use crate::watermark::Mark;

/// Why a shard's queue could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Try again.
    #[error("the shard cannot be read now: {0}")]
    Unavailable(String),
    /// This host does not own the shard any more; `owner` may be empty.
    #[error("the shard is owned by {owner:?}")]
    NotOwner {
        /// The owner, as far as is known.
        owner: String,
    },
    /// The row cannot be turned into a message, now or later.
    #[error("task {id} cannot be sent: {reason}")]
    Stuck {
        /// The row.
        id: TaskId,
        /// Why.
        reason: String,
    },
}

/// One shard's replication queue.
#[async_trait]
pub trait TaskSource: Send + Sync + 'static {
    /// The queue's exclusive end: every row below it can be read, and none will be added below it.
    fn end(&self) -> TaskId;

    /// Returns when the end is above `seen`. Dropping the future costs nothing.
    async fn grown(&self, seen: TaskId) -> Result<(), SourceError>;

    /// Rows in `from..until`, in order; fewer than `limit` means that there are no more.
    async fn read(
        &self,
        from: TaskId,
        until: TaskId,
        limit: usize,
    ) -> Result<Vec<QueuedTask>, SourceError>;

    /// The message of a row for a cluster; none when nothing has to be sent: the run or record is gone, or
    /// the namespace does not live in that cluster.
    async fn hydrate(
        &self,
        row: &QueuedTask,
        cluster: &str,
    ) -> Result<Option<ReplicationTask>, SourceError>;

    /// Where a reader stands; none when it was never here.
    fn acked(&self, reader: &str) -> Option<TaskId>;

    /// Notes that everything below the mark is done at the reader. Kept with the shard, in time for the next
    /// trim of the queue.
    fn ack(&self, reader: &str, mark: Mark);
}
