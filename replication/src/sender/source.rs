//! The source of a stream: one shard's replication queue, and the state that turns a queue row into a
//! message. A row is a pointer; what is sent is made at the moment of sending and may be newer.

use async_trait::async_trait;
use cluster_shard::{AckRefused, QueuedTask, Reader};
use proto_ids::{ShardId, TaskId};
use proto_messages::temporal::server::api::replication::v1::ReplicationTask;

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
    /// The row cannot be turned into a message now, and waiting does not help. It goes to the dead-letter queue.
    #[error("the task cannot be sent: {0}")]
    Stuck(String),
}

/// A reader of a shard's replication queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReaderId {
    /// Its cluster and shard, as [`cluster_shard::reader_name`] names them.
    pub name: String,
    /// The cluster id (UUID) of the store behind it; empty when it could not be learned.
    pub incarnation: String,
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

    /// Keeps a row that cannot be sent, durably, with the reason. The stream passes it only after this.
    async fn unsent_rows(
        &self,
        row: &QueuedTask,
        cluster: &str,
        shard: ShardId,
        reason: &str,
    ) -> Result<(), SourceError>;

    /// A reader opens a stream: from here on the queue waits for it. Tells how it stands.
    fn open(&self, reader: &ReaderId) -> Reader;

    /// Notes that everything below is done at the reader. Kept with the shard, in time for the next trim of
    /// the queue.
    fn ack(&self, reader: &ReaderId, below: TaskId) -> Result<(), AckRefused>;
}
