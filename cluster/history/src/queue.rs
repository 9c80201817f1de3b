//! The executors of the transfer queue and the timer queue. The kernel calls these right after the commit that
//! made a task, and again until they say that it is done. Tasks are idempotent: each looks at the run first and
//! does nothing when its reason has gone.
//!
//! A task asks at run time whether the namespace is active here. Active means act; standby means look whether
//! replicated state has got as far as the task would have brought it, and wait until then, so that a failover
//! finds every pending task waiting.

mod outcome;
mod standby;
mod timer;
mod transfer;

use std::sync::Arc;

use cluster_rpc::{HistoryClient, MatchingClient};
use cluster_shard::Executors;
use namespaces::Registry;

/// The dependencies of executors.
#[derive(Clone)]
pub struct ExecutorDeps {
    /// The namespaces.
    pub registry: Registry,
    /// The matching service, wherever it is.
    pub matching: MatchingClient,
    /// The history service of other runs' shards.
    pub history: HistoryClient,
}

/// The executors the kernel is started with.
pub fn executors(deps: ExecutorDeps) -> Executors {
    Executors {
        transfer: Arc::new(transfer::Transfer(Arc::new(deps))),
        timer: Arc::new(timer::Timer),
    }
}
