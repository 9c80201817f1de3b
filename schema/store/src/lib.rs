//! The store: traits by transaction, the records they carry, fences and errors; a complete
//! memory store; and the conformance suite every backend passes. Records and blobs only: what a blob means
//! is known by the crates that write it.
//!
//! # Fencing
//!
//! Every write to a shard's data names the shard's range id. The store compares it, inside the same
//! transaction and under a lock that conflicts with [`shard::ShardStore::shard_acquire`], with the range id
//! it holds; a mismatch aborts the whole transaction. An owner that lost its shard can therefore never
//! write again, however late its statement arrives.

pub mod cluster;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod error;
pub mod execution;
pub mod history;
pub mod memory;
pub mod namespace;
pub mod observed;
pub mod queue;
pub mod shard;
pub mod task_queue;
pub mod visibility;

use std::sync::Arc;

pub use error::{CommitError, StoreError};

/// One backend: a handle per trait, all over the same database.
#[derive(Clone)]
pub struct Store {
    /// Runs, current pointers, history appends, outbox and timers: the commit lane's transaction.
    pub execution: Arc<dyn execution::ExecutionStore>,
    /// Reading and deleting history branches.
    pub history: Arc<dyn history::HistoryStore>,
    /// Shard ownership.
    pub shard: Arc<dyn shard::ShardStore>,
    /// Matching's backlog.
    pub task_queue: Arc<dyn task_queue::TaskQueueStore>,
    /// Namespaces.
    pub namespace: Arc<dyn namespace::NamespaceStore>,
    /// Cluster directory and gossip contacts.
    pub cluster: Arc<dyn cluster::ClusterStore>,
    /// Durable queues: namespace replication, dead letters.
    pub queue: Arc<dyn queue::QueueStore>,
    /// Visibility.
    pub visibility: Arc<dyn visibility::VisibilityStore>,
}
