//! Queries: directly, on a workflow task, and on closed runs.

use std::{sync::Arc, time::Duration};

use prost::Message;
use proto_messages::{
    meridian::{history::v1 as history, matching::v1 as matching},
    temporal::api::{
        enums::v1::{QueryRejectCondition, QueryResultType, WorkflowExecutionStatus},
        query::v1::{WorkflowQuery, WorkflowQueryResult},
        workflowservice::v1 as api,
    },
};
use tonic::{Code, Status};

use crate::world::*;

async fn query(
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
    let id = task.queries.keys().next().expect("the query rides").clone();
    let mut done = completion(&task, complete_workflow(""));
    let result = WorkflowQueryResult {
        result_type: QueryResultType::Answered as i32,
        answer: payloads("rode"),
        ..Default::default()
    };
    done.query_results.insert(id, result);
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
