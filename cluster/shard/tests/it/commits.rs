//! The commit path: what waits for what, and what every way to fail does to whom.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use cluster_core::{Durability, Refusal, Transition};
use cluster_runtime::Clock;
use cluster_shard::{ReadError, ShardError, TxnError, UpdateError};
use futures::future::join_all;
use proto_ids::{EventId, NamespaceId, RunKey, Timestamp, WorkflowId};
use tokio::sync::oneshot;

use crate::{
    faults::Fault,
    world::{NS, World, is_duplicate, key, namespace, quick, start_task, stays_pending, until},
};

/// Invariants 1 and 4: no answer, no dispatch, no read before the commit; and yet the next transaction
/// builds on it meanwhile, and both end with one batch.
#[tokio::test]
async fn nothing_is_told_before_its_commit() {
    let world = World::new();
    world.start("w").await.unwrap();
    until("the first workflow task is dispatched", || {
        world.seen.dispatched("w") == 1
    })
    .await;
    world.faults.close();
    let before = world.faults.commits();
    let mut first = Box::pin(world.signal("w", "1"));
    stays_pending(&mut first).await;
    let mut second = Box::pin(world.signal("w", "2"));
    let mut again = Box::pin(world.signal("w", "1"));
    let mut other = Box::pin(world.start("other"));
    let shard = world.shard("w").await;
    let run = RunKey::new(NS, "w", "");
    let mut read = Box::pin(shard.read(&run, |w| w.execution_info.signal_count));
    stays_pending(&mut second).await;
    stays_pending(&mut again).await;
    stays_pending(&mut other).await;
    stays_pending(&mut read).await;
    assert_eq!(world.seen.dispatched("other"), 0);
    world.faults.open();
    assert_eq!(first.await.unwrap().next_event_id, EventId::new(4));
    assert_eq!(second.await.unwrap().next_event_id, EventId::new(5));
    assert!(
        is_duplicate(&again.await.unwrap()),
        "it saw the first signal before it was durable"
    );
    other.await.unwrap();
    assert_eq!(read.await.unwrap(), 2);
    // The first signal went alone; what gathered behind it was one batch (and queue positions another).
    assert!(
        world.faults.commits() - before <= 4,
        "{}",
        world.faults.commits() - before
    );
    until("the other is dispatched", || {
        world.seen.dispatched("other") == 1
    })
    .await;
}

/// Many updates of one run in one batch are one row update, and nothing of them is lost.
#[tokio::test]
async fn updates_of_one_run_share_a_batch() {
    let world = World::new();
    world.start("w").await.unwrap();
    world.faults.close();
    let ids: Vec<_> = (0..100).map(|n| n.to_string()).collect();
    let signals = ids.iter().map(|id| Box::pin(world.signal("w", id)));
    let all = join_all(signals);
    let open = async {
        until("a commit waits", || {
            world.faults.waiting.load(Ordering::SeqCst) == 1
        })
        .await;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        world.faults.open();
    };
    let (ended, ()) = tokio::join!(all, open);
    assert!(ended.iter().all(Result::is_ok));
    let world = world.crash().await;
    assert_eq!(world.signals("w").await, 100);
    let page = world
        .shard("w")
        .await
        .history(
            &RunKey::new(NS, "w", ""),
            None,
            EventId::new(1),
            EventId::new(1_000),
            1_000,
        )
        .await
        .unwrap();
    let mut next = EventId::new(1);
    for batch in &page.batches {
        assert_eq!(batch.first, next, "history is gapless");
        next = batch.next;
    }
    assert_eq!(next, EventId::new(103));
}

#[tokio::test]
async fn an_unavailable_store_only_delays() {
    let world = World::new();
    world.start("w").await.unwrap();
    (0..3).for_each(|_| world.faults.inject(Fault::Unavailable));
    world.signal("w", "1").await.unwrap();
    assert_eq!(world.signals("w").await, 1);
}

/// A store without room answers at once, with the reason, and goes on when there is room.
#[tokio::test]
async fn a_full_store_is_told_at_once() {
    let mut options = quick();
    options.write_behind_after = std::time::Duration::from_secs(3_600);
    let world = World::with(options, namespace(), false);
    world.start("w").await.unwrap();
    until("dispatched", || world.seen.dispatched("w") == 1).await;
    world.faults.inject(Fault::Full);
    let refused = world.signal("w", "1").await.unwrap_err();
    let reason = refused.to_string();
    assert!(
        matches!(refused, UpdateError::Shard(ShardError::Unavailable(_))),
        "{reason}"
    );
    assert!(
        reason.contains("no room") && reason.contains("injected"),
        "{reason}"
    );
    world.signal("w", "1").await.unwrap();
    assert_eq!(world.signals("w").await, 1);
}

/// A transaction that changes a run and then refuses leaves nothing in memory, whatever it changed.
#[tokio::test]
async fn a_refusal_half_way_is_noticed() {
    let world = World::new();
    world.start("w").await.unwrap();
    let shard = world.shard("w").await;
    let run_id = crate::world::key("w").run_id;
    let half_way = async |txn: &mut cluster_shard::Txn| {
        let run = txn.run(&run_id).await.unwrap().unwrap();
        run.execution_info.signal_count += 1;
        run.execution_info.cancel_request = Some("half a request".into());
        Err::<(), _>("refused")
    };
    let (ns, wid) = (NS.into(), "w".into());
    let refused = shard.transact(&ns, &wid, half_way).await;
    assert_eq!(refused, Err(TxnError::Decided("refused")));
    assert_eq!(world.signals("w").await, 0);
    // The same when the caller goes on as if nothing had been refused.
    let half_way = async |txn: &mut cluster_shard::Txn| {
        txn.run(&run_id)
            .await
            .unwrap()
            .unwrap()
            .execution_info
            .signal_count += 1;
        Ok::<_, ()>(())
    };
    let dropped = shard.transact(&ns, &wid, half_way).await;
    assert!(matches!(
        dropped,
        Err(TxnError::Shard(ShardError::Dropped(_)))
    ));
    assert_eq!(world.signals("w").await, 0);
    world.signal("w", "1").await.unwrap();
    assert_eq!(world.signals("w").await, 1);
}

/// Invariant 3, both ways: the range is taken anew before the outcome is looked up; what happened is
/// answered, what did not happen is dropped and can be tried again.
#[tokio::test]
async fn an_unknown_outcome_is_settled() {
    let world = World::new();
    world.start("w").await.unwrap();
    let shard = world.shard("w").await;
    let range = shard.range();
    world.faults.inject(Fault::UnknownStored);
    world.signal("w", "stored").await.unwrap();
    assert_eq!(shard.range(), range.next());
    assert_eq!(world.signals("w").await, 1);

    world.faults.inject(Fault::UnknownNotStored);
    let dropped = world.signal("w", "lost").await.unwrap_err();
    assert!(
        matches!(dropped, UpdateError::Shard(ShardError::Dropped(_))),
        "{dropped:?}"
    );
    assert_eq!(
        world.signals("w").await,
        1,
        "its effect is gone from memory too"
    );
    assert!(!is_duplicate(&world.signal("w", "lost").await.unwrap()));
    assert_eq!(world.signals("w").await, 2);
    assert!(shard.range() > range.next());
}

/// Invariant 2: who lost the shard cannot write, is told so, and takes it back when the ring says so. Writes
/// of other shards in the same batch are not harmed.
#[tokio::test]
async fn a_fenced_shard_is_dropped_and_the_rest_goes_on() {
    let world = World::new();
    let ids = ["w", "a", "b", "c", "d", "e"];
    join_all(ids.iter().map(|id| world.start(id)))
        .await
        .into_iter()
        .for_each(|r| r.unwrap());
    let mine = world.shard("w").await;
    let other = join_all(
        ids.iter()
            .map(|id| async { (*id, world.shard(id).await.id()) }),
    )
    .await;
    let other = other
        .iter()
        .find(|(_, id)| *id != mine.id())
        .expect("more than one shard")
        .0;
    let now = Timestamp::from_nanos(cluster_runtime::SystemClock.now_nanos());
    let taken = world
        .store
        .shard
        .shard_acquire(mine.id(), "thief", now)
        .await
        .unwrap();
    let (lost, kept) = tokio::join!(world.signal("w", "1"), world.signal(other, "1"));
    assert!(
        matches!(lost, Err(UpdateError::Shard(ShardError::Lost(id))) if id == mine.id()),
        "{lost:?}"
    );
    kept.unwrap();
    assert_eq!(world.signals("w").await, 0);
    world.signal("w", "2").await.unwrap();
    assert!(world.shard("w").await.range() > taken.range);
    let late = mine
        .read(&key("w"), |w| w.execution_info.signal_count)
        .await;
    assert!(late.is_err(), "the old handle is dead");
}

#[tokio::test]
async fn a_conflict_fails_only_its_own_workflow() {
    let world = World::new();
    world.start("w").await.unwrap();
    world.start("x").await.unwrap();
    world.faults.close();
    let mut plug = Box::pin(world.start("plug"));
    stays_pending(&mut plug).await;
    world.faults.inject(Fault::Conflict("none"));
    world.faults.inject(Fault::Conflict("w"));
    let signals = [("w", "1"), ("x", "1"), ("w", "2")].map(|(w, id)| world.signal(w, id));
    let open = async {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        world.faults.open();
    };
    let (mut ended, _, ()) = tokio::join!(join_all(signals), plug, open);
    assert!(ended.remove(1).is_ok());
    for failed in ended {
        let failed = failed.unwrap_err();
        assert!(
            matches!(failed, UpdateError::Shard(ShardError::Dropped(_))),
            "{failed:?}"
        );
    }
    world.signal("w", "1").await.unwrap();
    assert_eq!((world.signals("w").await, world.signals("x").await), (1, 1));
}

/// A batch that the store refuses is halved until the culprit stands alone.
#[tokio::test]
async fn a_refused_write_is_found_and_fails_alone() {
    let world = World::new();
    let ids = ["p", "q", "r", "s", "t"];
    join_all(ids.iter().map(|id| world.start(id)))
        .await
        .into_iter()
        .for_each(|r| r.unwrap());
    world.faults.close();
    let mut plug = Box::pin(world.start("plug"));
    stays_pending(&mut plug).await;
    *world.faults.poison.lock() = Some("r");
    let signals = join_all(ids.iter().map(|id| world.signal(id, "1")));
    let open = async {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        world.faults.open();
    };
    let (ended, _, ()) = tokio::join!(signals, plug, open);
    for (id, ended) in ids.iter().zip(ended) {
        match ended {
            Ok(_) => assert_ne!(*id, "r"),
            Err(UpdateError::Shard(ShardError::Rejected(_))) => assert_eq!(*id, "r"),
            Err(other) => panic!("{other:?}"),
        }
    }
    *world.faults.poison.lock() = None;
    world.signal("r", "1").await.unwrap();
    assert_eq!(world.signals("r").await, 1);
}

/// The lane's queue has a limit; beyond it requests are refused before anything changes.
#[tokio::test]
async fn a_full_lane_refuses() {
    let mut options = crate::world::quick();
    options.lane_capacity = 2;
    let world = Arc::new(World::with(options, crate::world::namespace(), false));
    world.start("w").await.unwrap();
    world.faults.close();
    // Transactions can be spawned. One commit may be under way; two wait; the others find no room.
    let (told, mut ends) = tokio::sync::mpsc::unbounded_channel();
    for n in 0..6 {
        let (world, told) = (world.clone(), told.clone());
        tokio::spawn(async move {
            let ended = world.start(&n.to_string()).await;
            told.send((n, ended)).expect("somebody listens");
        });
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let mut refused = Vec::new();
    while let Ok((n, ended)) = ends.try_recv() {
        assert!(matches!(ended, Err(TxnError::Busy(_))), "{ended:?}");
        refused.push(n);
    }
    assert!((3..=4).contains(&refused.len()), "{refused:?}");
    world.faults.open();
    for _ in 0..6 - refused.len() {
        let (n, ended) = ends.recv().await.expect("the others end");
        ended.unwrap();
        assert_eq!(world.signals(&n.to_string()).await, 0);
    }
    for n in refused {
        world
            .start(&n.to_string())
            .await
            .expect("there is room, and nothing was changed before");
    }
}

/// State that does not fit in memory is evicted and read again; history too.
#[tokio::test]
async fn caches_have_a_limit() {
    let mut options = crate::world::quick();
    options.cache_bytes = 20_000;
    options.event_cache_bytes = 2_000;
    let world = World::with(options, crate::world::namespace(), false);
    let ids: Vec<_> = (0..40).map(|n| format!("w{n}")).collect();
    for round in 0..3 {
        for id in &ids {
            if round == 0 {
                world.start(id).await.unwrap();
            } else {
                world.signal(id, &round.to_string()).await.unwrap();
            }
        }
    }
    for id in &ids {
        assert_eq!(world.signals(id).await, 2);
        let run = RunKey::new(NS, id.as_str(), "");
        let shard = world.shard(id).await;
        let first = EventId::new(1);
        let mut from = first;
        // One batch a page.
        for expected in [3, 4, 5] {
            let page = shard
                .history(&run, None, from, EventId::new(5), 1)
                .await
                .unwrap();
            assert_eq!(page.batches[0].first, from);
            from = page.batches[0].next;
            assert_eq!((from.get(), page.next.is_some()), (expected, expected < 5));
        }
    }
    let metric = world.metrics.text();
    let value = |name: &str| -> i64 {
        let line = metric
            .lines()
            .find(|l| l.starts_with(name))
            .expect("the metric is there");
        line.rsplit(' ')
            .next()
            .and_then(|v| v.parse().ok())
            .expect("a number")
    };
    assert!(
        value("meridian_workflow_loads_total") > 20,
        "evicted and read again"
    );
    assert!(value("meridian_commit_updates_total") >= 120);
    assert_eq!(value("numshards_gauge"), 4);
}

/// Closed runs do not fill the cache: those closed long ago are read again when somebody asks, the last ones and
/// open ones are there.
#[tokio::test]
async fn closed_runs_leave_the_cache_first() {
    let mut options = crate::world::quick();
    options.shard_count = 1;
    let world = World::with(options, crate::world::namespace(), false);
    let loads = || {
        let text = world.metrics.text();
        let line = text
            .lines()
            .find(|l| l.starts_with("meridian_workflow_loads_total"));
        line.and_then(|l| l.rsplit(' ').next()?.parse::<u64>().ok())
            .unwrap_or(0)
    };
    world.start("open").await.unwrap();
    for n in 0..700 {
        let id = format!("w{n}");
        world.start(&id).await.unwrap();
        let request = cluster_core::Request::Terminate {
            reason: String::new(),
            details: None,
            identity: String::new(),
            only_from_parent: None,
            first_execution_run_id: Default::default(),
            links: Vec::new(),
        };
        world.handle(&id, request).await.unwrap();
    }
    let before = loads();
    world.signals("open").await;
    world.signals("w699").await;
    assert_eq!(loads(), before, "still there");
    world.signals("w0").await;
    assert_eq!(loads(), before + 1, "read again");
}

/// Writes on a namespace that is active elsewhere or in handover are refused; the barrier of a freeze ends
/// when what was accepted before is durable.
#[tokio::test]
async fn freeze_is_a_barrier() {
    let world = World::with(crate::world::quick(), crate::world::replicated("a"), true);
    world.start("w").await.unwrap();
    let ns = NamespaceId::from(NS);
    world.faults.close();
    let mut accepted = Box::pin(world.signal("w", "1"));
    stays_pending(&mut accepted).await;
    let shard = world.shard("w").await;
    let mut freeze = Box::pin(
        world
            .shards
            .freeze(&ns, shard.id(), Duration::from_secs(60)),
    );
    stays_pending(&mut freeze).await;
    let refused = world.signal("w", "2").await.unwrap_err();
    assert!(matches!(refused, UpdateError::Handover(_)), "{refused:?}");
    world.faults.open();
    accepted.await.unwrap();
    let top = freeze.await.unwrap();
    let all = shard
        .replication_read(0.into(), i64::MAX.into(), 100)
        .await
        .unwrap();
    assert_eq!(all.len(), 2);
    assert!(all.iter().all(|t| t.task_id <= top));
    world.shards.unfreeze(&ns);
    world.signal("w", "2").await.unwrap();

    world.registry.set(vec![crate::world::replicated("b")]);
    let refused = world.start("x").await.unwrap_err();
    assert!(matches!(&refused, TxnError::NotActive { active, .. } if active.as_str() == "b"));
}

/// A hold that runs out before everything accepted is durable was never given, and ends by itself.
#[tokio::test]
async fn a_hold_that_runs_out_before_it_takes_effect_is_not_given() {
    let world = World::with(crate::world::quick(), crate::world::replicated("a"), true);
    world.start("w").await.unwrap();
    let (ns, shard) = (NamespaceId::from(NS), world.shard("w").await);
    world.faults.close();
    let mut accepted = Box::pin(world.signal("w", "1"));
    stays_pending(&mut accepted).await;
    let hold = Duration::from_millis(50);
    let refused = world
        .shards
        .freeze(&ns, shard.id(), hold)
        .await
        .unwrap_err();
    assert!(matches!(refused, ShardError::Unavailable(_)), "{refused:?}");
    assert!(!world.shards.is_frozen(&ns));
    world.faults.open();
    accepted.await.unwrap();
    world.signal("w", "2").await.unwrap();
}

/// A lane that is full when the freeze begins does not make it leave anything behind.
#[tokio::test]
async fn a_full_lane_leaves_nothing_behind_a_freeze() {
    let options = cluster_shard::ShardsOptions {
        lane_capacity: 1,
        write_behind_after: Duration::from_secs(3_600),
        ..crate::world::quick()
    };
    let world = World::with(options, crate::world::replicated("a"), true);
    world.start("w").await.unwrap();
    world.start("x").await.unwrap();
    let (ns, shard) = (NamespaceId::from(NS), world.shard("w").await);
    world.take_task("w", "poll").await.unwrap();
    world.faults.close();
    // The lane takes a batch to the store, and another write fills it.
    let mut first = Box::pin(world.signal("x", "1"));
    stays_pending(&mut first).await;
    let mut second = Box::pin(world.signal("x", "2"));
    stays_pending(&mut second).await;
    let mut freeze = Box::pin(
        world
            .shards
            .freeze(&ns, shard.id(), Duration::from_secs(60)),
    );
    stays_pending(&mut freeze).await;
    world.faults.open();
    let top = freeze.await.unwrap();
    let tasks = shard.replication_read(0.into(), i64::MAX.into(), 100);
    let of_w = tasks.await.unwrap().into_iter();
    let of_w: Vec<_> = of_w.filter(|t| t.run.workflow_id.as_str() == "w").collect();
    assert_eq!(of_w.len(), 2, "its start and the started task: {of_w:?}");
    assert!(of_w.iter().all(|t| t.task_id <= top));
}

/// A transaction that began before the freeze may only want to change what is written behind. That is refused
/// too: its write would follow the barrier.
#[tokio::test]
async fn nothing_is_left_behind_after_a_freeze() {
    let world = World::with(crate::world::quick(), crate::world::replicated("a"), true);
    world.start("w").await.unwrap();
    let (ns, shard) = (NamespaceId::from(NS), world.shard("w").await);
    let (begun, has_begun) = oneshot::channel();
    let (go, going) = oneshot::channel();
    let workflow_id = WorkflowId::from("w");
    let mut starting = Box::pin(shard.transact(&ns, &workflow_id, async |txn| {
        begun.send(()).unwrap();
        going.await.unwrap();
        let run_id = txn.current().await.unwrap().unwrap().run_id;
        let context = txn.decision_context();
        let wf = txn.run(&run_id).await.unwrap().unwrap();
        let transition = wf.handle(start_task("poll"), &context.borrowed())?;
        assert_eq!(transition.durability, Durability::WriteBehind);
        txn.put(&run_id, transition).unwrap();
        Ok::<_, Refusal>(())
    }));
    stays_pending(&mut starting).await;
    has_begun.await.unwrap();
    let top = world
        .shards
        .freeze(&ns, shard.id(), Duration::from_secs(60))
        .await
        .unwrap();
    go.send(()).unwrap();
    let refused = starting.await.unwrap_err();
    assert!(matches!(refused, TxnError::Handover(_)), "{refused:?}");

    world.shards.unfreeze(&ns);
    world.signal("w", "afterwards").await.unwrap();
    let tasks = shard.replication_read(0.into(), i64::MAX.into(), 100);
    let tasks = tasks.await.unwrap();
    let later: Vec<_> = tasks.iter().filter(|t| t.task_id > top).collect();
    assert_eq!(later.len(), 1, "the signal alone: {later:?}");
}

/// Whoever looks while a deletion is on its way does not bring the run back from the store.
#[tokio::test]
async fn a_deleted_run_stays_deleted() {
    let world = World::new();
    world.start("w").await.unwrap();
    let shard = world.shard("w").await;
    let key = RunKey::new(NS, "w", "");
    let run = shard.read(&key, |w| w.key.clone()).await.unwrap();
    world.faults.close();
    let mut deletion = Box::pin(shard.delete_run(&run));
    stays_pending(&mut deletion).await;
    let mut early = Box::pin(shard.read(&run, |_| ()));
    stays_pending(&mut early).await;
    world.faults.open();
    deletion.await.unwrap();
    for read in [early.await, shard.read(&run, |_| ()).await] {
        assert!(matches!(read, Err(ReadError::NotFound)), "{read:?}");
    }
}

/// Whoever refuses after it has changed the run leaves nothing of that in memory.
#[tokio::test]
async fn a_refusal_half_way_leaves_nothing() {
    let world = World::new();
    world.start("w").await.unwrap();
    let shard = world.shard("w").await;
    let key = RunKey::new(NS, "w", "");
    let next = || shard.read(&key, |w| w.execution_info.next_event_id);
    let before = next().await.unwrap();
    let refused = shard.update(&key, |w, ctx| {
        w.handle(start_task("poll"), ctx)?;
        Err::<(Transition, ()), _>(Refusal::NotChild)
    });
    let refused = refused.await.unwrap_err();
    assert!(
        matches!(refused, UpdateError::Refused(Refusal::NotChild)),
        "{refused:?}"
    );
    assert_eq!(next().await.unwrap(), before);
    world.signal("w", "afterwards").await.unwrap();
}
