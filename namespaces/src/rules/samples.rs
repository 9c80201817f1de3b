//! Clusters and namespaces that tests of the rules share.

use std::{sync::Arc, time::Duration};

use proto_ids::FailoverVersion;

use crate::{clusters::ClusterInfo, namespace::Namespace, rules::Topology};

pub fn topology(current: &str) -> Topology {
    let all = [("west", 1), ("east", 2), ("north", 3)].map(|(name, initial)| ClusterInfo {
        name: name.into(),
        initial_failover_version: initial,
        failover_version_increment: 100,
        shard_count: 4,
        address: format!("{name}:7233"),
        connection_enabled: true,
        is_global_namespace_enabled: true,
        ..Default::default()
    });
    Topology {
        current: current.into(),
        clusters: all
            .into_iter()
            .map(|c| (c.name.clone(), Arc::new(c)))
            .collect(),
    }
}

pub fn local() -> Namespace {
    Namespace {
        id: "id".into(),
        name: "orders".into(),
        state: 1,
        retention: Duration::from_secs(86_400),
        active_cluster: "west".into(),
        clusters: vec!["west".into()],
        ..Default::default()
    }
}

pub fn global(active: &str) -> Namespace {
    let initial = topology(active).clusters[&active.into()].initial_failover_version;
    Namespace {
        is_global: true,
        active_cluster: active.into(),
        clusters: vec!["west".into(), "east".into()],
        failover_version: FailoverVersion::new(initial),
        ..local()
    }
}
