//! What callers are answered: requests that name a chain of runs, starts that attach themselves, queries that come
//! too early, copies that operators remove.

use std::time::Duration;

use proto_messages::{
    Wire,
    meridian::history::v1 as history,
    temporal::api::{
        command::v1::{
            Command, ContinueAsNewWorkflowExecutionCommandAttributes,
            FailWorkflowExecutionCommandAttributes, command::Attributes,
        },
        common::v1::{
            Link,
            link::{Variant, workflow_event::Reference},
        },
        enums::v1::{CommandType, EventType as E, QueryRejectCondition, WorkflowIdConflictPolicy},
        failure::v1::{ApplicationFailureInfo, Failure, failure::FailureInfo},
        history::v1::{History, history_event::Attributes as Event},
        workflow::v1::OnConflictOptions,
        workflowservice::v1 as api,
    },
    time::duration_to_proto,
};
use tonic::{Code, Status};

use crate::{queries::query, world::*};

const OTHER_CHAIN: &str = "32049b68-7872-4094-8e63-d0dd59896a83";

fn continue_as_new() -> Vec<Command> {
    let attributes = ContinueAsNewWorkflowExecutionCommandAttributes::default();
    vec![command(
        CommandType::ContinueAsNewWorkflowExecution,
        Attributes::ContinueAsNewWorkflowExecutionCommandAttributes(attributes),
    )]
}

/// A chain of two runs, of which the second is open. Returns the ids of both.
async fn chain(world: &World, id: &str) -> (String, String) {
    let first = world.start(id).await;
    let task = world.poll().await;
    world.complete(&task, continue_as_new()).await.unwrap();
    let info = world.describe(id).await.unwrap().workflow_execution_info;
    let second = info.unwrap().execution.unwrap().run_id;
    assert_ne!(first, second);
    (first, second)
}

async fn cancel(world: &World, id: &str, run: &str, chain: &str) -> Result<(), Status> {
    let request = api::RequestCancelWorkflowExecutionRequest {
        workflow_execution: Some(execution(id, run)),
        first_execution_run_id: chain.into(),
        request_id: "cancel".into(),
        ..Default::default()
    };
    let call = history::RequestCancelWorkflowExecutionRequest {
        namespace_id: NS.into(),
        request: Some(request),
        ..Default::default()
    };
    let canceled = world.history.request_cancel_workflow_execution(call).await;
    canceled.map(drop)
}

async fn terminate(world: &World, id: &str, run: &str, chain: &str) -> Result<(), Status> {
    let request = api::TerminateWorkflowExecutionRequest {
        workflow_execution: Some(execution(id, run)),
        first_execution_run_id: chain.into(),
        ..Default::default()
    };
    let call = history::TerminateWorkflowExecutionRequest {
        namespace_id: NS.into(),
        request: Some(request),
        ..Default::default()
    };
    world
        .history
        .terminate_workflow_execution(call)
        .await
        .map(drop)
}

/// Clients keep the id of the run they started.
#[tokio::test]
async fn a_request_that_names_the_first_run_reaches_the_open_one() {
    let world = World::new().await;
    let (first, second) = chain(&world, "chain").await;
    for refused in [
        cancel(&world, "chain", &first, OTHER_CHAIN).await,
        terminate(&world, "chain", &first, OTHER_CHAIN).await,
    ] {
        let refused = refused.unwrap_err();
        let told = (refused.code(), refused.message());
        assert_eq!(told, (Code::NotFound, "workflow execution not found"));
    }
    cancel(&world, "chain", &first, &first).await.unwrap();
    let events = kinds(&world.events("chain", &second).await);
    assert_eq!(events.last(), Some(&E::WorkflowExecutionCancelRequested));
    terminate(&world, "chain", &first, &first).await.unwrap();
    let ended = world.close_event("chain", &second).await;
    assert_eq!(ended.event_type(), E::WorkflowExecutionTerminated);

    // What was wanted holds already, whatever the chain.
    cancel(&world, "chain", &first, &first).await.unwrap();
    let refused = terminate(&world, "chain", &first, &first)
        .await
        .unwrap_err();
    assert_eq!(refused.message(), "workflow execution already completed");
}

#[tokio::test]
async fn a_query_that_would_wait_longer_than_its_caller_is_refused_at_once() {
    let world = World::new().await;
    let mut delayed = start_request("delayed");
    delayed.workflow_start_delay = Some(duration_to_proto(Duration::from_secs(3_600)));
    world.start_with(delayed).await.unwrap();
    let mut cron = start_request("cron");
    cron.cron_schedule = "@every 1h".into();
    world.start_with(cron).await.unwrap();
    for id in ["delayed", "cron"] {
        let asked = query(&world, id, QueryRejectCondition::None);
        let asked = tokio::time::timeout(Duration::from_secs(5), asked).await;
        let refused = asked.expect("at once").unwrap_err();
        assert_eq!(
            (refused.code(), refused.message()),
            (
                Code::FailedPrecondition,
                "Workflow task is not scheduled yet."
            )
        );
    }
}

pub fn attaching(id: &str, request_id: &str) -> api::StartWorkflowExecutionRequest {
    let mut request = start_request(id);
    request.request_id = request_id.into();
    request.workflow_id_conflict_policy = WorkflowIdConflictPolicy::UseExisting as i32;
    request.links = vec![Link::default()];
    request.on_conflict_options = Some(OnConflictOptions {
        attach_request_id: true,
        attach_completion_callbacks: false,
        attach_links: true,
    });
    request
}

fn reference(answer: &api::StartWorkflowExecutionResponse) -> Reference {
    match answer.link.clone().and_then(|link| link.variant) {
        Some(Variant::WorkflowEvent(event)) => event.reference.expect("a reference"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_start_that_found_the_run_open_is_attached_to_it_once() {
    let world = World::new().await;
    let run = world.start("busy").await;
    let plain = api::StartWorkflowExecutionRequest {
        on_conflict_options: None,
        ..attaching("busy", "plain")
    };
    let used = world.start_with(plain).await.unwrap();
    assert!(!used.started && used.run_id == run);
    let Reference::EventRef(event) = reference(&used) else {
        panic!("the run's first event is linked")
    };
    assert_eq!(event.event_id, 1);

    for _ in 0..2 {
        let attached = world.start_with(attaching("busy", "again")).await.unwrap();
        assert!(!attached.started && attached.run_id == run);
        let Reference::RequestIdRef(event) = reference(&attached) else {
            panic!("the event with the request id is linked")
        };
        assert_eq!(event.request_id, "again");
    }
    let events = world.events("busy", &run).await;
    let wanted = [
        E::WorkflowExecutionStarted,
        E::WorkflowTaskScheduled,
        E::WorkflowExecutionOptionsUpdated,
    ];
    assert_eq!(kinds(&events), wanted, "once, and without a new task");
    assert_eq!(events[2].links.len(), 1);

    // The answer stays the same when the run has closed, and after a restart.
    let task = world.poll().await;
    world
        .complete(&task, complete_workflow("done"))
        .await
        .unwrap();
    let world = world.reopen().await;
    let repeated = world.start_with(attaching("busy", "again")).await.unwrap();
    assert!(!repeated.started && repeated.run_id == run);
    let new = world.start_with(attaching("busy", "new")).await.unwrap();
    assert!(new.started && new.run_id != run);
}

#[tokio::test]
async fn a_schedule_that_never_fires_is_refused_although_the_run_is_open() {
    let world = World::new().await;
    world.start("open").await;
    let mut request = attaching("open", "again");
    request.cron_schedule = "0 0 30 2 *".into();
    let refused = world.start_with(request).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (
            Code::InvalidArgument,
            "invalid CronSchedule, no time can be found to satisfy the schedule"
        )
    );
}

#[tokio::test]
async fn an_operator_removes_this_clusters_copy_and_nothing_else() {
    let world = World::new().await;
    world.start("copy").await;
    // A standby: what clients may not do here any more, an operator still can.
    world.fail_over("there", 2);
    let delete = |local_copy_only| history::DeleteWorkflowExecutionRequest {
        namespace_id: NS.into(),
        execution: Some(execution("copy", "")),
        local_copy_only,
    };
    let refused = world.history.delete_workflow_execution(delete(false)).await;
    assert!(refused.is_err());
    world
        .history
        .delete_workflow_execution(delete(true))
        .await
        .unwrap();
    let gone = world.describe("copy").await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
    let again = world.history.delete_workflow_execution(delete(true)).await;
    assert_eq!(again.unwrap_err().code(), Code::NotFound);
}

/// As deep as the frontend lets a failure in.
#[tokio::test]
async fn a_deep_failure_is_stored_read_and_carried() {
    let world = World::new().await;
    let run = world.start("deep").await;
    let task = world.poll().await;
    let details = FailureInfo::ApplicationFailureInfo(ApplicationFailureInfo {
        details: payloads("why"),
        ..Default::default()
    });
    let link = |cause: Option<Failure>| Failure {
        message: "broken".into(),
        cause: cause.map(Box::new),
        failure_info: Some(details.clone()),
        ..Default::default()
    };
    let deep = (1..64).fold(link(None), |cause, _| link(Some(cause)));
    let attributes = FailWorkflowExecutionCommandAttributes {
        failure: Some(deep.clone()),
    };
    let failed = vec![command(
        CommandType::FailWorkflowExecution,
        Attributes::FailWorkflowExecutionCommandAttributes(attributes),
    )];
    world.complete(&task, failed).await.unwrap();
    let world = world.reopen().await;
    let events = world.events("deep", &run).await;
    let Some(Event::WorkflowExecutionFailedEventAttributes(a)) =
        events.last().and_then(|e| e.attributes.as_ref())
    else {
        panic!("{events:?}")
    };
    assert_eq!(a.failure.as_ref(), Some(&deep));
    let answer = api::GetWorkflowExecutionHistoryResponse {
        history: Some(History { events }),
        ..Default::default()
    };
    let read = api::GetWorkflowExecutionHistoryResponse::from_wire(answer.to_wire());
    assert_eq!(read.unwrap(), answer);
}
