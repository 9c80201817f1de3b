//! The reconciler over the memory store, with a clock that is moved by hand.

use std::sync::Arc;

use cluster_runtime::{clock::ManualClock, settings::Settings, task::Tasks};
use namespaces::{
    Clusters, Manager, ManagerOptions, Registry, clusters::ClusterInfo, rules::Registration,
};
use proto_ids::NamespaceName;
use schema_store::memory::MemoryStore;

use super::*;

fn cluster(name: &str, initial: i64) -> ClusterInfo {
    ClusterInfo {
        name: name.into(),
        initial_failover_version: initial,
        failover_version_increment: 10,
        shard_count: 4,
        address: "127.0.0.1:1".into(),
        connection_enabled: true,
        replication_enabled: true,
        is_global_namespace_enabled: true,
        ..Default::default()
    }
}

#[tokio::test]
async fn a_hold_nobody_finished_ends_at_its_deadline_and_not_before() {
    let clock = ManualClock::new(1_000_000_000_000);
    let tasks = Tasks::new("test");
    let store = MemoryStore::new().store().namespace;
    let clusters = Clusters::fixed(cluster("west", 1), vec![cluster("east", 2)]);
    let registry = Registry::start(store.clone(), Settings::new(), &tasks)
        .await
        .expect("registry");
    let manager = Manager::new(
        ManagerOptions {
            master_cluster: "west".into(),
        },
        store,
        registry.clone(),
        clusters.clone(),
        clock.clone(),
    );
    let name = NamespaceName::new("orders");
    let wanted = Registration {
        name: name.clone(),
        retention: Duration::from_secs(86_400),
        is_global: true,
        clusters: vec!["west".into(), "east".into()],
        ..Default::default()
    };
    manager.register(wanted).await.expect("register");
    let hold = Update {
        replication: ReplicationChange {
            handover: Some(true),
            hold_for: Some(Duration::from_secs(5)),
            ..Default::default()
        },
        ..Default::default()
    };
    manager.update(&name, hold).await.expect("hold");
    let deps = WorkerDeps {
        registry,
        manager: manager.clone(),
        clusters,
        clock: clock.clone(),
    };
    let held = || async { Arc::unwrap_or_clone(manager.get(&name).await.expect("get")).handover };

    reconcile(&deps).await;
    assert!(held().await, "the deadline is ahead");
    clock.advance(Duration::from_secs(5));
    reconcile(&deps).await;
    assert!(!held().await, "the deadline has passed");
}
