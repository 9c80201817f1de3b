//! Namespaces and the clusters they live in: the registry every host reads them from, the directory of
//! clusters, and the manager that changes both.
//!
//! [`rules`] are pure: a namespace, the directory and a request go in, a changed namespace or a refusal
//! comes out. [`Manager`] turns that into one compare-and-set write that carries the message to other
//! clusters. Shards, queues, workflows and transport are unknown here.

pub mod clusters;
mod error;
mod manager;
mod message;
mod namespace;
mod record;
mod registry;
pub mod rules;

pub use clusters::{ClusterInfo, Clusters};
pub use error::Refusal;
pub use manager::{Changed, Manager, ManagerOptions};
pub use message::{MessageError, Outbox, QUEUE};
pub use namespace::{Archival, Namespace};
pub use record::RecordError;
pub use registry::Registry;

/// The live settings that the registry and the directory obey.
pub static SETTINGS: &[&dyn cluster_runtime::AnyKey] =
    &[&clusters::REFRESH_INTERVAL, &registry::REFRESH_INTERVAL];

/// The name of the namespace that belongs to the server itself.
pub const SYSTEM_NAMESPACE: &str = "temporal-system";

/// The id of the namespace that belongs to the server itself; the same in every cluster.
pub const SYSTEM_NAMESPACE_ID: &str = "32049b68-7872-4094-8e63-d0dd59896a83";
