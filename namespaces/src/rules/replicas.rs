//! Where a namespace may live.

use proto_ids::ClusterName;

use crate::{error::Refusal, namespace::Namespace, rules::Topology};

/// Whether the namespace's clusters exist and fit its kind.
pub(super) fn check(topology: &Topology, namespace: &Namespace) -> Result<(), Refusal> {
    for cluster in [&namespace.active_cluster]
        .into_iter()
        .chain(&namespace.clusters)
    {
        check_known(topology, cluster)?;
    }
    if !namespace.is_global {
        return check_local(topology, namespace);
    }
    if !topology.current()?.is_global_namespace_enabled {
        return Err(Refusal::Invalid(format!(
            "global namespace is not enabled on this cluster, cannot update global namespace or promote \
             local namespace: {}",
            namespace.name
        )));
    }
    if !namespace.lives_in(&namespace.active_cluster) {
        return Err(Refusal::invalid(
            "Active cluster is not contained in all clusters.",
        ));
    }
    Ok(())
}

fn check_known(topology: &Topology, cluster: &ClusterName) -> Result<(), Refusal> {
    match topology.clusters.get(cluster) {
        Some(info) if info.connection_enabled || info.name == topology.current => Ok(()),
        _ => Err(Refusal::Invalid(format!(
            "Invalid cluster name: {cluster}."
        ))),
    }
}

fn check_local(topology: &Topology, namespace: &Namespace) -> Result<(), Refusal> {
    if namespace.active_cluster != topology.current {
        return Err(Refusal::invalid("Invalid local namespace active cluster."));
    }
    if namespace.clusters != [topology.current.clone()] {
        return Err(Refusal::invalid("Invalid local namespace clusters."));
    }
    Ok(())
}

/// The list without empty names and repetitions, in its order.
pub(super) fn distinct(clusters: impl IntoIterator<Item = ClusterName>) -> Vec<ClusterName> {
    let mut distinct = Vec::new();
    for cluster in clusters {
        if !cluster.is_empty() && !distinct.contains(&cluster) {
            distinct.push(cluster);
        }
    }
    distinct
}
