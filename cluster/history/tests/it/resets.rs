//! Reset: the run goes back, and what came from outside is kept.

use cluster_core::Transition;
use cluster_shard::{ShardError, Txn, TxnError};
use proto_ids::{RunId, RunKey};
use proto_messages::{
    meridian::history::v1 as history,
    temporal::api::{enums::v1::EventType as E, workflowservice::v1 as api},
};
use tonic::Code;

use crate::{
    answers::attaching,
    children::{id_of, start_child},
    world::*,
};

async fn reset(world: &World, finish: i64, request_id: &str) -> Result<String, tonic::Status> {
    let request = api::ResetWorkflowExecutionRequest {
        workflow_execution: Some(execution("reset", "")),
        reason: "again".into(),
        workflow_task_finish_event_id: finish,
        request_id: request_id.into(),
        ..Default::default()
    };
    let call = history::ResetWorkflowExecutionRequest {
        namespace_id: NS.into(),
        request: Some(request),
    };
    world
        .history
        .reset_workflow_execution(call)
        .await
        .map(|r| r.run_id)
}

#[tokio::test]
async fn a_reset_forks_history_ends_the_old_run_and_delivers_signals_again() {
    let world = World::new().await;
    let first = world.start("reset").await;
    let task = world.poll().await;
    world.complete(&task, vec![]).await.unwrap();
    world.signal("reset", "kept").await.unwrap();
    let task = world.poll().await;
    world.complete(&task, vec![]).await.unwrap();

    let refused = reset(&world, 100, "bad").await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let second = reset(&world, 4, "r").await.unwrap();
    assert_ne!(second, first);
    assert_eq!(
        reset(&world, 4, "r").await.unwrap(),
        second,
        "the same request resets once"
    );

    let ended = world.close_event("reset", &first).await;
    assert_eq!(ended.event_type(), E::WorkflowExecutionTerminated);
    let wanted = [
        E::WorkflowExecutionStarted,
        E::WorkflowTaskScheduled,
        E::WorkflowTaskStarted,
        E::WorkflowTaskFailed,
        E::WorkflowExecutionSignaled,
        E::WorkflowTaskScheduled,
    ];
    assert_eq!(kinds(&world.events("reset", &second).await), wanted);
    let told = world.describe("reset").await.unwrap();
    let extended = told.workflow_extended_info.unwrap();
    let events = world.events("reset", &second).await;
    assert_eq!(extended.original_start_time, events[0].event_time);
    assert_eq!(extended.last_reset_time, events[3].event_time);
    assert_ne!(extended.original_start_time, extended.last_reset_time);
    let task = world.poll().await;
    assert_eq!(task.workflow_execution.as_ref().unwrap().run_id, second);
    assert_eq!(in_task(&task).len(), 7);
    world.complete(&task, complete_workflow("")).await.unwrap();
    assert_eq!(kinds(&world.events("reset", &first).await).len(), 9);
}

#[tokio::test]
async fn a_start_that_was_answered_with_the_old_run_is_known_to_the_new_one() {
    let world = World::new().await;
    let first = world.start("reset").await;
    let task = world.poll().await;
    world.complete(&task, vec![]).await.unwrap();
    let attached = world.start_with(attaching("reset", "again")).await.unwrap();
    assert_eq!(attached.run_id, first);
    let second = reset(&world, 4, "r").await.unwrap();
    let events = kinds(&world.events("reset", &second).await);
    assert!(
        events.contains(&E::WorkflowExecutionOptionsUpdated),
        "{events:?}"
    );
    let repeated = world.start_with(attaching("reset", "again")).await.unwrap();
    assert!(!repeated.started && repeated.run_id == second);
    let after = kinds(&world.events("reset", &second).await);
    assert_eq!(after, events, "nothing is attached twice");
}

#[tokio::test]
async fn a_child_from_before_the_reset_point_belongs_to_the_new_run() {
    child_of_a_reset_run(async |_, _| {}).await;
}

#[tokio::test]
async fn a_child_finds_the_run_that_a_reset_elsewhere_made() {
    // A cluster that got both runs by replication may not know which reset made the new one.
    let forget = async |world: &World, run: RunKey| {
        let shard = world
            .shards
            .for_workflow(&run.namespace_id, &run.workflow_id)
            .await
            .unwrap();
        let forgotten = shard
            .replicate(
                &run.namespace_id,
                &run.workflow_id,
                async |txn: &mut Txn| {
                    let ms = txn.run(&run.run_id).await?.unwrap();
                    ms.execution_info.reset_run_id = RunId::default();
                    txn.put(&run.run_id, Transition::default()).map(drop)
                },
            )
            .await;
        forgotten.unwrap_or_else(|error: TxnError<ShardError>| panic!("{error:?}"));
    };
    child_of_a_reset_run(forget).await;
}

#[tokio::test]
async fn a_child_finds_its_parent_after_retention_took_the_run_that_was_reset() {
    let delete = async |world: &World, run: RunKey| {
        let shard = world
            .shards
            .for_workflow(&run.namespace_id, &run.workflow_id)
            .await
            .unwrap();
        shard.delete_run(&run).await.unwrap();
    };
    child_of_a_reset_run(delete).await;
}

/// A child whose parent was reset after it had started ends, after `meanwhile` happened to the old run.
async fn child_of_a_reset_run(meanwhile: impl AsyncFn(&World, RunKey)) {
    let world = World::new().await;
    let first = world.start("reset").await;
    let task = world.poll().await;
    world
        .complete(&task, vec![start_child("child")])
        .await
        .unwrap();
    let (mut child, mut parent) = (world.poll().await, world.poll().await);
    if id_of(&child) != "child" {
        std::mem::swap(&mut child, &mut parent);
    }
    assert_eq!(in_task(&parent)[5], E::ChildWorkflowExecutionStarted);
    world.complete(&parent, vec![]).await.unwrap();
    let second = reset(&world, 9, "r").await.unwrap();
    assert_eq!(
        world.close_event("reset", &first).await.event_type(),
        E::WorkflowExecutionTerminated
    );
    meanwhile(&world, RunKey::new(NS, "reset", first.as_str())).await;

    world.complete(&child, complete_workflow("")).await.unwrap();
    for _ in 0..5 {
        let task = world.poll().await;
        assert_eq!(task.workflow_execution.as_ref().unwrap().run_id, second);
        if in_task(&task).contains(&E::ChildWorkflowExecutionCompleted) {
            world.complete(&task, complete_workflow("")).await.unwrap();
            kinds(&world.events("reset", &second).await);
            return;
        }
        world.complete(&task, vec![]).await.unwrap();
    }
    panic!("the child's end did not reach the new run");
}

#[tokio::test]
async fn a_child_from_after_the_reset_point_makes_room_for_the_new_runs_child() {
    let world = World::new().await;
    world.start("reset").await;
    let task = world.poll().await;
    world
        .complete(&task, vec![start_child("child")])
        .await
        .unwrap();
    let (one, other) = (world.poll().await, world.poll().await);
    let old = if id_of(&one) == "child" { one } else { other };
    let old = old.workflow_execution.unwrap().run_id;
    let second = reset(&world, 4, "r").await.unwrap();
    let task = world.poll().await;
    assert_eq!(task.workflow_execution.as_ref().unwrap().run_id, second);
    world
        .complete(&task, vec![start_child("child")])
        .await
        .unwrap();
    let ended = world.close_event("child", &old).await;
    assert_eq!(ended.event_type(), E::WorkflowExecutionTerminated);
    loop {
        let task = world.poll().await;
        if id_of(&task) == "child" {
            assert_ne!(task.workflow_execution.as_ref().unwrap().run_id, old);
            return;
        }
        world.complete(&task, vec![]).await.unwrap();
    }
}
