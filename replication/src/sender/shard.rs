//! A shard of this process as the source of streams.

use async_trait::async_trait;
use cluster_shard::{QueuedTask, Shard, ShardError};
use namespaces::Registry;
use proto_ids::TaskId;
use proto_messages::temporal::server::api::replication::v1::ReplicationTask;

use super::{
    hydrate,
    source::{SourceError, TaskSource},
};
use crate::watermark::Mark;

/// A shard's replication queue, with what is needed to make messages of its rows.
#[derive(Clone, Debug)]
pub struct ShardSource {
    shard: Shard,
    registry: Registry,
}

impl ShardSource {
    /// Over a shard that this process owns.
    pub fn new(shard: Shard, registry: Registry) -> Self {
        Self { shard, registry }
    }
}

impl From<ShardError> for SourceError {
    fn from(error: ShardError) -> Self {
        match error {
            ShardError::NotOwner { owner, .. } => Self::NotOwner {
                owner: owner.unwrap_or_default(),
            },
            ShardError::Lost(_) => Self::NotOwner {
                owner: String::new(),
            },
            other => Self::Unavailable(other.to_string()),
        }
    }
}

#[async_trait]
impl TaskSource for ShardSource {
    fn end(&self) -> TaskId {
        *self.shard.replication_watermark().borrow()
    }

    async fn grown(&self, seen: TaskId) -> Result<(), SourceError> {
        let mut end = self.shard.replication_watermark();
        tokio::select! {
            grown = end.wait_for(|end| *end > seen) => match grown {
                Ok(_) => Ok(()),
                Err(_) => Err(SourceError::NotOwner { owner: String::new() }),
            },
            () = self.shard.lost() => Err(SourceError::NotOwner { owner: String::new() }),
        }
    }

    async fn read(
        &self,
        from: TaskId,
        until: TaskId,
        limit: usize,
    ) -> Result<Vec<QueuedTask>, SourceError> {
        Ok(self.shard.replication_read(from, until, limit).await?)
    }

    async fn hydrate(
        &self,
        row: &QueuedTask,
        cluster: &str,
    ) -> Result<Option<ReplicationTask>, SourceError> {
        let lives_there = self
            .registry
            .by_id(&row.run.namespace_id)
            .is_some_and(|namespace| namespace.lives_in(&cluster.into()));
        if !lives_there {
            return Ok(None);
        }
        hydrate::message(&self.shard, row).await
    }

    fn acked(&self, reader: &str) -> Option<TaskId> {
        self.shard.replication_acks().get(reader).copied()
    }

    fn ack(&self, reader: &str, mark: Mark) {
        self.shard.replication_ack(reader, mark.id);
    }
}
