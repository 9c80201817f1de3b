//! Replication between clusters: sending, receiving, applying, repairing, and telling how far it is.
//!
//! The wire protocol is Temporal's own, so that a cluster of Temporal Server can be at the other end. Here
//! are the parts, by where they run. On history hosts: [`sender`] streams a shard's replication queue. On
//! worker hosts: the receiving side keeps order per workflow ([`inbox`]) and acknowledges by [`watermark`].
//! [`route`] maps shards of one cluster to those of another, [`wire`] takes messages apart.

pub mod inbox;
pub mod route;
pub mod sender;
pub mod watermark;
pub mod wire;
