//! Queries: directly, on a workflow task, and on closed runs.

use std::{sync::Arc, time::Duration};

use prost::Message;
use proto_messages::{
    meridian::{history::v1 as history, matching::v1 as matching},
    temporal::api::{
        enums::v1::{EventType, QueryRejectCondition, QueryResultType, WorkflowExecutionStatus},
        query::v1::{WorkflowQuery, WorkflowQueryResult},
        workflowservice::v1 as api,
    },
};
use tonic::{Code, Status};

use crate::world::*;

pub async fn query(
    world: &World,
    id: &str,
    reject: QueryRejectCondition,
) -> Result<api::QueryWorkflowResponse, Status> {
    let request = api::QueryWorkflowRequest {
        execution: Some(execution(id, "")),
        query: Some(WorkflowQuery {
            query_type: "state".into(),
            ..Default::default()
        }),
        query_reject_condition: reject as i32,
        ..Default::default()
    };
    let call = history::QueryWorkflowRequest {
        namespace_id: NS.into(),
        request: Some(request),
    };
    let mut call = tonic::Request::new(call);
    call.set_timeout(Duration::from_secs(10));
    world.history.query_workflow(call).await
}

/// Answers one query task, and says how many events came with it.
async fn answer_one(world: &World, text: &str) -> usize {
    answer(world, world.poll().await, text).await
}

async fn answer(world: &World, task: api::PollWorkflowTaskQueueResponse, text: &str) -> usize {
    assert!(task.query.is_some() && task.started_event_id == 0);
    let token = history::QueryToken::decode(task.task_token.clone()).unwrap();
    let request = api::RespondQueryTaskCompletedRequest {
        task_token: task.task_token.clone(),
        completed_type: QueryResultType::Answered as i32,
        query_result: payloads(text),
        ..Default::default()
    };
    let call = matching::RespondQueryTaskCompletedRequest {
        namespace_id: NS.into(),
        task_queue: Some(queue(&token.task_queue)),
        task_id: token.task_id,
        request: Some(request),
    };
    world
        .matching
        .respond_query_task_completed(call)
        .await
        .unwrap();
    in_task(&task).len()
}

#[tokio::test]
async fn queries_go_directly_or_ride_on_the_task_in_flight() {
    let world = Arc::new(World::new().await);
    world.start("query").await;
    let task = world.poll().await;

    // The task is in flight: the query waits for it and then asks a worker directly, since this task was
    // given out before.
    let asking = tokio::spawn({
        let world = world.clone();
        async move { query(&world, "query", QueryRejectCondition::None).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!asking.is_finished());
    world.complete(&task, vec![]).await.unwrap();
    assert_eq!(answer_one(&world, "direct").await, 4);
    assert_eq!(
        asking.await.unwrap().unwrap().query_result,
        payloads("direct")
    );

    // A task is scheduled: the query rides on it.
    world.signal("query", "s").await.unwrap();
    let asking = tokio::spawn({
        let world = world.clone();
        async move { query(&world, "query", QueryRejectCondition::None).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let task = world.poll().await;
    let mut done = answered(&task, "rode");
    done.commands = complete_workflow("");
    world.complete_with(done).await.unwrap();
    assert_eq!(
        asking.await.unwrap().unwrap().query_result,
        payloads("rode")
    );

    // The run is closed.
    let rejected = query(&world, "query", QueryRejectCondition::NotOpen)
        .await
        .unwrap();
    assert_eq!(
        rejected.query_rejected.unwrap().status(),
        WorkflowExecutionStatus::Completed
    );
    let (answer, events) = tokio::join!(
        query(&world, "query", QueryRejectCondition::NotCompletedCleanly),
        answer_one(&world, "closed")
    );
    assert_eq!(answer.unwrap().query_result, payloads("closed"));
    assert_eq!(events, world.events("query", "").await.len());
    let missing = query(&world, "nobody", QueryRejectCondition::None)
        .await
        .unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
}

#[tokio::test]
async fn the_worker_with_the_run_in_its_cache_is_asked_first_and_then_any() {
    let world = World::new().await;
    world.start("cached").await;
    let task = world.poll().await;
    let mut done = completion(&task, vec![]);
    done.sticky_attributes = keep_cache();
    // A worker polls its own queue from the first task on.
    let (_, answered, asked) = tokio::join!(
        world.complete_with(done),
        async { answer(&world, world.poll_sticky().await, "cached").await },
        async {
            while world
                .describe("cached")
                .await
                .unwrap()
                .pending_workflow_task
                .is_some()
            {
                tokio::task::yield_now().await;
            }
            query(&world, "cached", QueryRejectCondition::None).await
        }
    );
    assert_eq!(asked.unwrap().query_result, payloads("cached"));
    assert_eq!(
        answered, 1,
        "only what followed the last task the worker saw"
    );
}

/// A worker's task may take long to be made, since history is read for it. What was acknowledged meanwhile
/// is not in it, so a query that came meanwhile must not ride on it.
#[tokio::test]
async fn a_query_never_rides_on_a_task_that_misses_an_acknowledged_signal() {
    let world = World::new().await;
    world.start("late").await;
    // Another process has none of the history in memory.
    let world = Arc::new(world.reopen().await);

    // A poll takes the task.
    world.reads.hold(true);
    let polling = tokio::spawn({
        let world = world.clone();
        async move { world.poll().await }
    });
    let asking = overtaken(&world).await;
    let task = polling.await.unwrap();
    assert_eq!((signals(&task), task.queries.len()), (0, 0));
    world.complete(&task, vec![]).await.unwrap();
    let task = world.poll().await;
    assert_eq!((signals(&task), task.queries.len()), (1, 1));
    world.complete_with(answered(&task, "one")).await.unwrap();
    assert_eq!(asking.await.unwrap().query_result, payloads("one"));

    // The answer to a completion brings the task.
    world.signal("late", "second").await.unwrap();
    let task = world.poll().await;
    world.signal("late", "third").await.unwrap();
    world.reads.hold(true);
    let completing = tokio::spawn({
        let world = world.clone();
        async move {
            let mut done = completion(&task, vec![]);
            done.return_new_workflow_task = true;
            world.complete_with(done).await.unwrap()
        }
    });
    let asking = overtaken(&world).await;
    let task = completing.await.unwrap().workflow_task.unwrap();
    assert_eq!((signals(&task), task.queries.len()), (3, 0));
    world.complete(&task, vec![]).await.unwrap();
    let task = world.poll().await;
    assert_eq!((signals(&task), task.queries.len()), (4, 1));
    world.complete_with(answered(&task, "four")).await.unwrap();
    assert_eq!(asking.await.unwrap().query_result, payloads("four"));
}

fn signals(task: &api::PollWorkflowTaskQueueResponse) -> usize {
    let kinds = in_task(task).into_iter();
    kinds
        .filter(|kind| *kind == EventType::WorkflowExecutionSignaled)
        .count()
}

/// The completion of a task that answers the one query it carries.
fn answered(
    task: &api::PollWorkflowTaskQueueResponse,
    text: &str,
) -> api::RespondWorkflowTaskCompletedRequest {
    let mut done = completion(task, vec![]);
    let id = task.queries.keys().next().expect("the query rides").clone();
    let result = WorkflowQueryResult {
        result_type: QueryResultType::Answered as i32,
        answer: payloads(text),
        ..Default::default()
    };
    done.query_results.insert(id, result);
    done
}

/// Signals and then queries while the making of a task waits for history, and lets it go on.
async fn overtaken(world: &Arc<World>) -> tokio::task::JoinHandle<api::QueryWorkflowResponse> {
    world.reads.one_waits().await;
    world.signal("late", "overtakes").await.unwrap();
    let mut asking = tokio::spawn({
        let world = world.clone();
        async move {
            query(&world, "late", QueryRejectCondition::None)
                .await
                .unwrap()
        }
    });
    let early = tokio::time::timeout(Duration::from_millis(50), &mut asking).await;
    assert!(early.is_err(), "no task shows the signal yet");
    world.reads.hold(false);
    asking
}
