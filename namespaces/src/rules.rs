//! Rules about namespaces and clusters, without I/O, clock or randomness: what may be registered and
//! changed, who owns a version, and what a message from another cluster does to the copy here.

mod change;
mod directory;
mod failover;
mod handover;
mod merge;
mod register;
mod replicas;
mod update;
mod version;

pub use change::{Change, Stamp};
pub use directory::{
    OwnCluster, SHARDS_MAX, Topology, boot, check_directory, check_owner, check_remote,
    check_removal,
};
pub use merge::{Merge, merge};
pub use register::{Registration, register};
pub use update::{HANDOVER_MAX, ReplicationChange, Update, deprecate, update};
pub use version::{VERSION_MAX, next_version, same_cluster};

#[cfg(test)]
mod samples;
