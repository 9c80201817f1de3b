//! What is done to a database while no server runs, broken off after each of its writes: whoever died leaves the old
//! state or one that is refused, and doing it again comes to the same end.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use namespaces::{
    Namespace,
    clusters::{adopt, restored},
    rules::{ReplicationChange, Update},
};
use proto_ids::{ClusterName, NamespaceId, NamespaceName, Timestamp};
use schema_store::{
    Store, StoreError,
    cluster::{ClusterRecord, ClusterStore, MemberRecord},
    memory::MemoryStore,
    namespace::{NamespaceRecord, NamespaceStore, QueueMessage},
};

use crate::{described, orders, own, refused_on, start, start_on};

/// A store that dies after some writes.
struct Dying {
    clusters: Arc<dyn ClusterStore>,
    namespaces: Arc<dyn NamespaceStore>,
    left: AtomicUsize,
}

/// The store, as one who dies after so many writes sees it.
fn dying(store: &Store, writes: usize) -> Store {
    let dying = Arc::new(Dying {
        clusters: store.cluster.clone(),
        namespaces: store.namespace.clone(),
        left: AtomicUsize::new(writes),
    });
    Store {
        cluster: dying.clone(),
        namespace: dying,
        ..store.clone()
    }
}

impl Dying {
    fn write(&self) -> Result<(), StoreError> {
        let left = self.left.load(Ordering::SeqCst).checked_sub(1);
        let left = left.ok_or_else(|| StoreError::Unavailable("it died".to_owned()))?;
        self.left.store(left, Ordering::SeqCst);
        Ok(())
    }
}

#[async_trait]
impl ClusterStore for Dying {
    async fn cluster_list(&self) -> Result<Vec<ClusterRecord>, StoreError> {
        self.clusters.cluster_list().await
    }

    async fn cluster_put(&self, record: ClusterRecord) -> Result<(), StoreError> {
        self.write()?;
        self.clusters.cluster_put(record).await
    }

    async fn cluster_delete(&self, name: &ClusterName) -> Result<(), StoreError> {
        self.write()?;
        self.clusters.cluster_delete(name).await
    }

    async fn member_put(&self, record: MemberRecord) -> Result<(), StoreError> {
        self.clusters.member_put(record).await
    }

    async fn member_list(&self, since: Timestamp) -> Result<Vec<MemberRecord>, StoreError> {
        self.clusters.member_list(since).await
    }

    async fn member_delete(&self, id: &str) -> Result<(), StoreError> {
        self.clusters.member_delete(id).await
    }

    async fn cluster_restored_settle(&self) -> Result<(), StoreError> {
        self.write()
    }
}

#[async_trait]
impl NamespaceStore for Dying {
    async fn namespace_version(&self) -> Result<i64, StoreError> {
        self.namespaces.namespace_version().await
    }

    async fn namespace_create(
        &self,
        record: NamespaceRecord,
        version: i64,
        message: Option<QueueMessage>,
    ) -> Result<(), StoreError> {
        self.write()?;
        let namespaces = &self.namespaces;
        namespaces.namespace_create(record, version, message).await
    }

    async fn namespace_update(
        &self,
        record: NamespaceRecord,
        version: i64,
        message: Option<QueueMessage>,
    ) -> Result<(), StoreError> {
        self.write()?;
        let namespaces = &self.namespaces;
        namespaces.namespace_update(record, version, message).await
    }

    async fn namespace_get(&self, id: &NamespaceId) -> Result<Option<NamespaceRecord>, StoreError> {
        self.namespaces.namespace_get(id).await
    }

    async fn namespace_get_by_name(
        &self,
        name: &NamespaceName,
    ) -> Result<Option<NamespaceRecord>, StoreError> {
        self.namespaces.namespace_get_by_name(name).await
    }

    async fn namespace_list(
        &self,
        after: Option<NamespaceName>,
        limit: usize,
    ) -> Result<Vec<NamespaceRecord>, StoreError> {
        self.namespaces.namespace_list(after, limit).await
    }

    async fn namespace_delete(&self, id: &NamespaceId) -> Result<(), StoreError> {
        self.write()?;
        self.namespaces.namespace_delete(id).await
    }
}

#[tokio::test]
async fn an_adoption_that_was_broken_off_is_refused_and_can_be_done_again() {
    let mut deaths = 0;
    for writes in 0.. {
        let store = MemoryStore::new().store();
        let wrong = start_on(store.clone(), "wset", 1).await;
        let local = namespaces::rules::Registration {
            is_global: false,
            clusters: Vec::new(),
            ..orders()
        };
        wrong.manager.register(local).await.unwrap();
        wrong.tasks.kill().await;
        let done = adopt::adopt(&own("west", 1), &dying(&store, writes)).await;
        if done.is_err() {
            deaths += 1;
            let told = refused_on(&store, &own("west", 1)).await;
            assert!(
                told.contains("schema adopt"),
                "after {writes} writes: {told}"
            );
            adopt::adopt(&own("west", 1), &store).await.unwrap();
        }
        let right = start_on(store, "west", 1).await;
        assert_eq!(right.clusters.all().len(), 1, "after {writes} writes");
        let orders = right.manager.get(&"orders".into()).await.unwrap();
        assert_eq!(orders.active_cluster.as_str(), "west");
        assert_eq!(orders.clusters, ["west".into()]);
        if done.is_ok() {
            break;
        }
    }
    assert!(deaths >= 3, "{deaths}");
}

/// West and its namespace, which lives in east, too, and is active in west; west has stopped.
async fn stopped_west() -> (Store, Arc<Namespace>, String) {
    let store = MemoryStore::new().store();
    let (west, east) = (
        start_on(store.clone(), "west", 1).await,
        start("east", 2).await,
    );
    west.clusters.upsert(described(&east)).await.unwrap();
    let made = west.manager.register(orders()).await.unwrap();
    let id = west.clusters.current().cluster_id.clone();
    west.tasks.kill().await;
    (store, made, id)
}

#[tokio::test]
async fn a_cluster_that_was_put_back_holds_what_others_have_and_has_a_new_id() {
    let mut deaths = 0;
    for writes in 0.. {
        let (store, made, id) = stopped_west().await;
        let done = restored::settle(&own("west", 1), &dying(&store, writes)).await;
        if done.is_err() {
            deaths += 1;
            restored::settle(&own("west", 1), &store).await.unwrap();
        }
        let west = start_on(store, "west", 1).await;
        assert_ne!(west.clusters.current().cluster_id, id);
        let held = west.manager.get(&made.name).await.unwrap();
        assert!(held.is_held_since_restore(), "after {writes} writes");
        assert_eq!(held.failover_version, made.failover_version);
        // Nobody lifts it but a failover, and that raises the version.
        let change = |replication| Update {
            replication,
            ..Default::default()
        };
        let lifted = change(ReplicationChange {
            handover: Some(false),
            ..Default::default()
        });
        assert!(west.manager.update(&made.name, lifted).await.is_err());
        let failed_over = change(ReplicationChange {
            active_cluster: "west".into(),
            ..Default::default()
        });
        let after = west.manager.update(&made.name, failed_over).await.unwrap();
        assert!(!after.handover);
        assert!(after.failover_version > made.failover_version);
        if done.is_ok() {
            break;
        }
    }
    assert!(deaths >= 3, "{deaths}");
}

/// Whoever dies between the hold and the flip leaves the old side, which the next one lets go on, or the new one. Who
/// comes too late to do the one or the other is refused.
#[tokio::test]
async fn a_switchover_broken_off_between_hold_and_flip_leaves_one_side() {
    for flips in [false, true] {
        let (store, made, _) = stopped_west().await;
        let mortal = start_on(dying(&store, 1 + usize::from(flips)), "west", 1).await;
        let change = |active: &str, handover, expected| Update {
            replication: ReplicationChange {
                active_cluster: active.into(),
                handover,
                expected_version: Some(expected),
                ..Default::default()
            },
            ..Default::default()
        };
        let hold = change("", Some(true), made.notification_version);
        let held = mortal.manager.update(&made.name, hold).await.unwrap();
        let flip = change("east", None, held.notification_version);
        let flipped = mortal.manager.update(&made.name, flip.clone()).await;
        assert_eq!(flipped.is_ok(), flips);
        mortal.tasks.kill().await;

        let west = start_on(store, "west", 1).await;
        let undo = change("", Some(false), held.notification_version);
        let undone = west.manager.update(&made.name, undo).await;
        assert_eq!(undone.is_ok(), !flips, "{undone:?}");
        let late = west.manager.update(&made.name, flip).await;
        assert!(late.is_err(), "{late:?}");
        let now = west.manager.get(&made.name).await.unwrap();
        assert!(!now.handover);
        let (active, version) = if flips { ("east", 2) } else { ("west", 1) };
        assert_eq!(now.active_cluster.as_str(), active);
        assert_eq!(now.failover_version.get(), version);
    }
}
