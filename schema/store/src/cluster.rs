//! The cluster directory, and first contacts for gossip.

use async_trait::async_trait;
use bytes::Bytes;
use proto_ids::{ClusterName, Timestamp};

use crate::error::StoreError;

/// A cluster this one knows (itself included).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterRecord {
    /// Its name.
    pub name: ClusterName,
    /// Everything else, as the namespaces crate encodes it.
    pub data: Bytes,
    /// Row version; 0 for a new row.
    pub version: i64,
}

/// A process of this cluster, for first contact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberRecord {
    /// The process; a new one at each start.
    pub id: String,
    /// Addresses and roles, as the membership side encodes them.
    pub data: Bytes,
    /// Last sign of life.
    pub seen_at: Timestamp,
}

/// Cluster rows and member rows.
#[async_trait]
pub trait ClusterStore: Send + Sync + 'static {
    /// All clusters, by name.
    async fn cluster_list(&self) -> Result<Vec<ClusterRecord>, StoreError>;

    /// Inserts (version 0) or replaces the row if its version still is `record.version`; the new version is
    /// one more. `Conflict` otherwise.
    async fn cluster_put(&self, record: ClusterRecord) -> Result<(), StoreError>;

    /// Removes it. Idempotent.
    async fn cluster_delete(&self, name: &ClusterName) -> Result<(), StoreError>;

    /// Writes a member's sign of life.
    async fn member_put(&self, record: MemberRecord) -> Result<(), StoreError>;

    /// Members seen at or after `since`. Older ones are removed on the way.
    async fn member_list(&self, since: Timestamp) -> Result<Vec<MemberRecord>, StoreError>;

    /// Removes a member that leaves. Idempotent.
    async fn member_delete(&self, id: &str) -> Result<(), StoreError>;

    /// Whether the database is a copy that was put back, and no conclusion was drawn from that yet. A store that
    /// cannot tell says no.
    async fn cluster_restored(&self) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// The conclusions are drawn, durably. Idempotent.
    async fn cluster_restored_settle(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// The error of a compare-and-set that lost; every backend says the same.
pub fn moved(record: &ClusterRecord) -> StoreError {
    StoreError::Conflict(format!(
        "cluster {} is not at version {}",
        record.name, record.version
    ))
}
