//! Making another cluster the active one.

use proto_ids::{ClusterName, FailoverVersion, Timestamp};

use crate::{
    error::Refusal,
    namespace::Namespace,
    rules::{change::Stamp, directory::Topology},
};

/// Failovers remembered per namespace.
const HISTORY: usize = 10;

/// Makes the cluster the active one: the next version it owns, no handover any more. Naming the cluster
/// that is active already keeps the version, but where it was put back from a copy: the version it has may have been
/// used for what the copy lacks.
pub(super) fn fail_over(
    topology: &Topology,
    namespace: &mut Namespace,
    to: &ClusterName,
    stamp: Stamp,
) -> Result<(), Refusal> {
    let moved = namespace.active_cluster != *to || namespace.is_held_since_restore();
    if namespace.is_held_since_restore() {
        namespace.failover_version = FailoverVersion::new(namespace.failover_version.get() + 1);
    }
    namespace.active_cluster = to.clone();
    namespace.handover = false;
    namespace.handover_until = Timestamp::ZERO;
    raise(topology, namespace, stamp)?;
    if moved {
        remember(namespace, stamp);
    }
    Ok(())
}

/// Gives a local namespace the first version of the active cluster, from which on it replicates.
pub(super) fn promote(
    topology: &Topology,
    namespace: &mut Namespace,
    stamp: Stamp,
) -> Result<(), Refusal> {
    namespace.is_global = true;
    raise(topology, namespace, stamp)
}

fn raise(topology: &Topology, namespace: &mut Namespace, stamp: Stamp) -> Result<(), Refusal> {
    namespace.failover_version =
        topology.next_version(&namespace.active_cluster, namespace.failover_version)?;
    namespace.failover_notification_version = stamp.notification_version;
    Ok(())
}

fn remember(namespace: &mut Namespace, stamp: Stamp) {
    namespace
        .failover_history
        .push((stamp.now, namespace.failover_version));
    let surplus = namespace.failover_history.len().saturating_sub(HISTORY);
    namespace.failover_history.drain(..surplus);
}
