//! Queues in memory: verdicts, parking, visibility, replication, and that idle costs nothing.

use std::time::Duration;

use cluster_core::TaskKind;
use cluster_shard::{AckRefused, ExecutionMode, Outcome, Shard, reader_name};
use proto_ids::{ClusterName, NamespaceId, ShardId, TaskId};
use tokio::time::Instant;

use crate::world::{NS, World, at_once, key, quick, replicated, until};

/// A visibility row follows the run, and goes with it.
#[tokio::test]
async fn visibility_follows() {
    let world = World::new();
    world.start("w").await.unwrap();
    let ns = NamespaceId::from(NS);
    let row = || {
        let run_id = key("w").run_id;
        at_once(world.store.visibility.visibility_get(&ns, &run_id)).unwrap()
    };
    until("the row is there", || row().is_some()).await;
    let found = row().unwrap();
    assert_eq!((found.workflow_type.as_str(), found.status), ("kind", 1));
    world.shard("w").await.delete_run(&key("w")).await.unwrap();
    until("the row is gone", || row().is_none()).await;
    assert_eq!(
        world
            .shard("w")
            .await
            .current(&ns, &"w".into())
            .await
            .unwrap(),
        None
    );
}

/// An idle process writes nothing.
#[tokio::test]
async fn idle_is_silent() {
    let world = World::new();
    world.start("w").await.unwrap();
    let mut last = usize::MAX;
    // Quiet comes by itself once what is done has been trimmed.
    for _ in 0..100 {
        let now = world.faults.commits();
        if now == last {
            break;
        }
        last = now;
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(world.faults.commits(), last);
}

/// Retried until it works.
#[tokio::test]
async fn verdicts_are_obeyed() {
    let world = World::new();
    *world.seen.outcome.lock() = Some(Outcome::Retry(Duration::from_millis(1)));
    world.start("w").await.unwrap();
    until("tried again", || world.seen.dispatched("w") >= 3).await;
}

/// On a standby a task waits for the run to change, or for the failover that makes it active.
#[tokio::test]
async fn parked_tasks_wake() {
    let world = World::with(quick(), replicated("a"), true);
    *world.seen.outcome.lock() = Some(Outcome::Wait);
    world.start("w").await.unwrap();
    until("looked at", || world.seen.dispatched("w") == 1).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let looked = world.seen.dispatched("w");
    assert_eq!(looked, 1, "nothing happened to it");
    world.signal("w", "1").await.unwrap();
    until("woken by the run", || world.seen.dispatched("w") > looked).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let looked = world.seen.dispatched("w");
    world.registry.set(vec![replicated("b")]);
    until("woken by the failover", || {
        world.seen.dispatched("w") > looked
    })
    .await;
    assert_eq!(
        world.seen.tasks.lock().last().unwrap().1,
        ExecutionMode::Standby
    );
}

/// A failover that comes while a task is being executed as standby is not missed: it is executed as active at
/// once, not after the delay of waiting tasks.
#[tokio::test]
async fn a_failover_while_a_task_is_judged_wakes_it() {
    let world = World::with(quick(), replicated("a"), true);
    *world.seen.outcome.lock() = Some(Outcome::Wait);
    world.start("w").await.unwrap();
    let seen_as = |mode: ExecutionMode| {
        let tasks = world.seen.tasks.lock();
        tasks.iter().filter(|(_, r)| *r == mode).count()
    };
    until("looked at", || seen_as(ExecutionMode::Active) > 0).await;
    world.registry.set(vec![replicated("b")]);
    until("parked as standby", || seen_as(ExecutionMode::Standby) > 0).await;
    let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    *world.seen.gate.lock() = Some(gate.clone());
    let looks = seen_as(ExecutionMode::Standby);
    let mut standby = replicated("b");
    standby.failover_version = proto_ids::FailoverVersion::new(12);
    world.registry.set(vec![standby]);
    until("judged again", || seen_as(ExecutionMode::Standby) > looks).await;
    let acted = seen_as(ExecutionMode::Active);
    *world.seen.outcome.lock() = Some(Outcome::Done);
    let mut active = replicated("a");
    active.failover_version = proto_ids::FailoverVersion::new(21);
    world.registry.set(vec![active]);
    // The change is told while the executor still thinks.
    tokio::time::sleep(Duration::from_millis(100)).await;
    *world.seen.gate.lock() = None;
    gate.add_permits(1_000);
    until("executed as active", || {
        seen_as(ExecutionMode::Active) > acted
    })
    .await;
}

/// Streams read from memory when they keep up and from the outbox when they do not, and nothing is trimmed
/// that a connected cluster has not acknowledged.
#[tokio::test]
async fn replication_tasks_wait_for_their_readers() {
    let mut options = quick();
    options.replication_ring = 2;
    let world = World::with(options, replicated("a"), true);
    world.start("w").await.unwrap();
    for n in 0..5 {
        world.signal("w", &n.to_string()).await.unwrap();
    }
    let shard = world.shard("w").await;
    let until_now = *shard.replication_watermark().borrow();
    let read = async |from: i64| {
        shard
            .replication_read(TaskId::new(from), until_now, 100)
            .await
            .unwrap()
    };
    let all = read(0).await;
    assert_eq!(all.len(), 6, "spilled ones are read from rows");
    let mut next = 1;
    for task in &all {
        let TaskKind::ReplicateHistory {
            first_event_id,
            next_event_id,
            ..
        } = &task.task.kind
        else {
            panic!("{task:?}")
        };
        assert_eq!(first_event_id.get(), next);
        next = next_event_id.get();
    }
    let event_cache = read(all[4].task_id.get()).await;
    assert_eq!(event_cache, all[4..]);
    let rows = || {
        let rows = world
            .store
            .execution
            .outbox_read(shard.id(), TaskId::default(), 100);
        at_once(rows).unwrap().len()
    };
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(rows(), 6, "nobody acknowledged anything");
    let b = reader_name("b", shard.id());
    shard.replication_open(&b, "store-1");
    shard
        .replication_ack(&b, "store-1", all[3].task_id)
        .unwrap();
    until("acknowledged ones go", || rows() == 3).await;
    let world = world.crash().await;
    let shard = world.shard("w").await;
    let stands = shard.replication_readers()[&b].clone();
    assert_eq!(stands.acked, all[3].task_id);
    assert_eq!(stands.complete_since, TaskId::default());
    assert_eq!(stands.incarnation, "store-1");
    let left = shard
        .replication_read(all[3].task_id, TaskId::new(i64::MAX), 100)
        .await
        .unwrap();
    assert_eq!(left, all[3..]);
    let rows = || {
        let rows = world
            .store
            .execution
            .outbox_read(shard.id(), TaskId::default(), 100);
        at_once(rows).unwrap().len()
    };
    let end = *shard.replication_watermark().borrow();
    shard.replication_ack(&b, "store-1", end).unwrap();
    until("all go", || rows() == 0).await;
}

/// Outbox rows of the shard of "w".
async fn outbox(world: &World) -> usize {
    let shard = world.shard("w").await.id();
    let execution = world.store.execution.clone();
    let rows = execution.outbox_read(shard, TaskId::default(), 100);
    rows.await.unwrap().len()
}

/// What a peer acknowledges is a claim: beyond what is durable, or under the name of a store that reads no
/// longer, it is refused and moves nothing.
#[tokio::test]
async fn an_acknowledgement_beyond_what_was_written_is_refused() {
    let world = World::with(quick(), replicated("a"), true);
    world.start("w").await.unwrap();
    let shard = world.shard("w").await;
    let (b, end) = (
        reader_name("b", shard.id()),
        *shard.replication_watermark().borrow(),
    );
    let refused = shard.replication_ack(&b, "one", end).unwrap_err();
    assert!(
        matches!(refused, AckRefused::Replaced { .. }),
        "never opened"
    );
    shard.replication_open(&b, "one");
    for beyond in [end.get() + 1, i64::MAX, -1, i64::MIN] {
        let refused = shard.replication_ack(&b, "one", beyond.into());
        assert!(matches!(refused, Err(AckRefused::NotWritten { .. })));
    }
    assert_eq!(shard.replication_readers()[&b].acked, TaskId::default());
    shard.replication_ack(&b, "one", end).unwrap();
    shard.replication_open(&b, "two");
    let refused = shard.replication_ack(&b, "one", end).unwrap_err();
    let incarnation = "two".to_owned();
    assert_eq!(refused, AckRefused::Replaced { incarnation });
    assert_eq!(shard.replication_readers()[&b].acked, TaskId::default());
}

/// A reader whose store is new begins anew. When rows are gone by then, that is told until nothing is lacking.
#[tokio::test]
async fn a_reader_that_comes_back_empty_is_known_as_that() {
    let world = World::with(quick(), replicated("a"), true);
    world.start("w").await.unwrap();
    let shard = world.shard("w").await;
    let b = reader_name("b", shard.id());
    shard.replication_open(&b, "one");
    let early = shard.replication_open(&b, "two");
    assert!(!early.came_back_empty, "every row is there for it");
    assert_eq!(early.complete_since, TaskId::default());
    let end = *shard.replication_watermark().borrow();
    shard.replication_ack(&b, "two", end).unwrap();
    until("rows go", || at_once(outbox(&world)) == 0).await;
    let same = shard.replication_open(&b, "two");
    assert_eq!((same.acked, same.complete_since), (end, TaskId::default()));
    let unknown = shard.replication_open(&b, "");
    assert_eq!(unknown, same, "an id that was not learned changes nothing");
    let wiped = shard.replication_open(&b, "three");
    assert!(wiped.came_back_empty && wiped.connected);
    assert_eq!(wiped.acked, TaskId::default());
    assert!(wiped.complete_since > TaskId::default() && wiped.complete_since <= end);
    let world = world.restart().await;
    let shard = world.shard("w").await;
    assert_eq!(shard.replication_readers()[&b], wiped);

    // Nothing is lacking of one of two namespaces; then of both.
    let cluster = ClusterName::new("b");
    let needed = [NamespaceId::new(NS), NamespaceId::new("another")];
    let [one, two] = &needed;
    let complete = |id: &NamespaceId| {
        shard.replication_complete(&cluster, id, &needed, Instant::now());
    };
    let is_empty = |shard: &Shard| shard.replication_readers()[&b].came_back_empty;
    complete(one);
    assert!(is_empty(&shard));
    complete(two);
    assert!(!is_empty(&shard));
    let before = Instant::now();
    assert!(shard.replication_open(&b, "four").came_back_empty);
    for id in &needed {
        shard.replication_complete(&cluster, id, &needed, before);
    }
    assert!(is_empty(&shard), "the store before had everything");
    complete(one);
    complete(two);
    assert!(!is_empty(&shard));
}

/// Rows that went while a cluster was not in the directory are not taken for acknowledged when it is there again.
#[tokio::test]
async fn a_cluster_that_was_removed_begins_anew_when_it_is_added_again() {
    let world = World::with(quick(), replicated("a"), true);
    world.start("w").await.unwrap();
    let shard = world.shard("w").await;
    let b = reader_name("b", shard.id());
    shard.replication_open(&b, "one");
    let end = *shard.replication_watermark().borrow();
    shard.replication_ack(&b, "one", end).unwrap();
    until("rows go", || at_once(outbox(&world)) == 0).await;
    let world = world.disconnected().await;
    let shard = world.shard("w").await;
    until("it is forgotten", || shard.replication_readers().is_empty()).await;
    let again = shard.replication_open(&b, "one");
    assert_eq!(again.acked, TaskId::default());
    assert!(again.complete_since > TaskId::default());
}

/// An operator who disables a link for a while has not given up the other cluster's copy.
#[tokio::test]
async fn rows_wait_for_a_disabled_cluster_that_has_a_copy() {
    let world = World::with(quick(), replicated("a"), false);
    world.start("w").await.unwrap();
    world.signal("w", "x").await.unwrap();
    let world = world.restart().await;
    let shard = world.shard("w").await;
    let b = reader_name("b", shard.id());
    let opened = shard.replication_open(&b, "one");
    assert_eq!(opened.complete_since, TaskId::default());
    let end = *shard.replication_watermark().borrow();
    let kept = shard.replication_read(1.into(), end, 100).await.unwrap();
    assert_eq!(kept.len(), 2, "the start and the signal");
}

/// When rows went without a reader after all, it learns from where on it has had everything.
#[tokio::test]
async fn a_reader_that_missed_rows_is_told_from_where_it_is_complete() {
    let world = World::with(quick(), replicated("a"), false);
    let shard = world.shard("w").await;
    let b = reader_name("b", shard.id());
    shard.replication_open(&b, "one");
    world.start("w").await.unwrap();
    let first = *shard.replication_watermark().borrow();
    // The namespace gives up its copy there, and takes it back later.
    let alone = namespaces::Namespace {
        clusters: vec!["a".into()],
        ..replicated("a")
    };
    world.registry.set(vec![alone]);
    world.signal("w", "nobody needs it").await.unwrap();
    until("rows go", || at_once(outbox(&world)) == 0).await;
    world.registry.set(vec![replicated("a")]);
    world.signal("w", "back").await.unwrap();
    let again = shard.replication_open(&b, "one");
    assert!(!again.came_back_empty, "it is the same store");
    let since = again.complete_since;
    assert!(since > TaskId::default() && since <= first, "{since}");
}

/// With more shards there than here, all of them that read this one count, those that never came included.
#[tokio::test]
async fn a_reader_that_never_connected_holds_rows_back() {
    let mut options = quick();
    options.shard_count = 1;
    let world = World::with(options, replicated("a"), true);
    world.start("w").await.unwrap();
    let shard = world.shard("w").await;
    let of_b = |count| shard.replication_readers_of(&"b".into(), count);
    let ids: Vec<_> = of_b(4).into_iter().map(|(shard, _)| shard.get()).collect();
    assert_eq!(ids, [1, 2, 3, 4]);
    assert!(of_b(4).iter().all(|(_, reader)| !reader.connected));
    let end = *shard.replication_watermark().borrow();
    for id in 1..=3 {
        let reader = reader_name("b", id.into());
        shard.replication_open(&reader, "one");
        shard.replication_ack(&reader, "one", end).unwrap();
    }
    let world = world.restart().await;
    assert!(outbox(&world).await > 0, "the fourth has nothing yet");
    let shard = world.shard("w").await;
    let reader = reader_name("b", 4.into());
    shard.replication_open(&reader, "one");
    shard.replication_ack(&reader, "one", end).unwrap();
    until("all have it", || at_once(outbox(&world)) == 0).await;
}

/// A near timer fires on time.
#[tokio::test]
async fn near_timers_are_accurate() {
    let world = World::new();
    world.start("w").await.unwrap();
    let after = Duration::from_millis(80);
    let begun = std::time::Instant::now();
    world.start_timer("w", after).await;
    let is_timer = |kind: &TaskKind| matches!(kind, TaskKind::UserTimer { .. });
    until("fires", || world.seen.count(is_timer) == 1).await;
    assert!(begun.elapsed() >= after);
    assert!(
        begun.elapsed() < after + Duration::from_millis(500),
        "{:?}",
        begun.elapsed()
    );
}

/// A task that does not get done leaves the outbox, so that what comes after can be trimmed, and is still
/// found by the next owner.
#[tokio::test]
async fn a_stuck_task_does_not_hold_back_trimming() {
    let mut options = quick();
    options.reschedule_after = Duration::from_millis(300);
    options.timer_window = Duration::from_millis(1);
    let world = World::with(options, crate::world::namespace(), false);
    *world.seen.outcome.lock() = Some(Outcome::Retry(Duration::from_millis(20)));
    world.start("w").await.unwrap();
    let shard = ShardId::for_workflow(&NS.into(), &"w".into(), 4);
    let rows = || {
        let rows = world
            .store
            .execution
            .outbox_read(shard, TaskId::default(), 100);
        at_once(rows).unwrap().len()
    };
    until("the outbox is free", || rows() == 0).await;
    let world = world.crash().await;
    until("found again", || world.seen.dispatched("w") >= 1).await;
}
