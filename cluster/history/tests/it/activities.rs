//! Activities: dispatch, retry, result, heartbeat.

use std::time::Duration;

use proto_messages::{
    meridian::history::v1 as history,
    temporal::api::{
        command::v1::{Command, ScheduleActivityTaskCommandAttributes, command::Attributes},
        common::v1::{ActivityType, Priority, RetryPolicy},
        enums::v1::{CommandType, EventType as E},
        failure::v1::Failure,
        history::v1::history_event,
        workflowservice::v1 as api,
    },
    time::duration_to_proto,
};
use tonic::Code;

use crate::world::*;

fn schedule(id: &str) -> Command {
    let retry = RetryPolicy {
        initial_interval: Some(duration_to_proto(Duration::from_millis(20))),
        backoff_coefficient: 1.0,
        ..Default::default()
    };
    let attributes = ScheduleActivityTaskCommandAttributes {
        activity_id: id.into(),
        activity_type: Some(ActivityType { name: "act".into() }),
        task_queue: Some(queue(QUEUE)),
        input: payloads("in"),
        start_to_close_timeout: Some(duration_to_proto(Duration::from_secs(30))),
        retry_policy: Some(retry),
        ..Default::default()
    };
    command(
        CommandType::ScheduleActivityTask,
        Attributes::ScheduleActivityTaskCommandAttributes(attributes),
    )
}

/// An activity has its run's priority where the command says nothing.
#[tokio::test]
async fn activities_take_over_what_their_priority_leaves_open() {
    let world = World::new().await;
    let mut request = start_request("priority");
    request.priority = Some(Priority {
        priority_key: 2,
        fairness_key: "tenant".into(),
        fairness_weight: 1.5,
    });
    world.start_with(request.clone()).await.unwrap();
    let own = Priority {
        priority_key: 5,
        ..Default::default()
    };
    let mut with_own = schedule("own");
    if let Some(Attributes::ScheduleActivityTaskCommandAttributes(a)) = &mut with_own.attributes {
        a.priority = Some(own);
    }
    let task = world.poll().await;
    let commands = vec![schedule("none"), with_own];
    world.complete(&task, commands).await.unwrap();
    for _ in 0..2 {
        let activity = world.poll_activity().await;
        let mut expected = request.priority.clone();
        if activity.activity_id == "own" {
            expected.as_mut().unwrap().priority_key = 5;
        }
        assert_eq!(activity.priority, expected);
    }
}

#[tokio::test]
async fn a_failed_attempt_is_retried_and_the_result_reaches_the_workflow() {
    let world = World::new().await;
    world.start("activity").await;
    let task = world.poll().await;
    world.complete(&task, vec![schedule("a")]).await.unwrap();
    let first = world.poll_activity().await;
    assert_eq!((first.attempt, first.activity_id.as_str()), (1, "a"));
    assert_eq!(first.input, payloads("in"));
    fail(&world, &first).await;

    let second = world.poll_activity().await;
    assert_eq!(second.attempt, 2);
    let beat = heartbeat(&world, &second, "half").await.unwrap();
    assert!(!beat.cancel_requested);
    let pending = world
        .describe("activity")
        .await
        .unwrap()
        .pending_activities
        .remove(0);
    assert_eq!(
        (pending.attempt, pending.heartbeat_details),
        (2, payloads("half"))
    );
    assert_eq!(pending.last_failure.unwrap().message, "no");

    let stale = heartbeat(&world, &first, "late").await.unwrap_err();
    assert_eq!(stale.code(), Code::NotFound);
    world
        .complete_activity(second.task_token.clone(), "out")
        .await
        .unwrap();
    let twice = world
        .complete_activity(second.task_token, "out")
        .await
        .unwrap_err();
    assert_eq!(twice.code(), Code::NotFound);

    let task = world.poll().await;
    let events = task.history.clone().unwrap().events;
    let started = events.iter().find_map(|e| match &e.attributes {
        Some(history_event::Attributes::ActivityTaskStartedEventAttributes(a)) => Some(a.attempt),
        _ => None,
    });
    assert_eq!(started, Some(2));
    assert!(in_task(&task).contains(&E::ActivityTaskCompleted));
    world.complete(&task, complete_workflow("")).await.unwrap();
    kinds(&world.events("activity", "").await);
}

#[tokio::test]
async fn an_eager_activity_comes_back_with_the_completion_and_is_not_dispatched() {
    let world = World::new().await;
    world.start("eager").await;
    let task = world.poll().await;
    let mut commands = vec![schedule("mine"), schedule("queued")];
    if let Some(Attributes::ScheduleActivityTaskCommandAttributes(a)) = &mut commands[0].attributes
    {
        a.request_eager_execution = true;
    }
    let answer = world.complete(&task, commands).await.unwrap();
    assert_eq!(answer.activity_tasks.len(), 1);
    let mine = &answer.activity_tasks[0];
    assert_eq!((mine.activity_id.as_str(), mine.attempt), ("mine", 1));
    let queued = world.poll_activity().await;
    assert_eq!(queued.activity_id, "queued");
    world
        .complete_activity(mine.task_token.clone(), "")
        .await
        .unwrap();
    world
        .complete_activity(queued.task_token, "")
        .await
        .unwrap();
    let task = world.poll().await;
    let done = in_task(&task);
    let done = done
        .iter()
        .filter(|e| **e == E::ActivityTaskCompleted)
        .count();
    assert!(done > 0);
}

async fn fail(world: &World, task: &api::PollActivityTaskQueueResponse) {
    let failure = Failure {
        message: "no".into(),
        ..Default::default()
    };
    let request = api::RespondActivityTaskFailedRequest {
        task_token: task.task_token.clone(),
        failure: Some(failure),
        ..Default::default()
    };
    let call = history::RespondActivityTaskFailedRequest {
        namespace_id: NS.into(),
        request: Some(request),
    };
    world
        .history
        .respond_activity_task_failed(call)
        .await
        .unwrap();
}

async fn heartbeat(
    world: &World,
    task: &api::PollActivityTaskQueueResponse,
    details: &str,
) -> Result<api::RecordActivityTaskHeartbeatResponse, tonic::Status> {
    let request = api::RecordActivityTaskHeartbeatRequest {
        task_token: task.task_token.clone(),
        details: payloads(details),
        ..Default::default()
    };
    let call = history::RecordActivityTaskHeartbeatRequest {
        namespace_id: NS.into(),
        request: Some(request),
    };
    world.history.record_activity_task_heartbeat(call).await
}
