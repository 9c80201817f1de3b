//! Two clusters on memory stores: what one writes and tells, the other reads and merges.

mod dying;

use std::time::Duration;

use cluster_runtime::{ManualClock, Settings, Tasks};
use namespaces::{
    Changed, ClusterInfo, Clusters, Manager, ManagerOptions, MessageError, Outbox, Refusal,
    Registry, SYSTEM_NAMESPACE_ID,
    rules::{OwnCluster, Registration, ReplicationChange, Update},
};
use proto_messages::temporal::server::api::replication::v1::replication_task::Attributes;
use schema_store::Store;

struct Cluster {
    clusters: Clusters,
    registry: Registry,
    manager: Manager,
    outbox: Outbox,
    store: Store,
    tasks: Tasks,
}

async fn start(name: &str, initial: i64) -> Cluster {
    start_on(
        schema_store::memory::MemoryStore::new().store(),
        name,
        initial,
    )
    .await
}

async fn start_on(store: Store, name: &str, initial: i64) -> Cluster {
    let own = OwnCluster {
        name: name.into(),
        initial_failover_version: initial,
        failover_version_increment: 100,
        shard_count: 4,
        address: format!("{name}:7233"),
        connection_enabled: true,
        is_global_namespace_enabled: true,
        ..Default::default()
    };
    let tasks = Tasks::new(name.to_owned());
    let settings = Settings::new();
    let clusters = Clusters::start(&own, store.cluster.clone(), settings.clone(), &tasks)
        .await
        .unwrap();
    let registry = Registry::start(store.namespace.clone(), settings, &tasks)
        .await
        .unwrap();
    let options = ManagerOptions {
        master_cluster: "west".into(),
    };
    let manager = Manager::new(
        options,
        store.namespace.clone(),
        registry.clone(),
        clusters.clone(),
        ManualClock::new(1_000_000_000),
    );
    manager.ensure_system().await.unwrap();
    let outbox = Outbox::new(store.queue.clone(), clusters.clone(), registry.clone());
    Cluster {
        clusters,
        registry,
        manager,
        outbox,
        store,
        tasks,
    }
}

fn described(of: &Cluster) -> ClusterInfo {
    ClusterInfo {
        row_version: 0,
        ..(*of.clusters.current()).clone()
    }
}

fn orders() -> Registration {
    Registration {
        name: "orders".into(),
        retention: Duration::from_secs(86_400),
        is_global: true,
        clusters: vec!["west".into(), "east".into()],
        ..Default::default()
    }
}

/// Moves what `from` told since `after` into `to`.
async fn pull(from: &Cluster, to: &Cluster, after: i64) -> i64 {
    let name = to.clusters.current_name();
    let messages = from.outbox.pull(&name, None, after, -1).await.unwrap();
    for task in &messages.replication_tasks {
        let Some(Attributes::NamespaceTaskAttributes(attributes)) = &task.attributes else {
            panic!("{task:?}")
        };
        to.manager
            .merge(&from.clusters.current_name(), attributes)
            .await
            .unwrap();
    }
    messages.last_retrieved_message_id
}

#[tokio::test]
async fn a_namespace_fails_over_there_and_back() {
    let (west, east) = (start("west", 1).await, start("east", 2).await);
    west.clusters.upsert(described(&east)).await.unwrap();
    east.clusters.upsert(described(&west)).await.unwrap();

    let mut seen = west.registry.watch();
    seen.mark_unchanged();
    let made = west.manager.register(orders()).await.unwrap();
    assert!(seen.has_changed().unwrap(), "a local write is seen at once");
    let retrieved = pull(&west, &east, -1).await;
    let copy = east.registry.by_id(&made.id).unwrap();
    assert!(!copy.is_active_in(&"east".into()));

    // The side that takes over says so, and the other is notified of it.
    let over = Update {
        replication: ReplicationChange {
            active_cluster: "east".into(),
            ..Default::default()
        },
        ..Default::default()
    };
    let after = east.manager.update(&"orders".into(), over).await.unwrap();
    assert_eq!(after.failover_version.get(), 2);
    pull(&east, &west, -1).await;
    let back = west.registry.by_name(&"orders".into()).unwrap();
    assert!(!back.is_active_in(&"west".into()));
    assert_eq!(back.failover_version.get(), 2);
    assert_eq!(
        pull(&west, &east, retrieved).await,
        retrieved,
        "merged changes are not told on"
    );

    let refused = west
        .clusters
        .remove(&"east".into(), [&*back])
        .await
        .unwrap_err();
    assert!(matches!(refused, Refusal::Precondition(_)));
    for cluster in [west, east] {
        assert!(cluster.tasks.shutdown(Duration::from_secs(5)).await);
    }
}

#[tokio::test]
async fn acknowledged_messages_are_deleted_and_a_reader_goes_on_where_it_was() {
    let (west, east) = (start("west", 1).await, start("east", 2).await);
    west.clusters.upsert(described(&east)).await.unwrap();
    for i in 0..3 {
        let name = format!("ns-{i}");
        west.manager
            .register(Registration {
                name: name.as_str().into(),
                ..orders()
            })
            .await
            .unwrap();
    }
    let name = "east".into();
    let first = west.outbox.pull(&name, None, -1, -1).await.unwrap();
    assert_eq!(first.replication_tasks.len(), 3);
    let second = first.replication_tasks[1].source_task_id;
    let rest = west.outbox.pull(&name, None, -1, second).await.unwrap();
    assert_eq!(rest.replication_tasks.len(), 1);
    assert_eq!(
        rest.last_retrieved_message_id,
        first.last_retrieved_message_id
    );
    let kept = west
        .store
        .queue
        .queue_read(namespaces::QUEUE, 0, 10)
        .await
        .unwrap();
    assert_eq!(kept.len(), 1);
}

#[tokio::test]
async fn a_consumer_is_believed_as_far_as_the_queue_goes() {
    let (west, east) = (start("west", 1).await, start("east", 2).await);
    let stranger = west.outbox.pull(&"east".into(), None, -1, -1).await;
    assert!(matches!(stranger, Err(MessageError::Refused(_))));
    west.clusters.upsert(described(&east)).await.unwrap();
    west.manager.register(orders()).await.unwrap();
    let name = "east".into();
    let pull =
        async |retrieved, processed| west.outbox.pull(&name, None, retrieved, processed).await;
    for beyond in [2, 1 << 62, i64::MAX, -2, i64::MIN] {
        assert!(matches!(
            pull(-1, beyond).await,
            Err(MessageError::Refused(_))
        ));
        assert!(matches!(
            pull(beyond, -1).await,
            Err(MessageError::Refused(_))
        ));
    }
    assert_eq!(pull(-1, -1).await.unwrap().replication_tasks.len(), 1);
    assert_eq!(pull(-1, 1).await.unwrap().replication_tasks.len(), 0);
}

#[tokio::test]
async fn a_consumer_with_a_new_store_is_told_of_its_namespaces_again() {
    let (west, east) = (start("west", 1).await, start("east", 2).await);
    west.clusters.upsert(described(&east)).await.unwrap();
    let made = west.manager.register(orders()).await.unwrap();
    let alone = Registration {
        name: "west-only".into(),
        clusters: vec!["west".into()],
        ..orders()
    };
    west.manager.register(alone).await.unwrap();
    let id = east.clusters.current().cluster_id.clone();
    let name = "east".into();
    let pull = async |store: &str, processed| {
        let pulled = west.outbox.pull(&name, Some(store), -1, processed);
        pulled.await.unwrap()
    };
    let last = pull(&id, -1).await.last_retrieved_message_id;
    pull(&id, last).await;
    assert!(pull(&id, -1).await.replication_tasks.is_empty());
    let rest = west.store.queue.queue_read(namespaces::QUEUE, 0, 10).await;
    assert!(rest.unwrap().is_empty(), "what was acknowledged went");

    let again = pull("another store", -1).await.replication_tasks;
    let ids: Vec<_> = again
        .iter()
        .map(|task| match &task.attributes {
            Some(Attributes::NamespaceTaskAttributes(attributes)) => attributes.id.as_str(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ids, [made.id.as_str()]);
}

#[tokio::test]
async fn starting_again_keeps_what_was() {
    let west = start("west", 1).await;
    assert!(west.registry.by_id(&SYSTEM_NAMESPACE_ID.into()).is_some());
    let id = west.clusters.current().cluster_id.clone();
    let again = start_on(west.store.clone(), "west", 1).await;
    assert_eq!(again.clusters.current().cluster_id, id);
    let refused = again.manager.register(Registration {
        name: "temporal-system".into(),
        retention: Duration::from_secs(86_400),
        ..Default::default()
    });
    assert!(matches!(refused.await, Err(Refusal::NamespaceExists)));
    let unknown = again
        .manager
        .update(&"nobody".into(), Update::default())
        .await;
    assert!(matches!(unknown, Err(Refusal::NamespaceNotFound(_))));
}

#[tokio::test]
async fn writers_that_meet_all_succeed() {
    let west = start("west", 1).await;
    let local = |i: usize| Registration {
        name: format!("ns-{i}").as_str().into(),
        is_global: false,
        clusters: vec![],
        ..orders()
    };
    let writes: Vec<_> = (0..8)
        .map(|i| {
            let manager = west.manager.clone();
            tokio::spawn(async move { manager.register(local(i)).await })
        })
        .collect();
    for write in writes {
        write.await.unwrap().unwrap();
    }
    let stamps: std::collections::BTreeSet<_> = west
        .registry
        .all()
        .iter()
        .map(|n| n.notification_version)
        .collect();
    assert_eq!(stamps.len(), 9);
    let merged = west
        .manager
        .merge(&"east".into(), &Default::default())
        .await;
    assert!(matches!(
        merged,
        Err(Refusal::Invalid(_)) | Ok(Changed::Ignored)
    ));
}

fn own(name: &str, initial: i64) -> OwnCluster {
    OwnCluster {
        name: name.into(),
        initial_failover_version: initial,
        failover_version_increment: 100,
        shard_count: 4,
        address: format!("{name}:7233"),
        connection_enabled: true,
        is_global_namespace_enabled: true,
        ..Default::default()
    }
}

async fn refused_on(store: &Store, own: &OwnCluster) -> String {
    let tasks = Tasks::new("refused".to_owned());
    let started = Clusters::start(own, store.cluster.clone(), Settings::new(), &tasks).await;
    started.expect_err("refused").to_string()
}

#[tokio::test]
async fn a_start_under_a_wrong_name_writes_nothing_and_the_right_one_still_starts() {
    let store = schema_store::memory::MemoryStore::new().store();
    let west = start_on(store.clone(), "west", 1).await;
    let east = start("east", 2).await;
    west.clusters.upsert(described(&east)).await.unwrap();
    let before = store.cluster.cluster_list().await.unwrap();
    // A slip, and the name of a cluster that is known here.
    for (name, initial) in [("wset", 1), ("wset", 7), ("east", 2)] {
        let told = refused_on(&store, &own(name, initial)).await;
        assert!(told.contains("belongs to cluster `west`"), "{told}");
    }
    assert_eq!(store.cluster.cluster_list().await.unwrap(), before);
    let again = start_on(store.clone(), "west", 1).await;
    assert_eq!(
        again.clusters.shared_key().bytes(),
        west.clusters.shared_key().bytes()
    );
    assert_ne!(
        again.clusters.shared_key().bytes(),
        east.clusters.shared_key().bytes()
    );
    assert_eq!(again.clusters.shared_key().bytes().len(), 32);
}

#[tokio::test]
async fn a_database_started_under_a_wrong_name_can_be_adopted() {
    let store = schema_store::memory::MemoryStore::new().store();
    let wrong = start_on(store.clone(), "wset", 1).await;
    let local = Registration {
        is_global: false,
        clusters: Vec::new(),
        ..orders()
    };
    wrong.manager.register(local).await.unwrap();
    let key = wrong.clusters.shared_key().clone();
    let id = wrong.clusters.current().cluster_id.clone();
    let told = refused_on(&store, &own("west", 1)).await;
    assert!(told.contains("schema adopt"), "{told}");
    let done = namespaces::clusters::adopt::adopt(&own("west", 1), &store)
        .await
        .unwrap();
    assert!(
        done.iter().any(|d| d.contains("wset is forgotten")),
        "{done:?}"
    );
    let right = start_on(store.clone(), "west", 1).await;
    assert_eq!(right.clusters.all().len(), 1);
    assert_eq!(right.clusters.current().cluster_id, id);
    assert_eq!(right.clusters.shared_key().bytes(), key.bytes());
    let orders = right.manager.get(&"orders".into()).await.unwrap();
    assert_eq!(
        (orders.active_cluster.as_str(), orders.clusters.len()),
        ("west", 1)
    );
    assert!(right.registry.by_id(&SYSTEM_NAMESPACE_ID.into()).is_some());
    let done = namespaces::clusters::adopt::adopt(&own("west", 1), &store)
        .await
        .unwrap();
    assert!(done.is_empty(), "{done:?}");
}

#[tokio::test]
async fn a_directory_with_a_wrong_name_of_this_cluster_is_mended() {
    // As an older version left it: both names, neither marked.
    let store = schema_store::memory::MemoryStore::new().store();
    let west = start_on(store.clone(), "west", 1).await;
    let other = schema_store::memory::MemoryStore::new().store();
    start_on(other.clone(), "wset", 1).await;
    for row in other.cluster.cluster_list().await.unwrap() {
        let row = schema_store::cluster::ClusterRecord { version: 0, ..row };
        store.cluster.cluster_put(row).await.unwrap();
    }
    west.tasks.kill().await;
    let told = refused_on(&store, &own("west", 1)).await;
    assert!(told.contains("schema adopt"), "{told}");
    namespaces::clusters::adopt::adopt(&own("west", 1), &store)
        .await
        .unwrap();
    let mended = start_on(store, "west", 1).await;
    assert_eq!(mended.clusters.all().len(), 1);
}
