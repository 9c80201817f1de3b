//! Namespaces. All writes of one cluster are ordered by one counter, so that a cache can ask what changed.

use async_trait::async_trait;
use bytes::Bytes;
use proto_ids::{NamespaceId, NamespaceName};

use crate::error::StoreError;

/// A namespace's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceRecord {
    /// Its id.
    pub id: NamespaceId,
    /// Its name; unique.
    pub name: NamespaceName,
    /// Everything else, as the namespaces crate encodes it.
    pub data: Bytes,
    /// Value of the counter when it was written last.
    pub notification_version: i64,
}

/// A message that goes to a durable queue in the same transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueMessage {
    /// The queue.
    pub queue: String,
    /// The message.
    pub data: Bytes,
}

/// Namespace rows.
#[async_trait]
pub trait NamespaceStore: Send + Sync + 'static {
    /// The counter: the `notification_version` the next write will get.
    async fn namespace_version(&self) -> Result<i64, StoreError>;

    /// Creates the namespace (and enqueues the message) if the counter still is `version`, and raises the
    /// counter. `Conflict` when the counter moved, or when the name or id is taken (the text tells which).
    async fn namespace_create(
        &self,
        record: NamespaceRecord,
        version: i64,
        message: Option<QueueMessage>,
    ) -> Result<(), StoreError>;

    /// Replaces it likewise. `NotFound` when there is none with this id.
    async fn namespace_update(
        &self,
        record: NamespaceRecord,
        version: i64,
        message: Option<QueueMessage>,
    ) -> Result<(), StoreError>;

    /// By id.
    async fn namespace_get(&self, id: &NamespaceId) -> Result<Option<NamespaceRecord>, StoreError>;

    /// By name.
    async fn namespace_get_by_name(
        &self,
        name: &NamespaceName,
    ) -> Result<Option<NamespaceRecord>, StoreError>;

    /// All, by name, after `after`.
    async fn namespace_list(
        &self,
        after: Option<NamespaceName>,
        limit: usize,
    ) -> Result<Vec<NamespaceRecord>, StoreError>;

    /// Removes it, raising the counter if it was there. Idempotent.
    async fn namespace_delete(&self, id: &NamespaceId) -> Result<(), StoreError>;
}

/// The value of the counter in an empty store.
pub const FIRST_NOTIFICATION_VERSION: i64 = 1;

/// The errors of namespace writes; every backend says the same.
pub mod conflict {
    use proto_ids::{NamespaceId, NamespaceName};

    use crate::error::StoreError;

    /// The id is taken.
    pub fn id_taken(id: &NamespaceId) -> StoreError {
        StoreError::Conflict(format!("namespace id {id} is taken"))
    }

    /// The name is taken.
    pub fn name_taken(name: &NamespaceName) -> StoreError {
        StoreError::Conflict(format!("namespace name {name} is taken"))
    }

    /// The counter moved.
    pub fn counter_moved(version: i64) -> StoreError {
        StoreError::Conflict(format!("the namespace counter is not at {version}"))
    }

    /// There is none.
    pub fn not_found(id: &NamespaceId) -> StoreError {
        StoreError::NotFound(format!("namespace {id}"))
    }
}
