//! Undoes handovers that were not finished: when a namespace is held back past its deadline, writes resume
//! where they were. The process that runs a switchover may die at any step; this is what makes that safe.

use std::time::Duration;

use namespaces::{
    Namespace, Refusal,
    rules::{ReplicationChange, Update},
};
use proto_ids::Timestamp;

use crate::WorkerDeps;

/// Longest sleep, for a clock that jumps.
const PERIOD: Duration = Duration::from_secs(1);

/// Runs until dropped.
pub(crate) async fn run(deps: WorkerDeps) {
    let mut changed = deps.registry.watch();
    loop {
        let pause = reconcile(&deps).await;
        let woken = tokio::time::timeout(pause, changed.changed()).await;
        if matches!(woken, Ok(Err(_))) {
            return;
        }
    }
}

/// Ends what is overdue; returns how long nothing else can become so.
async fn reconcile(deps: &WorkerDeps) -> Duration {
    let here = deps.clusters.current_name();
    let now = Timestamp::from_nanos(deps.clock.now_nanos());
    let mut pause = PERIOD;
    for namespace in deps.registry.all() {
        if !namespace.handover || !namespace.is_active_in(&here) {
            continue;
        }
        let left = namespace.handover_until.since(now);
        if left.is_zero() {
            undo(deps, &namespace).await;
        } else {
            pause = pause.min(left);
        }
    }
    pause.max(Duration::from_millis(5))
}

async fn undo(deps: &WorkerDeps, namespace: &Namespace) {
    let wanted = Update {
        replication: ReplicationChange {
            handover: Some(false),
            // Somebody who finished it meanwhile has won.
            expected_version: Some(namespace.notification_version),
            ..Default::default()
        },
        ..Default::default()
    };
    match deps.manager.update(&namespace.name, wanted).await {
        Ok(_) => {
            tracing::warn!(namespace = %namespace.name, "a hand-over was not finished in time; writes resume here");
        }
        Err(Refusal::Precondition(reason)) => {
            tracing::debug!(namespace = %namespace.name, reason, "the hand-over was ended by another");
        }
        Err(refusal) => {
            tracing::warn!(namespace = %namespace.name, %refusal, "an overdue hand-over cannot be ended yet; it is tried again");
        }
    }
}

#[cfg(test)]
mod tests;
