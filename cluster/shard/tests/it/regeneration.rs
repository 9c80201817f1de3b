//! Pending tasks are regenerated until they are done: tasks that may have been done on the ground of state that was
//! dropped are generated again.

use std::{sync::atomic::Ordering, time::Duration};

use proto_ids::{ShardId, TaskId};

use crate::{
    faults::Fault,
    world::{NS, World, at_once, key, namespace, quick, stays_pending, until},
};

fn outbox_is_empty(world: &World) -> bool {
    let shard = ShardId::for_workflow(&NS.into(), &"w".into(), 4);
    let rows = world
        .base
        .execution
        .outbox_read(shard, TaskId::default(), 10);
    at_once(rows).unwrap().is_empty()
}

/// A worker took the task ("started" is behind), a write of the workflow is dropped, and the reads that follow
/// meet a broken connection: the workflow task goes out again all the same.
#[tokio::test]
async fn tasks_are_generated_again_until_that_succeeds() {
    let mut options = quick();
    options.write_behind_after = Duration::from_secs(3600);
    let world = World::with(options, namespace(), false);
    world.start("w").await.unwrap();
    until("dispatched", || world.seen.dispatched("w") == 1).await;
    world.take_task("w", "poll").await.unwrap();
    world.faults.inject(Fault::UnknownNotStored);
    world.faults.failing_loads.store(3, Ordering::SeqCst);
    world.signal("w", "s").await.unwrap_err();
    until("dispatched again", || world.seen.dispatched("w") >= 2).await;
    let shard = ShardId::for_workflow(&NS.into(), &"w".into(), 4);
    world.assert_nothing_is_forgotten(shard).await;
}

/// While tasks are regenerated, acknowledgement levels stand still: whoever owns the shard next finds the old ones.
#[tokio::test]
async fn a_crash_before_tasks_are_generated_again_loses_nothing() {
    let mut options = quick();
    options.write_behind_after = Duration::from_secs(1);
    let world = World::with(options, namespace(), false);
    world.start("w").await.unwrap();
    until("dispatched", || world.seen.dispatched("w") == 1).await;
    world.take_task("w", "poll").await.unwrap();
    world.faults.inject(Fault::UnknownNotStored);
    world
        .faults
        .failing_loads
        .store(usize::MAX, Ordering::SeqCst);
    world.signal("w", "s").await.unwrap_err();
    // Time enough to write positions several times.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(world.seen.dispatched("w"), 1);
    let world = world.crash().await;
    until("found by the next owner", || {
        world.seen.dispatched("w") == 1
    })
    .await;
}

/// State that was behind and dropped with a cancelled transaction is not waited for any more.
#[tokio::test]
async fn positions_move_on_after_state_was_dropped() {
    let mut options = quick();
    options.write_behind_after = Duration::from_millis(500);
    let world = World::with(options, namespace(), false);
    world.start("w").await.unwrap();
    until("dispatched", || world.seen.dispatched("w") == 1).await;
    world.take_task("w", "poll").await.unwrap();
    let shard = world.shard("w").await;
    let run_id = key("w").run_id;
    let half_way = async |txn: &mut cluster_shard::Txn| {
        txn.run(&run_id).await.unwrap();
        std::future::pending::<Result<(), ()>>().await
    };
    let (ns, wid) = (NS.into(), "w".into());
    let mut cancelled = Box::pin(shard.transact(&ns, &wid, half_way));
    stays_pending(&mut cancelled).await;
    drop(cancelled);
    until("dispatched again", || world.seen.dispatched("w") == 2).await;
    until("the outbox is trimmed", || outbox_is_empty(&world)).await;
}
