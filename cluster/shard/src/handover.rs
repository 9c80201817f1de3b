//! The barrier of a planned failover: after [`Shards::freeze`] no write of the namespace is accepted on the
//! shard, and everything accepted before is durable. Namespaces in the state HANDOVER are refused by the
//! registry's word alone; the barrier is what makes sure that nothing is still on its way.
//!
//! The hold outlives the process it was asked of: it is stored before any shard is frozen, this process still
//! owns the shard after its last write (the store says so), and whoever acquires the shard later reads what
//! is stored about namespaces before accepting anything.

use futures::future::join_all;
use proto_ids::{NamespaceId, ShardId, TaskId};

use crate::{controller::Shards, error::ShardError};

impl Shards {
    /// Refuses writes of the namespace in this process from now on, and returns when all that the shard has
    /// accepted are durable. No replication task of the namespace on this shard will have a higher id than the
    /// one returned until the hold ends: a remote cluster that acknowledged it has everything. The caller
    /// stores the hold first.
    pub async fn freeze(
        &self,
        namespace_id: &NamespaceId,
        shard: ShardId,
    ) -> Result<TaskId, ShardError> {
        let host = self.host();
        let shard = self.shard(shard).await?;
        // So that the hold goes on here when the barrier is lifted before the registry would have looked.
        host.deps.registry.catch_up().await?;
        // Whoever holds the lock for reading is handing a write to a lane: afterwards none can follow.
        host.frozen.write().insert(namespace_id.clone());
        shard.store_behind(std::time::Duration::ZERO).await;
        shard.0.lane.barrier().await;
        shard.check()?;
        let below = *shard.replication_watermark().borrow();
        // Another process may own it by now and have accepted writes before the hold was stored.
        let stored = host.deps.store.shard.shard_get(shard.id()).await?;
        if stored.is_none_or(|s| s.range != shard.range()) {
            shard.lose("another process has acquired it");
            return Err(ShardError::Lost(shard.id()));
        }
        Ok(TaskId::new(below.get() - 1))
    }

    /// Accepts writes of the namespace again, as far as the registry says so.
    pub fn unfreeze(&self, namespace_id: &NamespaceId) {
        self.host().frozen.write().remove(namespace_id);
    }

    /// Waits until everything handed to the lanes so far has ended.
    pub async fn barrier(&self) {
        join_all(self.host().lanes.iter().map(|lane| lane.barrier())).await;
    }
}
