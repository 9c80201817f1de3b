//! Wiring: a node from a configuration, `server`, `schema`, `backup` and `up`. Knows every crate of the server; known
//! only by the binary.

mod backup;
mod commands;
pub mod config;
mod dynamic;
mod metrics_endpoint;
mod node;
mod tls;
mod up;

pub use backup::{BackupArgs, backup};
pub use cluster_membership::Role;
pub use commands::{SchemaArgs, SchemaCommand, ServerArgs, schema, server};
pub use dynamic::known_settings;
pub use node::Node;
pub use up::{UpArgs, up};
