//! Shards follow the ring: from one process to two and back, while work goes on.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use cluster_membership::{Join, Member, Membership, Role, StoreContacts, Timing};
use cluster_runtime::{Settings, SharedClock, SystemClock, Tasks};
use cluster_shard::{ShardError, UpdateError};
use namespaces::{Namespace, Registry};
use proto_ids::{NamespaceId, RunKey, ShardId, WorkflowId};
use schema_store::{Store, memory::MemoryStore};

use crate::world::{NS, World, namespace, quick, replicated, until};

/// A process of the cluster; its registry is `fixed`, or reads the store once at the start and when asked to.
async fn process(id: &str, base: &Store, fixed: Option<Namespace>) -> World {
    let clock: SharedClock = SystemClock::shared();
    let at = ([127, 0, 0, 1], 0).into();
    let join = Join {
        member: Member {
            id: id.into(),
            gossip: at,
            roles: vec![(Role::History, ([127, 0, 0, 1], 1).into())],
            incarnation: 0,
        },
        bind: at,
        cluster: "east".into(),
        key: b"secret".to_vec(),
        metrics: Default::default(),
        contacts: Arc::new(StoreContacts::new(base.cluster.clone(), clock.clone())),
        timing: Timing {
            probe_every: Duration::from_millis(100),
            answer_within: Duration::from_millis(40),
            suspect_for: Duration::from_millis(300),
            gossip_every: Duration::from_millis(40),
            contact_every: Duration::from_millis(100),
        },
    };
    let tasks = Tasks::new(id.to_owned());
    let membership = Membership::join(join, &clock, &tasks).await.expect("joins");
    let mut options = quick();
    options.shard_count = 16;
    let registry = match fixed {
        Some(namespace) => Registry::fixed(vec![namespace]),
        None => {
            let never = ("system.namespaceCacheRefreshInterval", "10h");
            Registry::start(base.namespace.clone(), Settings::of([never]), &tasks)
                .await
                .expect("reads the store")
        }
    };
    World::member(
        membership,
        tasks,
        base.clone(),
        options,
        registry,
        true,
        Default::default(),
    )
}

fn owned(world: &World) -> BTreeSet<ShardId> {
    world.shards.owned().iter().map(|s| s.id()).collect()
}

/// Returns when all shards are shared out between the two, and none moves any more.
async fn shared(a: &World, b: &World) {
    until("both own some, and none is owned twice", || {
        let (a, b) = (owned(a), owned(b));
        !b.is_empty() && a.is_disjoint(&b) && a.len() + b.len() == 16
    })
    .await;
}

/// As a routed client does: asks whoever says that it owns the shard, again and again.
async fn signal(worlds: &[&World], id: &str, request: &str) {
    for attempt in 0..2_000 {
        let world = worlds[attempt % worlds.len()];
        let (ns, wid) = (NamespaceId::from(NS), WorkflowId::from(id));
        let result = match world.shards.for_workflow(&ns, &wid).await {
            Ok(_) => world.try_signal(id, request).await,
            Err(error) => Err(UpdateError::Shard(error)),
        };
        match result {
            Ok(_) => return,
            Err(UpdateError::Shard(
                ShardError::NotOwner { .. }
                | ShardError::Lost(_)
                | ShardError::Dropped(_)
                | ShardError::Unavailable(_),
            )) => tokio::time::sleep(Duration::from_millis(5)).await,
            Err(other) => panic!("{other:?}"),
        }
    }
    panic!("nobody took the signal");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_follow_the_ring() {
    let base = MemoryStore::new().store();
    let a = process("a", &base, Some(namespace())).await;
    until("the first owns all", || owned(&a).len() == 16).await;
    let ids: Vec<_> = (0..32).map(|n| format!("w{n}")).collect();
    for id in &ids {
        a.start(id).await.unwrap();
    }
    let b = process("b", &base, Some(namespace())).await;
    for (n, id) in ids.iter().enumerate() {
        // Signals keep coming while shards move.
        signal(&[&a, &b], id, "joining").await;
        tokio::time::sleep(Duration::from_millis(n as u64 % 8)).await;
    }
    shared(&a, &b).await;
    for id in &ids {
        signal(&[&a, &b], id, "joined").await;
    }
    // The second dies without a word.
    b.tasks.kill().await;
    until("the first owns all again", || owned(&a).len() == 16).await;
    for id in &ids {
        signal(&[&a], id, "alone").await;
        signal(&[&a], id, "joined").await;
        let shard = a.shard(id).await;
        let run = RunKey::new(NS, id.as_str(), "");
        let signals = shard
            .read(&run, |w| w.execution_info.signal_count)
            .await
            .unwrap();
        assert_eq!(signals, 3, "each signal counts once");
    }
}

/// Stores that the namespace is held back for a hand-over, as a switchover does first.
async fn hold(base: &Store) {
    let held = Namespace {
        handover: true,
        ..replicated("a")
    };
    let version = base.namespace.namespace_version().await.unwrap();
    let written = base
        .namespace
        .namespace_update(held.to_record(), version, None);
    written.await.unwrap();
}

/// A hold is a promise of the cluster, not of the process that gave it: it goes on when a process that has not
/// heard of it takes the shards over, and a process that is no longer the owner cannot give it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_outlives_the_process_that_promised_it() {
    let base = MemoryStore::new().store();
    let version = base.namespace.namespace_version().await.unwrap();
    let created = base
        .namespace
        .namespace_create(replicated("a").to_record(), version, None);
    created.await.unwrap();
    let a = process("a", &base, None).await;
    until("the first owns all", || owned(&a).len() == 16).await;
    a.start("w").await.unwrap();
    let ns = NamespaceId::from(NS);
    let id = a.shard("w").await.id();
    // The second has read the namespaces before the hold, and would look again in ten hours.
    let b = process("b", &base, None).await;
    shared(&a, &b).await;
    // A write tells an owner whether it still is one: the second may have taken all before it was notified of
    // the first.
    signal(&[&a, &b], "w", "settled").await;
    hold(&base).await;
    let (dies, stays) = if owned(&a).contains(&id) {
        (a, b)
    } else {
        (b, a)
    };
    dies.shards
        .freeze(&ns, id, Duration::from_secs(60))
        .await
        .unwrap();
    // As when the barrier is lifted at its end: the stored hold goes on.
    dies.shards.unfreeze(&ns);
    let refused = dies.try_signal("w", "1").await.unwrap_err();
    assert!(matches!(refused, UpdateError::Handover(_)), "{refused:?}");
    dies.tasks.kill().await;
    until("the other owns all", || owned(&stays).len() == 16).await;
    let refused = stays.try_signal("w", "1").await.unwrap_err();
    assert!(matches!(refused, UpdateError::Handover(_)), "{refused:?}");

    // Somebody else acquired the shard, and this process is not notified of it yet.
    base.shard
        .shard_acquire(id, "other", Default::default())
        .await
        .unwrap();
    let refused = stays
        .shards
        .freeze(&ns, id, Duration::from_secs(60))
        .await
        .unwrap_err();
    assert_eq!(refused, ShardError::Lost(id));
}
