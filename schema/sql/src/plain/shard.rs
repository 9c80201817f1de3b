//! Shard rows.

use async_trait::async_trait;
use bytes::Bytes;
use proto_ids::{RangeId, ShardId, Timestamp};
use schema_store::{
    StoreError,
    shard::{ShardRecord, ShardStore},
};

use super::{Backend, fail};

#[async_trait]
impl ShardStore for Backend {
    async fn shard_acquire(
        &self,
        shard: ShardId,
        owner: &str,
        now: Timestamp,
    ) -> Result<ShardRecord, StoreError> {
        let mut tx = self.db.begin().await?;
        let acquired = sqlx::query_as(
            "INSERT INTO shard (shard_id, range_id, owner, state, acquired_at) VALUES ($1, 1, $2, $3, $4)
             ON CONFLICT (shard_id) DO UPDATE
                 SET range_id = shard.range_id + 1, owner = excluded.owner, acquired_at = excluded.acquired_at
             RETURNING range_id, state",
        )
        .bind(i64::from(shard.get()))
        .bind(owner)
        .bind(&b""[..])
        .bind(now.nanos())
        .fetch_one(tx.conn());
        let (range, state): (i64, Vec<u8>) = acquired.await.map_err(fail)?;
        tx.commit().await?;
        Ok(ShardRecord {
            shard,
            range: RangeId::new(range),
            owner: owner.to_owned(),
            state: state.into(),
            acquired_at: now,
        })
    }

    async fn shard_get(&self, shard: ShardId) -> Result<Option<ShardRecord>, StoreError> {
        let mut conn = self.db.read().await?;
        let row = sqlx::query_as(
            "SELECT range_id, owner, state, acquired_at FROM shard WHERE shard_id = $1",
        )
        .bind(i64::from(shard.get()))
        .fetch_optional(&mut *conn);
        let row: Option<(i64, String, Vec<u8>, i64)> = row.await.map_err(fail)?;
        Ok(row.map(|(range, owner, state, acquired_at)| ShardRecord {
            shard,
            range: RangeId::new(range),
            owner,
            state: Bytes::from(state),
            acquired_at: Timestamp::from_nanos(acquired_at),
        }))
    }
}
