//! Replication between clusters: sending, receiving, applying, repairing, and telling how far it is.
//!
//! The wire protocol is Temporal's own, so that a cluster of Temporal Server can be at the other end. Here
//! are the parts, by where they run. On history hosts: [`sender`] streams a shard's replication queue. On
//! worker hosts: [`puller`] opens streams to other clusters, keeps order per workflow ([`inbox`]), has tasks
//! applied, and acknowledges by [`watermark`]; what cannot be applied goes to [`dead_letters`]. [`route`]
//! maps shards of one cluster to those of another, [`wire`] takes messages apart, [`remotes`] calls other
//! clusters. [`namespaces`] pulls the queue of namespace changes. [`switchover`] moves a namespace without loss.
//! [`edge`] is what frontends offer operators and peers.
//! [`range`] finds the events that a caller of the raw history means, [`digest`] compares histories.

pub mod apply;
pub mod dead_letters;
pub mod digest;
pub mod edge;
pub mod inbox;
pub mod namespaces;
pub mod puller;
pub mod range;
pub mod remotes;
pub mod route;
pub mod sender;
pub mod service;
pub mod switchover;
pub mod watermark;
pub mod wire;
