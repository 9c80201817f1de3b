//! The frontend: what clients, operators and peer clusters call. It validates, finds the namespace and
//! the side where it is active, and hands the call to history, matching, visibility, the namespace
//! manager or the other cluster. It decides nothing about workflows.
//!
//! Every call on a namespace takes one path ([`edge`]): version check, namespace, hand-over, redirection,
//! state, quota, then the RPC's own file, which validates and delegates.

mod admin_service;
mod attributes;
mod edge;
mod frontend;
mod gate;
mod health;
mod limits;
mod metrics;
mod operator_service;
mod peers;
mod quota;
mod redirect;
mod refusal;
mod remotes;
mod token;
mod validate;
mod versions;
mod workflow_service;

pub use admin_service::Delegates;
pub use frontend::{About, Frontend, FrontendDeps};
pub use health::Readiness;
pub use redirect::ForwardingPolicy;
pub use remotes::RemoteFrontends;
pub use versions::SERVER_VERSION;

/// The live settings that frontends obey.
pub fn settings() -> impl Iterator<Item = &'static dyn cluster_runtime::AnyKey> {
    let lists = [limits::KEYS, quota::KEYS, redirect::KEYS];
    lists.into_iter().flatten().copied()
}
