//! The clusters that know each other: what is frozen once a cluster has started, what a remote one must
//! agree with, and when one may be forgotten.

use std::{collections::BTreeMap, sync::Arc};

use proto_ids::{ClusterName, FailoverVersion};

use crate::{
    clusters::ClusterInfo,
    error::Refusal,
    namespace::Namespace,
    rules::version::{initial_of, next_version},
};

/// This cluster's own configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnCluster {
    /// Its name.
    pub name: ClusterName,
    /// Its versions modulo the increment.
    pub initial_failover_version: i64,
    /// The same in all connected clusters.
    pub failover_version_increment: i64,
    /// Its history shards.
    pub shard_count: i32,
    /// Where peers reach its frontend.
    pub address: String,
    /// Where peers reach its HTTP API.
    pub http_address: String,
    /// Whether the row says that peers may connect.
    pub connection_enabled: bool,
    /// Whether global namespaces can be registered; once on, on for ever.
    pub is_global_namespace_enabled: bool,
    /// Free text by key.
    pub tags: std::collections::HashMap<String, String>,
}

/// The most history shards that a cluster may have. A peer that claims more would be believed by the streams
/// that are opened for it.
pub const SHARDS_MAX: i32 = 16_384;

/// All known clusters at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Topology {
    /// This cluster.
    pub current: ClusterName,
    /// All, this one included, by name.
    pub clusters: BTreeMap<ClusterName, Arc<ClusterInfo>>,
}

impl Topology {
    /// The cluster that somebody speaks for, when no cluster they speak for has to do with the namespace: it neither
    /// lives there nor is that cluster this one. None for those who speak for no cluster at all.
    pub fn stranger_to(
        &self,
        namespace: &Namespace,
        speaks_for: impl Fn(&str) -> bool,
    ) -> Option<ClusterName> {
        let mut stranger = None;
        for cluster in self.clusters.keys().filter(|c| speaks_for(c.as_str())) {
            let shares = namespace.is_global && namespace.lives_in(cluster);
            if *cluster == self.current || shares {
                return None;
            }
            stranger.get_or_insert_with(|| cluster.clone());
        }
        stranger
    }
}

/// This cluster's row at start: the stored one where it is frozen, the configuration elsewhere. Also
/// tells where the configuration was overruled.
pub fn boot(
    stored: Option<&ClusterInfo>,
    own: &OwnCluster,
    new_id: impl FnOnce() -> String,
) -> (ClusterInfo, Vec<String>) {
    let fresh = |cluster_id| ClusterInfo {
        name: own.name.clone(),
        cluster_id,
        initial_failover_version: own.initial_failover_version,
        failover_version_increment: own.failover_version_increment,
        shard_count: own.shard_count,
        address: own.address.clone(),
        http_address: own.http_address.clone(),
        connection_enabled: own.connection_enabled,
        replication_enabled: own.connection_enabled,
        is_global_namespace_enabled: own.is_global_namespace_enabled,
        tags: own.tags.clone(),
        row_version: 0,
    };
    let Some(stored) = stored else {
        return (fresh(new_id()), Vec::new());
    };
    let mut info = fresh(stored.cluster_id.clone());
    info.row_version = stored.row_version;
    let mut overruled = Vec::new();
    if stored.shard_count != own.shard_count {
        overruled.push(format!(
            "the stored shard count {} stays, not the configured {}",
            stored.shard_count, own.shard_count
        ));
        info.shard_count = stored.shard_count;
    }
    if stored.is_global_namespace_enabled {
        if !own.is_global_namespace_enabled {
            overruled.push("global namespaces stay enabled".to_owned());
            info.is_global_namespace_enabled = true;
        }
        if (
            stored.failover_version_increment,
            stored.initial_failover_version,
        ) != (own.failover_version_increment, own.initial_failover_version)
        {
            overruled.push(format!(
                "the stored failover versions {} of {} stay, not the configured {} of {}",
                stored.initial_failover_version,
                stored.failover_version_increment,
                own.initial_failover_version,
                own.failover_version_increment
            ));
            info.failover_version_increment = stored.failover_version_increment;
            info.initial_failover_version = stored.initial_failover_version;
        }
    }
    (info, overruled)
}

/// Whether the database is this cluster's. `owners` are those that started on it before; none are known where
/// only an older version did.
pub fn check_owner(topology: &Topology, owners: &[&ClusterName]) -> Result<(), Refusal> {
    let own = &topology.current;
    let is_known = topology.clusters.contains_key(own);
    let names = |names: &mut dyn Iterator<Item = &ClusterName>| {
        names
            .map(|n| format!("`{n}`"))
            .collect::<Vec<_>>()
            .join(" or ")
    };
    let belongs_to = match owners {
        [] if is_known || topology.clusters.is_empty() => return Ok(()),
        [] => names(&mut topology.clusters.keys()),
        [owner] if *owner == own => return Ok(()),
        owners => names(&mut owners.iter().copied().filter(|o| *o != own)),
    };
    Err(Refusal::Precondition(format!(
        "this database belongs to cluster {belongs_to}, and clusterMetadata.currentClusterName is `{own}`. Nothing was \
         written. Correct the name, or name a database of its own; if `{own}` is right and the database was started \
         under a wrong name, `meridian schema adopt --config FILE` gives it to `{own}`"
    )))
}

/// Whether a set of clusters can be worked with as a whole.
pub fn check_directory(topology: &Topology) -> Result<(), Refusal> {
    if !topology.clusters.contains_key(&topology.current) {
        return Err(Refusal::invalid(format!(
            "current cluster {} is not in the cluster directory",
            topology.current
        )));
    }
    let mut seen = BTreeMap::new();
    for cluster in topology.clusters.values() {
        check_one(cluster)?;
        if let Some(other) = seen.insert(cluster.initial_failover_version, &cluster.name) {
            return Err(Refusal::invalid(format!(
                "clusters {other} and {} have the same initial failover version {}; if one of them is a wrong name of this cluster, \
                 stop it and run `meridian schema adopt --config FILE` with the right one",
                cluster.name, cluster.initial_failover_version
            )));
        }
    }
    Ok(())
}

fn check_one(cluster: &ClusterInfo) -> Result<(), Refusal> {
    if cluster.name.is_empty() {
        return Err(Refusal::invalid("cluster name is empty"));
    }
    let increment = cluster.failover_version_increment;
    if increment < 1 || increment > i64::from(i32::MAX) {
        return Err(Refusal::invalid(format!(
            "failover version increment {increment} of cluster {} is out of range",
            cluster.name
        )));
    }
    if cluster.initial_failover_version < 1 || cluster.initial_failover_version >= increment {
        return Err(Refusal::invalid(format!(
            "initial failover version {} of cluster {} is not between 1 and the increment {increment}",
            cluster.initial_failover_version, cluster.name
        )));
    }
    if cluster.connection_enabled && cluster.address.is_empty() {
        return Err(Refusal::invalid(format!(
            "cluster {} is enabled and has no address",
            cluster.name
        )));
    }
    Ok(())
}

/// Whether a remote cluster, as it described itself, can be connected with this one.
pub fn check_remote(topology: &Topology, remote: &ClusterInfo) -> Result<(), Refusal> {
    let current = topology.current()?;
    if remote.name == current.name {
        return Err(Refusal::invalid(
            "Cannot update current cluster metadata from rpc calls",
        ));
    }
    if remote.failover_version_increment != current.failover_version_increment {
        return Err(Refusal::invalid(
            "Cannot add remote cluster due to failover version increment mismatch",
        ));
    }
    let (ours, theirs) = (current.shard_count, remote.shard_count);
    if theirs <= 0 {
        return Err(Refusal::invalid(
            "Cannot add remote cluster due to invalid history shard number",
        ));
    }
    if theirs > SHARDS_MAX {
        return Err(Refusal::Invalid(format!(
            "Cannot add remote cluster: it claims {theirs} history shards, and {SHARDS_MAX} is the most that there can be"
        )));
    }
    if ours.max(theirs) % ours.min(theirs).max(1) != 0 {
        return Err(Refusal::invalid(
            "Remote cluster shard number and local cluster shard number are not multiples.",
        ));
    }
    if !remote.is_global_namespace_enabled {
        return Err(Refusal::invalid(
            "Cannot add remote cluster as global namespace is not supported",
        ));
    }
    let taken = topology.clusters.values().any(|c| {
        c.name != remote.name && c.initial_failover_version == remote.initial_failover_version
    });
    if taken {
        return Err(Refusal::invalid(
            "Cannot add remote cluster due to initial failover version conflict",
        ));
    }
    check_one(remote)
}

/// Whether a cluster may be forgotten: not while a namespace lives both here and there.
pub fn check_removal<'a>(
    topology: &Topology,
    removed: &ClusterName,
    namespaces: impl IntoIterator<Item = &'a Namespace>,
) -> Result<(), Refusal> {
    if *removed == topology.current {
        return Err(Refusal::invalid("Cannot remove current cluster metadata"));
    }
    let shared = namespaces.into_iter().find(|n| {
        n.is_replicated() && !n.is_deleted() && n.lives_in(removed) && n.lives_in(&topology.current)
    });
    match shared {
        Some(namespace) => Err(Refusal::Precondition(format!(
            "Cannot remove cluster {removed}: namespace {} is replicated to it",
            namespace.name
        ))),
        None => Ok(()),
    }
}

impl Topology {
    /// This cluster's entry.
    pub fn current(&self) -> Result<&Arc<ClusterInfo>, Refusal> {
        self.clusters
            .get(&self.current)
            .ok_or_else(|| Refusal::ClusterNotFound(self.current.to_string()))
    }

    /// The cluster with this initial version, which is also its number on the wire.
    pub fn by_initial(&self, initial: i64) -> Option<&Arc<ClusterInfo>> {
        self.clusters
            .values()
            .find(|c| c.initial_failover_version == initial)
    }

    /// The next version of a cluster from the current one of a namespace.
    pub fn next_version(
        &self,
        cluster: &ClusterName,
        current: FailoverVersion,
    ) -> Result<FailoverVersion, Refusal> {
        let info = self
            .clusters
            .get(cluster)
            .ok_or_else(|| Refusal::invalid(format!("Invalid cluster name: {cluster}.")))?;
        next_version(
            info.initial_failover_version,
            info.failover_version_increment,
            current,
        )
        .ok_or_else(|| {
            Refusal::Precondition(format!(
                "failover version {current} is the last one: there is none after it for cluster {cluster}"
            ))
        })
    }

    /// The cluster that owns a version of a global namespace; an unknown one gets a name that says so.
    pub fn cluster_of(&self, version: FailoverVersion) -> ClusterName {
        let increment = self
            .clusters
            .get(&self.current)
            .map_or(1, |c| c.failover_version_increment);
        let initial = match version.get() {
            0 => 0,
            _ => initial_of(version, increment),
        };
        self.by_initial(initial).map_or_else(
            || ClusterName::from(format!("unknown-cluster-{initial}")),
            |c| c.name.clone(),
        )
    }
}

#[cfg(test)]
mod tests;
