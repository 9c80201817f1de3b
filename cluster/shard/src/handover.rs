//! The barrier of a planned failover: after [`Shards::freeze`] no write of the namespace is accepted by this
//! process, and everything accepted before is durable. Namespaces in the state HANDOVER are refused by the
//! registry's word alone; the barrier is what makes sure that nothing is still on its way.

use futures::future::join_all;
use proto_ids::{NamespaceId, ShardId, TaskId};

use crate::{controller::Shards, error::ShardError};

/// What a freeze guarantees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frozen {
    /// Per owned shard: no replication task of the namespace will ever have a higher id than this, until it
    /// is unfrozen. A remote cluster that acknowledged it has everything.
    pub shards: Vec<(ShardId, TaskId)>,
}

impl Shards {
    /// Refuses writes of the namespace from now on, and returns when all accepted ones are durable.
    pub async fn freeze(&self, namespace_id: &NamespaceId) -> Result<Frozen, ShardError> {
        let host = self.host();
        // Whoever holds the lock for reading is handing a write to a lane: afterwards none can follow.
        host.frozen.write().insert(namespace_id.clone());
        let owned = self.owned();
        join_all(
            owned
                .iter()
                .map(|s| s.store_behind(std::time::Duration::ZERO)),
        )
        .await;
        join_all(host.lanes.iter().map(|lane| lane.barrier())).await;
        let mut shards = Vec::with_capacity(owned.len());
        for shard in owned {
            shard.check()?;
            let below = *shard.replication_watermark().borrow();
            shards.push((shard.id(), TaskId::new(below.get() - 1)));
        }
        Ok(Frozen { shards })
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
