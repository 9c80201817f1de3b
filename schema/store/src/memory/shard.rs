//! Shard rows in memory. The one lock of the store makes an acquisition wait out every commit under way.

use async_trait::async_trait;
use bytes::Bytes;
use proto_ids::{RangeId, ShardId, Timestamp};

use super::MemoryStore;
use crate::{
    error::StoreError,
    shard::{ShardRecord, ShardStore},
};

#[async_trait]
impl ShardStore for MemoryStore {
    async fn shard_acquire(
        &self,
        shard: ShardId,
        owner: &str,
        now: Timestamp,
    ) -> Result<ShardRecord, StoreError> {
        let mut state = self.state();
        let record = state.shards.entry(shard).or_insert_with(|| ShardRecord {
            shard,
            range: RangeId::new(0),
            owner: String::new(),
            state: Bytes::new(),
            acquired_at: now,
        });
        record.range = record.range.next();
        record.owner = owner.to_owned();
        record.acquired_at = now;
        Ok(record.clone())
    }

    async fn shard_get(&self, shard: ShardId) -> Result<Option<ShardRecord>, StoreError> {
        Ok(self.state().shards.get(&shard).cloned())
    }
}
