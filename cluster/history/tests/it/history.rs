//! Reading history: pages, long polls, the reverse, and what a worker reads of an attempt that is not
//! stored.

use std::sync::Arc;

use bytes::Bytes;
use proto_messages::{
    meridian::history::v1 as history,
    temporal::api::{
        enums::v1::{EventType as E, HistoryEventFilterType, WorkflowTaskFailedCause},
        history::v1::history_event::Attributes,
        workflowservice::v1 as api,
    },
};
use tonic::Code;

use crate::world::*;

async fn wait(world: &World, token: Bytes) -> api::GetWorkflowExecutionHistoryResponse {
    let request = api::GetWorkflowExecutionHistoryRequest {
        execution: Some(execution("read", "")),
        next_page_token: token,
        wait_new_event: true,
        history_event_filter_type: HistoryEventFilterType::AllEvent as i32,
        ..Default::default()
    };
    let call = history::GetWorkflowExecutionHistoryRequest {
        namespace_id: NS.into(),
        request: Some(request),
        ..Default::default()
    };
    world
        .history
        .get_workflow_execution_history(call)
        .await
        .unwrap()
}

fn events_of(page: &api::GetWorkflowExecutionHistoryResponse) -> Vec<E> {
    let history = page.history.clone().unwrap_or_default();
    history.events.iter().map(|e| e.event_type()).collect()
}

#[tokio::test]
async fn a_reader_that_waits_is_woken_by_each_commit_until_the_end() {
    let world = Arc::new(World::new().await);
    world.start("read").await;
    let page = wait(&world, Bytes::new()).await;
    assert_eq!(
        events_of(&page),
        [E::WorkflowExecutionStarted, E::WorkflowTaskScheduled]
    );
    let waiting = tokio::spawn({
        let (world, token) = (world.clone(), page.next_page_token);
        async move { wait(&world, token).await }
    });
    world.signal("read", "s").await.unwrap();
    let page = waiting.await.unwrap();
    assert_eq!(events_of(&page), [E::WorkflowExecutionSignaled]);

    let task = world.poll().await;
    world.complete(&task, complete_workflow("")).await.unwrap();
    let mut token = page.next_page_token;
    let mut rest = Vec::new();
    while !token.is_empty() {
        let page = wait(&world, token).await;
        rest.extend(events_of(&page));
        token = page.next_page_token;
    }
    assert_eq!(
        rest,
        [
            E::WorkflowTaskStarted,
            E::WorkflowTaskCompleted,
            E::WorkflowExecutionCompleted
        ]
    );
    assert_eq!(reverse(&world).await, [6, 5, 4, 3, 2, 1]);

    let page = wait(&world, Bytes::new()).await;
    assert!(
        page.next_page_token.is_empty(),
        "a closed run has nothing to wait for"
    );
    let other = history::HistoryToken {
        namespace_id: "other".into(),
        ..Default::default()
    };
    let token = Bytes::from(prost::Message::encode_to_vec(&other));
    let refused = world
        .history_page("read", "", token, false)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

async fn reverse(world: &World) -> Vec<i64> {
    let mut ids = Vec::new();
    let mut token = Bytes::new();
    loop {
        let request = api::GetWorkflowExecutionHistoryReverseRequest {
            execution: Some(execution("read", "")),
            next_page_token: token,
            maximum_page_size: 2,
            ..Default::default()
        };
        let call = history::GetWorkflowExecutionHistoryReverseRequest {
            namespace_id: NS.into(),
            request: Some(request),
        };
        let page = world
            .history
            .get_workflow_execution_history_reverse(call)
            .await
            .unwrap();
        ids.extend(
            page.history
                .unwrap_or_default()
                .events
                .iter()
                .map(|e| e.event_id),
        );
        token = page.next_page_token;
        if token.is_empty() {
            return ids;
        }
    }
}

#[tokio::test]
async fn later_attempts_are_told_to_the_worker_and_not_stored() {
    let world = World::new().await;
    world.start("transient").await;
    for attempt in 1..=2 {
        let task = world.poll().await;
        assert_eq!(task.attempt, attempt);
        fail(&world, &task).await;
    }
    let task = world.poll().await;
    assert_eq!(task.attempt, 3);
    assert_eq!(
        in_task(&task),
        [
            E::WorkflowExecutionStarted,
            E::WorkflowTaskScheduled,
            E::WorkflowTaskStarted,
            E::WorkflowTaskFailed,
            E::WorkflowTaskScheduled,
            E::WorkflowTaskStarted
        ]
    );
    assert_eq!(world.events("transient", "").await.len(), 4);
    let call = history::GetWorkflowExecutionHistoryRequest {
        namespace_id: NS.into(),
        request: Some(api::GetWorkflowExecutionHistoryRequest {
            execution: Some(execution("transient", "")),
            ..Default::default()
        }),
        with_transient_events: true,
    };
    let page = world.history.get_workflow_execution_history(call).await;
    let page = page.unwrap();
    assert!(page.next_page_token.is_empty());
    let at_hand = [E::WorkflowTaskScheduled, E::WorkflowTaskStarted];
    assert_eq!(
        events_of(&page)[4..],
        at_hand,
        "who asks like a worker sees them"
    );
    world.complete(&task, complete_workflow("")).await.unwrap();
    assert_eq!(kinds(&world.events("transient", "").await).len(), 8);
}

/// A worker that cannot even send its answer never will: the run ends, and its history can be read.
#[tokio::test]
async fn a_message_too_large_to_send_ends_the_run() {
    let world = World::new().await;
    world.start("oversize").await;
    let task = world.poll().await;
    fail_with(&world, &task, WorkflowTaskFailedCause::GrpcMessageTooLarge).await;
    let events = world.events("oversize", "").await;
    assert_eq!(
        kinds(&events)[3..],
        [E::WorkflowTaskFailed, E::WorkflowExecutionTerminated]
    );
    let Some(Attributes::WorkflowTaskFailedEventAttributes(failed)) = &events[3].attributes else {
        panic!("{:?}", events[3])
    };
    assert_eq!(
        failed.cause(),
        WorkflowTaskFailedCause::ForceCloseCommand,
        "the Java SDK looks at it"
    );
    let Some(Attributes::WorkflowExecutionTerminatedEventAttributes(ended)) = &events[4].attributes
    else {
        panic!("{:?}", events[4])
    };
    assert_eq!(ended.reason, "GrpcMessageTooLarge");
    assert_eq!(ended.identity, "history-service");
}

async fn fail(world: &World, task: &api::PollWorkflowTaskQueueResponse) {
    fail_with(world, task, WorkflowTaskFailedCause::Unspecified).await;
}

async fn fail_with(
    world: &World,
    task: &api::PollWorkflowTaskQueueResponse,
    cause: WorkflowTaskFailedCause,
) {
    let request = api::RespondWorkflowTaskFailedRequest {
        task_token: task.task_token.clone(),
        cause: cause as i32,
        ..Default::default()
    };
    let call = history::RespondWorkflowTaskFailedRequest {
        namespace_id: NS.into(),
        request: Some(request),
    };
    world
        .history
        .respond_workflow_task_failed(call)
        .await
        .unwrap();
}
