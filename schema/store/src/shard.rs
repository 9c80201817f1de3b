//! Shard ownership.

use async_trait::async_trait;
use bytes::Bytes;
use proto_ids::{RangeId, ShardId, Timestamp};

use crate::error::StoreError;

/// A shard's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardRecord {
    /// The shard.
    pub shard: ShardId,
    /// Ownership generation.
    pub range: RangeId,
    /// The owner that acquired it last (a member's address, for people).
    pub owner: String,
    /// Queue positions as last written by [`crate::execution::ShardProgress`]; empty at first.
    pub state: Bytes,
    /// When it was acquired.
    pub acquired_at: Timestamp,
}

/// Shard rows.
#[async_trait]
pub trait ShardStore: Send + Sync + 'static {
    /// Raises the range id by one and returns the row; creates it with range 1. Waits for, or outlives, every
    /// transaction that checked the old range, so that afterwards nothing of the old owner can commit.
    async fn shard_acquire(
        &self,
        shard: ShardId,
        owner: &str,
        now: Timestamp,
    ) -> Result<ShardRecord, StoreError>;

    /// The row, without taking it.
    async fn shard_get(&self, shard: ShardId) -> Result<Option<ShardRecord>, StoreError>;
}
