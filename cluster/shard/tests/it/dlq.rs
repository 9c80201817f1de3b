//! What cannot be done is set aside, durably, and stops nobody else; an operator can have it retried.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use cluster_shard::{DlqEntry, Outcome, TaskDlq};
use futures::future::join_all;
use proto_ids::{NamespaceId, ShardId, TaskId};
use schema_store::execution::{
    CommitBatch, Expected, Fence, OutboxRow, RowWrite, RunUpdate, TimerRow,
};

use crate::{
    faults::Fault,
    world::{NS, World, at_once, key, namespace, quick, until},
};

const TRANSFER: i32 = 1;
const TIMER: i32 = 2;
const VISIBILITY: i32 = 4;

fn one_shard() -> cluster_shard::ShardsOptions {
    cluster_shard::ShardsOptions {
        shard_count: 1,
        ..quick()
    }
}

fn dlq(world: &World) -> TaskDlq {
    TaskDlq::new(world.base.queue.clone(), "a".into())
}

fn entries(world: &World, category: i32) -> Vec<DlqEntry> {
    let read = at_once(dlq(world).read(category, 0, 100)).unwrap();
    read.into_iter().map(|(_, entry)| entry).collect()
}

fn outbox(world: &World) -> usize {
    let rows = world
        .base
        .execution
        .outbox_read(ShardId::new(1), TaskId::default(), 100);
    at_once(rows).unwrap().len()
}

fn is_listed(world: &World, workflow_id: &str) -> bool {
    let (ns, run_id) = (NamespaceId::from(NS), key(workflow_id).run_id);
    let row = world.base.visibility.visibility_get(&ns, &run_id);
    at_once(row).unwrap().is_some()
}

/// A task that can never be done says of which workflow it is and why; once retried it is executed again.
#[tokio::test]
async fn a_task_that_can_never_be_done_is_set_aside() {
    let world = World::with(one_shard(), namespace(), false);
    *world.seen.outcome.lock() = Some(Outcome::PermanentFailure("never".into()));
    world.start("w").await.unwrap();
    until("set aside", || entries(&world, TRANSFER).len() == 1).await;
    let entry = entries(&world, TRANSFER).remove(0);
    assert_eq!(entry.run, key("w"));
    assert_eq!((entry.cause.as_str(), entry.attempts), ("never", 1));
    assert_eq!(entry.kind, "WorkflowTask");
    assert!(!entry.time.is_zero());
    until("what comes after is trimmed", || outbox(&world) == 0).await;
    *world.seen.outcome.lock() = None;
    let before = world.seen.dispatched("w");
    let entry = DlqEntry::from_bytes(&entry.to_bytes()).unwrap();
    world.shard("w").await.retry_from_dlq(&entry).await.unwrap();
    until("executed again", || world.seen.dispatched("w") > before).await;
    assert_eq!(
        at_once(dlq(&world).delete(TRANSFER, 1, i64::MAX)).unwrap(),
        1
    );
    assert!(entries(&world, TRANSFER).is_empty());
}

/// A visibility row that the store refuses is found among many and set aside; the others are written, and
/// positions move on.
#[tokio::test]
async fn a_refused_visibility_row_stops_no_other() {
    let world = World::with(one_shard(), namespace(), false);
    *world.faults.unlisted.lock() = Some("w7");
    let ids: Vec<_> = (0..20).map(|n| format!("w{n}")).collect();
    for started in join_all(ids.iter().map(|id| world.start(id))).await {
        started.unwrap();
    }
    let others = || ids.iter().filter(|id| *id != "w7");
    until("the others are listed", || {
        others().all(|id| is_listed(&world, id))
    })
    .await;
    until("set aside", || entries(&world, VISIBILITY).len() == 1).await;
    let entry = entries(&world, VISIBILITY).remove(0);
    assert_eq!(entry.run, key("w7"));
    assert!(entry.cause.contains("injected"), "{}", entry.cause);
    until("trimmed", || outbox(&world) == 0).await;
    assert!(!is_listed(&world, "w7"));
    *world.faults.unlisted.lock() = None;
    world
        .shard("w7")
        .await
        .retry_from_dlq(&entry)
        .await
        .unwrap();
    until("listed", || is_listed(&world, "w7")).await;
}

/// A retried visibility task of a run that was deleted meanwhile leaves no row.
#[tokio::test]
async fn a_retry_after_the_run_was_deleted_leaves_no_row() {
    let world = World::with(one_shard(), namespace(), false);
    *world.faults.unlisted.lock() = Some("w");
    world.start("w").await.unwrap();
    until("set aside", || entries(&world, VISIBILITY).len() == 1).await;
    *world.faults.unlisted.lock() = None;
    let shard = world.shard("w").await;
    shard.delete_run(&key("w")).await.unwrap();
    let entry = entries(&world, VISIBILITY).remove(0);
    shard.retry_from_dlq(&entry).await.unwrap();
    assert!(!is_listed(&world, "w"));
}

/// Rows of tasks that cannot be decoded are set aside once; the others of the shard are taken over.
#[tokio::test]
async fn rows_that_cannot_be_decoded_are_set_aside() {
    let world = World::with(one_shard(), namespace(), false);
    *world.seen.outcome.lock() = Some(Outcome::Retry(Duration::from_secs(3_600)));
    world.start("w").await.unwrap();
    until("dispatched", || world.seen.dispatched("w") == 1).await;
    let shard = world.shard("w").await;
    let (range, id) = (shard.range(), *shard.replication_watermark().borrow());
    let bad = Bytes::from_static(&[0xff; 9]);
    let batch = CommitBatch {
        lane: "test".into(),
        seq: 1,
        fences: vec![Fence {
            shard: shard.id(),
            range,
        }],
        updates: vec![RunUpdate {
            shard: shard.id(),
            key: key("w"),
            expected: Expected::Any,
            row: RowWrite::Keep,
            items: Vec::new(),
            items_replaced: false,
            current: None,
            branches: Vec::new(),
            history: Vec::new(),
            outbox: vec![OutboxRow {
                first_task_id: id,
                last_task_id: id,
                data: bad.clone(),
            }],
            timers: vec![TimerRow {
                fire_at: proto_ids::Timestamp::from_millis(1),
                task_id: id.next(),
                data: bad,
            }],
        }],
        ..CommitBatch::default()
    };
    world.base.execution.commit(batch).await.unwrap();
    let world = world.crash().await;
    until("the good one is taken over", || {
        world.seen.dispatched("w") == 1
    })
    .await;
    until("set aside", || {
        [TRANSFER, TIMER]
            .iter()
            .all(|c| entries(&world, *c).len() == 1)
    })
    .await;
    let entry = entries(&world, TRANSFER).remove(0);
    assert!(entry.cause.contains("decode"), "{}", entry.cause);
    world
        .shard("w")
        .await
        .retry_from_dlq(&entry)
        .await
        .unwrap_err();
    until("the shard is recovered", || {
        outbox(&world) == 0 && world.timer_rows(ShardId::new(1)) == 0
    })
    .await;
}

/// Takes the end of the first task row of the shard away.
async fn cut_first_row(world: &World) {
    let shard = world.shard("w").await;
    let (range, id) = (shard.range(), *shard.replication_watermark().borrow());
    let rows = world
        .base
        .execution
        .outbox_read(shard.id(), TaskId::default(), 100);
    let rows = rows.await.unwrap();
    let whole = rows.first().unwrap();
    let cut = whole.data.slice(..whole.data.len() - 2);
    let batch = CommitBatch {
        lane: "test".into(),
        seq: 1,
        fences: vec![Fence {
            shard: shard.id(),
            range,
        }],
        updates: vec![RunUpdate {
            shard: shard.id(),
            key: key("w"),
            expected: Expected::Any,
            row: RowWrite::Keep,
            items: Vec::new(),
            items_replaced: false,
            current: None,
            branches: Vec::new(),
            history: Vec::new(),
            outbox: vec![OutboxRow {
                data: cut,
                ..whole.clone()
            }],
            timers: Vec::new(),
        }],
        ..CommitBatch::default()
    };
    assert!(whole.last_task_id < id);
    world.base.execution.commit(batch).await.unwrap();
}

/// A row that was cut still says of which workflow it is; retried, what it held comes from the run's state.
#[tokio::test]
async fn a_row_that_was_cut_names_its_workflow_and_is_made_anew() {
    let world = World::with(one_shard(), namespace(), false);
    *world.seen.outcome.lock() = Some(Outcome::Retry(Duration::from_secs(3_600)));
    world.start("w").await.unwrap();
    until("dispatched", || world.seen.dispatched("w") == 1).await;
    cut_first_row(&world).await;
    let world = world.crash().await;
    until("set aside", || entries(&world, TRANSFER).len() == 1).await;
    let entry = entries(&world, TRANSFER).remove(0);
    assert_eq!(entry.run, key("w"));
    assert_eq!(entry.kind, "UndecodableRow");
    assert_eq!(world.seen.dispatched("w"), 0);
    let shard = world.shard("w").await;
    shard.retry_from_dlq(&entry).await.unwrap();
    until("dispatched again", || world.seen.dispatched("w") > 0).await;
}

/// A process that dies between setting a row aside and storing that its queue has passed it: the row is listed once
/// or twice, and never lost.
#[tokio::test]
async fn a_row_is_kept_by_whoever_dies_before_its_queue_has_passed_it() {
    let world = World::with(one_shard(), namespace(), false);
    *world.seen.outcome.lock() = Some(Outcome::Retry(Duration::from_secs(3_600)));
    world.start("w").await.unwrap();
    until("dispatched", || world.seen.dispatched("w") == 1).await;
    cut_first_row(&world).await;
    let world = world.crash().await;
    // Nothing has run yet: no position is stored before the row is set aside.
    world.faults.close();
    until("set aside", || entries(&world, TRANSFER).len() == 1).await;
    assert_eq!(outbox(&world), 1);
    let world = world.crash().await;
    until("the queue has passed it", || outbox(&world) == 0).await;
    let found = entries(&world, TRANSFER);
    assert!((1..=2).contains(&found.len()), "{found:?}");
    assert!(found.iter().all(|entry| entry.run == key("w")));
}

/// A run that cannot be read any more, and owes tasks, does not hold its shard.
#[tokio::test]
async fn a_corrupt_run_does_not_hold_its_shard() {
    let world = World::with(one_shard(), namespace(), false);
    world.start("w").await.unwrap();
    until("dispatched", || world.seen.dispatched("w") == 1).await;
    *world.faults.corrupt.lock() = Some("w");
    world.faults.inject(Fault::UnknownNotStored);
    world.signal("w", "s").await.unwrap_err();
    until("set aside", || !entries(&world, TRANSFER).is_empty()).await;
    let entry = entries(&world, TRANSFER).remove(0);
    assert_eq!(
        (&entry.run, entry.kind.as_str()),
        (&key("w"), "RegenerateTasks")
    );
    world.start("x").await.unwrap();
    until("the shard goes on", || outbox(&world) == 0).await;
    world
        .shard("w")
        .await
        .retry_from_dlq(&entry)
        .await
        .unwrap_err();
    *world.faults.corrupt.lock() = None;
    let before = world.seen.dispatched("w");
    world.shard("w").await.retry_from_dlq(&entry).await.unwrap();
    until("dispatched again", || world.seen.dispatched("w") > before).await;
}

/// An executor that panics over one task, again and again, loses that task to the queue of those set aside.
#[tokio::test]
async fn a_task_that_panics_is_set_aside_in_the_end() {
    struct Panics(Arc<crate::world::Seen>);
    #[async_trait::async_trait]
    impl cluster_shard::Executor for Panics {
        async fn execute(
            &self,
            shard: &cluster_shard::Shard,
            task: &cluster_shard::QueuedTask,
            mode: cluster_shard::ExecutionMode,
        ) -> Outcome {
            assert_ne!(task.run.workflow_id.as_str(), "bad", "injected");
            self.0.execute(shard, task, mode).await
        }
    }
    let mut options = one_shard();
    options.panics_max = 2;
    options.retry_max = Duration::from_millis(20);
    let world = World::with_executor(options, |seen| Arc::new(Panics(seen)));
    world.start("bad").await.unwrap();
    world.start("good").await.unwrap();
    until("set aside", || entries(&world, TRANSFER).len() == 1).await;
    assert_eq!(entries(&world, TRANSFER)[0].run, key("bad"));
    until("the other is done", || world.seen.dispatched("good") == 1).await;
}
