//! Starts, ends, signals, timers, and what survives a restart.

use std::time::Duration;

use proto_messages::{
    meridian::history::v1 as history,
    temporal::api::{
        command::v1::{StartTimerCommandAttributes, command::Attributes},
        enums::v1::{
            CommandType, EventType as E, WorkflowExecutionStatus, WorkflowIdConflictPolicy,
            WorkflowIdReusePolicy,
        },
        errordetails::v1::WorkflowExecutionAlreadyStartedFailure,
        workflowservice::v1 as api,
    },
    time::duration_to_proto,
};
use tonic::Code;

use crate::world::*;

#[tokio::test]
async fn a_run_starts_works_and_closes() {
    let world = World::new().await;
    let run = world.start("simple").await;
    let task = world.poll().await;
    assert_eq!(
        in_task(&task),
        [
            E::WorkflowExecutionStarted,
            E::WorkflowTaskScheduled,
            E::WorkflowTaskStarted
        ]
    );
    assert_eq!(
        (
            task.started_event_id,
            task.previous_started_event_id,
            task.attempt
        ),
        (3, 0, 1)
    );
    let open = world.describe("simple").await.unwrap();
    assert!(open.pending_workflow_task.is_some());
    let info = open.workflow_execution_info.unwrap();
    assert!(
        info.memo.is_some() && info.search_attributes.is_some(),
        "the Go SDK looks into both without asking: {info:?}"
    );
    world
        .complete(&task, complete_workflow("done"))
        .await
        .unwrap();

    let closed = world.close_event("simple", &run).await;
    assert_eq!(closed.event_type(), E::WorkflowExecutionCompleted);
    let events = world.events("simple", "").await;
    let wanted = [
        E::WorkflowExecutionStarted,
        E::WorkflowTaskScheduled,
        E::WorkflowTaskStarted,
        E::WorkflowTaskCompleted,
        E::WorkflowExecutionCompleted,
    ];
    assert_eq!(kinds(&events), wanted);
    let info = world
        .describe("simple")
        .await
        .unwrap()
        .workflow_execution_info
        .unwrap();
    assert_eq!(info.status(), WorkflowExecutionStatus::Completed);
    assert_eq!(info.history_length, 5);

    let again = world
        .complete(&task, complete_workflow("done"))
        .await
        .unwrap_err();
    assert_eq!(again.code(), Code::NotFound);
    let late = world.signal("simple", "late").await.unwrap_err();
    assert_eq!(
        (late.code(), late.message()),
        (Code::NotFound, "workflow execution already completed")
    );
    let missing = world.signal("nobody", "late").await.unwrap_err();
    assert_eq!(missing.message(), "workflow not found for ID: nobody");
}

#[tokio::test]
async fn id_policies_hold() {
    let world = World::new().await;
    let first = world.start("id").await;
    assert_eq!(
        world.start("id").await,
        first,
        "the same request starts once"
    );
    let other = api::StartWorkflowExecutionRequest {
        request_id: "other".into(),
        ..start_request("id")
    };
    let refused = world.start_with(other.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists);
    let detail: WorkflowExecutionAlreadyStartedFailure =
        cluster_rpc::status::decode_detail(&refused).unwrap();
    assert_eq!(
        (detail.run_id.as_str(), detail.start_request_id.as_str()),
        (first.as_str(), "start-id")
    );

    let mut existing = other.clone();
    existing.set_workflow_id_conflict_policy(WorkflowIdConflictPolicy::UseExisting);
    let used = world.start_with(existing).await.unwrap();
    assert_eq!(
        (used.run_id.as_str(), used.started),
        (first.as_str(), false)
    );

    let mut replace = other.clone();
    replace.set_workflow_id_conflict_policy(WorkflowIdConflictPolicy::TerminateExisting);
    let replaced = world.start_with(replace).await.unwrap();
    assert!(replaced.started && replaced.run_id != first);
    let ended = world.close_event("id", &first).await;
    assert_eq!(ended.event_type(), E::WorkflowExecutionTerminated);

    let task = world.poll().await;
    assert_eq!(
        task.workflow_execution.as_ref().unwrap().run_id,
        replaced.run_id
    );
    world.complete(&task, complete_workflow("")).await.unwrap();
    let mut reject = api::StartWorkflowExecutionRequest {
        request_id: "third".into(),
        ..other
    };
    reject.set_workflow_id_reuse_policy(WorkflowIdReusePolicy::AllowDuplicateFailedOnly);
    let refused = world.start_with(reject).await.unwrap_err();
    assert!(
        refused
            .message()
            .starts_with("Workflow execution already finished successfully.")
    );
}

#[tokio::test]
async fn a_signal_during_a_task_waits_for_it_and_keeps_the_run_open() {
    let world = World::new().await;
    world.start("signal").await;
    let task = world.poll().await;
    world.signal("signal", "one").await.unwrap();
    let refused = world
        .complete(&task, complete_workflow(""))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let task = world.poll().await;
    assert_eq!(
        in_task(&task)[3..],
        [
            E::WorkflowTaskFailed,
            E::WorkflowExecutionSignaled,
            E::WorkflowTaskScheduled,
            E::WorkflowTaskStarted
        ]
    );
    world.complete(&task, complete_workflow("")).await.unwrap();
    kinds(&world.events("signal", "").await);
}

#[tokio::test]
async fn signal_with_start_starts_once() {
    let world = World::new().await;
    for (request_id, starts) in [("a", true), ("b", false)] {
        let start = start_request("sws");
        let request = api::SignalWithStartWorkflowExecutionRequest {
            namespace: start.namespace,
            workflow_id: start.workflow_id,
            workflow_type: start.workflow_type,
            task_queue: start.task_queue,
            request_id: request_id.into(),
            signal_name: "s".into(),
            ..Default::default()
        };
        let call = history::SignalWithStartWorkflowExecutionRequest {
            namespace_id: NS.into(),
            request: Some(request),
        };
        let answer = world
            .history
            .signal_with_start_workflow_execution(call)
            .await
            .unwrap();
        assert_eq!(answer.started, starts);
    }
    let task = world.poll().await;
    let wanted = [
        E::WorkflowExecutionStarted,
        E::WorkflowExecutionSignaled,
        E::WorkflowTaskScheduled,
        E::WorkflowExecutionSignaled,
        E::WorkflowTaskStarted,
    ];
    assert_eq!(in_task(&task), wanted);
}

#[tokio::test]
async fn eager_start_hands_out_the_first_task_and_only_once() {
    let world = World::new().await;
    let request = api::StartWorkflowExecutionRequest {
        request_eager_execution: true,
        ..start_request("eager")
    };
    let started = world.start_with(request.clone()).await.unwrap();
    let task = started.eager_workflow_task.expect("the first task");
    assert_eq!(in_task(&task).len(), 3);
    let again = world.start_with(request).await.unwrap();
    let same = again.eager_workflow_task.expect("the same task");
    assert_eq!(same.task_token, task.task_token);
    world.complete(&task, complete_workflow("")).await.unwrap();
    assert_eq!(kinds(&world.events("eager", "").await).len(), 5);
}

#[tokio::test]
async fn a_timer_fires_and_a_sticky_worker_gets_only_what_is_new() {
    let world = World::new().await;
    world.start("timer").await;
    let task = world.poll().await;
    let timer = StartTimerCommandAttributes {
        timer_id: "t".into(),
        start_to_fire_timeout: Some(duration_to_proto(Duration::from_millis(50))),
    };
    let commands = vec![command(
        CommandType::StartTimer,
        Attributes::StartTimerCommandAttributes(timer),
    )];
    let mut request = completion(&task, commands);
    request.sticky_attributes = keep_cache();
    let (answered, task) = tokio::join!(world.complete_with(request), world.poll_sticky());
    answered.unwrap();
    assert_eq!(
        in_task(&task),
        [
            E::WorkflowTaskCompleted,
            E::TimerStarted,
            E::TimerFired,
            E::WorkflowTaskScheduled,
            E::WorkflowTaskStarted
        ]
    );
    assert_eq!(task.previous_started_event_id, 3);
    world.complete(&task, complete_workflow("")).await.unwrap();
}

#[tokio::test]
async fn a_restart_loses_nothing_that_was_acknowledged() {
    let world = World::new().await;
    world.start("reopen").await;
    world.signal("reopen", "kept").await.unwrap();
    let task = world.poll().await;
    let world = world.reopen().await;
    let answered = world.complete(&task, complete_workflow("")).await;
    assert!(
        answered.is_ok(),
        "the token is good after a restart: {answered:?}"
    );
    let events = kinds(&world.events("reopen", "").await);
    assert_eq!(events.last(), Some(&E::WorkflowExecutionCompleted));
    assert!(events.contains(&E::WorkflowExecutionSignaled));

    world.start("scheduled").await;
    let world = world.reopen().await;
    let task = world.poll().await;
    assert_eq!(
        task.workflow_execution.as_ref().unwrap().workflow_id,
        "scheduled"
    );
}

#[tokio::test]
async fn after_a_crash_the_new_owner_goes_on() {
    let old = World::new().await;
    let run = old.start("crash").await;
    let task = old.poll().await;
    let new = old.take_over().await;
    new.signal("crash", "s").await.unwrap();
    // The first start was promised to nobody: the token may be void, and then the task goes out again.
    let task = match new.complete(&task, vec![]).await {
        Ok(_) => new.poll().await,
        Err(void) => {
            assert_eq!(void.code(), Code::NotFound);
            new.poll().await
        }
    };
    new.complete(&task, complete_workflow("")).await.unwrap();
    let events = kinds(&new.events("crash", &run).await);
    let signals = events
        .iter()
        .filter(|e| **e == E::WorkflowExecutionSignaled);
    assert_eq!(signals.count(), 1);
    assert_eq!(events.last(), Some(&E::WorkflowExecutionCompleted));
}

#[tokio::test]
async fn a_deleted_run_is_gone() {
    let world = World::new().await;
    world.start("delete").await;
    let call = history::DeleteWorkflowExecutionRequest {
        namespace_id: NS.into(),
        execution: Some(execution("delete", "")),
        ..Default::default()
    };
    world.history.delete_workflow_execution(call).await.unwrap();
    for _ in 0..500 {
        if let Err(gone) = world.describe("delete").await {
            assert_eq!(gone.code(), Code::NotFound);
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the run is still there");
}

#[tokio::test]
async fn a_run_that_outgrows_its_limit_is_terminated_and_says_why() {
    let world = World::with_event_limit(5).await;
    let run = world.start("grows").await;
    let refused = loop {
        if let Err(refused) = world.signal("grows", "s").await {
            break refused;
        }
    };
    let told = (refused.code(), refused.message());
    assert_eq!(
        told,
        (
            Code::InvalidArgument,
            "Workflow history count exceeds limit."
        )
    );
    let ended = world.close_event("grows", &run).await;
    assert_eq!(ended.event_type(), E::WorkflowExecutionTerminated);
    assert_eq!(kinds(&world.events("grows", &run).await).len(), 6);
}
