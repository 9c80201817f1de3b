//! Replication between clusters: sending, receiving, applying, repairing, and telling how far it is.
//!
//! The wire protocol is Temporal's own, so that a cluster of Temporal Server can be at the other end. Here
//! are the parts, by where they run; [`route`], [`wire`], [`range`], [`digest`], [`watermark`] and [`keyed_queue`]
//! are the small machines under them.
//!
//! - **History hosts**: [`service::ReplicationHost`], on the history port. It streams a shard's replication
//!   queue ([`sender`]), applies what other clusters wrote ([`apply`]), serves raw history and the rest of
//!   the shard-bound admin RPCs, and tells how far others are. In its own process it is made known to the
//!   [`cluster_rpc::ReplicationClient`] by `set_local(host.clone(), host)`.
//! - **Worker hosts**: [`puller::Pullers::start`] opens streams to other clusters and has tasks applied;
//!   [`namespaces::start`] pulls namespace changes. Each works on what the worker ring gives it.
//! - **Frontends**: what [`edge`] offers operators and peers beside the admin service: an extension service,
//!   and the [`dead_letters`]. Whatever is bound to a shard goes through the client above. [`switchover`]
//!   moves a namespace without loss; [`completeness`] tells what another cluster lacks of one.
//!
//! All of them call other clusters by one [`remotes::Remotes`].

pub mod apply;
pub mod completeness;
pub mod dead_letters;
pub mod digest;
pub mod edge;
pub mod keyed_queue;
mod metrics;
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

/// The live settings that replication obeys.
pub static SETTINGS: &[&dyn cluster_runtime::AnyKey] = &[
    &sender::IDLE_MESSAGE_EVERY,
    &sender::ACK_EVERY,
    &remotes::SEPARATE_FLAG,
    &puller::OUTSTANDING_MAX,
    &puller::APPLY_AT_ONCE,
    &puller::APPLY_TIMEOUT,
    &puller::APPLY_ATTEMPTS_MAX,
];
