//! A shard of this process as the source of streams.

use async_trait::async_trait;
use cluster_shard::{AckRefused, QueuedTask, Reader, Shard, ShardError};
use namespaces::Registry;
use proto_ids::{ClusterName, ShardId, TaskId};
use proto_messages::temporal::server::api::replication::v1::ReplicationTask;

use super::{
    aside::UnsentRows,
    hydrate,
    source::{ReaderId, SourceError, TaskSource},
};

/// A shard's replication queue, with what is needed to make messages of its rows.
#[derive(Clone)]
pub struct ShardSource {
    shard: Shard,
    registry: Registry,
    aside: UnsentRows,
}

impl ShardSource {
    /// Over a shard that this process owns.
    pub fn new(shard: Shard, registry: Registry, aside: UnsentRows) -> Self {
        Self {
            shard,
            registry,
            aside,
        }
    }
}

impl ShardSource {
    /// Whether a row's message can be made by now, or none is needed.
    pub(crate) async fn can_send(&self, row: &QueuedTask, cluster: &str) -> bool {
        self.hydrate(row, cluster).await.is_ok()
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
            ShardError::Corrupt(_) => Self::Stuck(error.to_string()),
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
        // A namespace of which this host is not notified yet is not one without clusters.
        let namespace = self.registry.resolve_id(&row.run.namespace_id).await;
        let namespace = namespace.map_err(|e| SourceError::Unavailable(e.to_string()))?;
        if !namespace.is_some_and(|namespace| namespace.lives_in(&cluster.into())) {
            return Ok(None);
        }
        hydrate::message(&self.shard, row).await
    }

    async fn unsent_rows(
        &self,
        row: &QueuedTask,
        cluster: &str,
        shard: ShardId,
        reason: &str,
    ) -> Result<(), SourceError> {
        let (own, cluster) = (self.shard.id(), ClusterName::new(cluster));
        let put = self.aside.put(own, row, &cluster, shard, reason);
        put.await
            .map_err(|e| SourceError::Unavailable(format!("the row cannot be set aside: {e}")))
    }

    fn open(&self, reader: &ReaderId) -> Reader {
        self.shard
            .replication_open(&reader.name, &reader.incarnation)
    }

    fn ack(&self, reader: &ReaderId, below: TaskId) -> Result<(), AckRefused> {
        self.shard
            .replication_ack(&reader.name, &reader.incarnation, below)
    }
}
