//! Rules about namespaces and clusters, without I/O, clock or randomness: what may be registered and
//! changed, who owns a version, and what a message from another cluster does to the copy here.

mod directory;
mod version;

pub use directory::{OwnCluster, Topology, boot, check_directory, check_remote, check_removal};
pub use version::{next_version, same_cluster};
