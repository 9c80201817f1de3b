//! The worker service's system jobs, as reconcilers: each compares what is wanted with what is, acts, and
//! reports; woken by a signal or a period, without arguments, by the same path in calm and in disaster. They
//! may run on several nodes at once: every action is a compare-and-set. Replication pullers run on the same
//! nodes, but belong to the replication crate.

mod handover;

use cluster_runtime::{
    clock::SharedClock,
    task::{TaskKind, Tasks},
};
use namespaces::{Clusters, Manager, Registry};

/// The dependencies of the jobs.
#[derive(Clone)]
pub struct WorkerDeps {
    /// Namespaces as they are.
    pub registry: Registry,
    /// Changes them.
    pub manager: Manager,
    /// Which cluster this is.
    pub clusters: Clusters,
    /// The clock.
    pub clock: SharedClock,
}

/// Starts all jobs; they end with the task group.
pub fn start(deps: WorkerDeps, tasks: &Tasks) {
    tasks.spawn_restarting(TaskKind::Background, "handover-reconciler", move || {
        handover::run(deps.clone())
    });
}
