//! Children: start, result, and what happens to them when the parent ends.

use proto_messages::meridian::history::v1 as history;
use proto_messages::temporal::api::{
    command::v1::{
        Command, SignalExternalWorkflowExecutionCommandAttributes,
        StartChildWorkflowExecutionCommandAttributes, command::Attributes,
    },
    common::v1::WorkflowType,
    enums::v1::{CommandType, EventType as E, ParentClosePolicy},
    workflowservice::v1 as api,
};

use crate::world::*;

#[expect(deprecated, reason = "SDKs still name the namespace")]
pub fn start_child(id: &str) -> Command {
    let attributes = StartChildWorkflowExecutionCommandAttributes {
        namespace: "test".into(),
        workflow_id: id.into(),
        workflow_type: Some(WorkflowType {
            name: "child".into(),
        }),
        task_queue: Some(queue(QUEUE)),
        ..Default::default()
    };
    command(
        CommandType::StartChildWorkflowExecution,
        Attributes::StartChildWorkflowExecutionCommandAttributes(attributes),
    )
}

#[expect(deprecated, reason = "SDKs still name the namespace")]
fn signal(id: &str) -> Command {
    let attributes = SignalExternalWorkflowExecutionCommandAttributes {
        namespace: "test".into(),
        execution: Some(execution(id, "")),
        signal_name: "s".into(),
        ..Default::default()
    };
    command(
        CommandType::SignalExternalWorkflowExecution,
        Attributes::SignalExternalWorkflowExecutionCommandAttributes(attributes),
    )
}

pub fn id_of(task: &api::PollWorkflowTaskQueueResponse) -> &str {
    task.workflow_execution
        .as_ref()
        .map_or("", |e| &e.workflow_id)
}

/// Answers tasks with `answer` until `until` has happened in the history of `id`.
async fn work(
    world: &World,
    id: &str,
    until: E,
    answer: impl Fn(&api::PollWorkflowTaskQueueResponse) -> Vec<Command>,
) {
    for _ in 0..20 {
        let task = world.poll().await;
        let seen = id_of(&task) == id && in_task(&task).contains(&until);
        world.complete(&task, answer(&task)).await.unwrap();
        if seen {
            return;
        }
    }
    panic!("{until:?} did not happen in {id}");
}

#[tokio::test]
async fn a_childs_result_reaches_its_parent() {
    let world = World::new().await;
    world.start("parent").await;
    work(
        &world,
        "parent",
        E::ChildWorkflowExecutionCompleted,
        |task| match id_of(task) {
            "child" => complete_workflow("result"),
            _ if in_task(task).len() == 3 => vec![start_child("child")],
            _ if in_task(task).contains(&E::ChildWorkflowExecutionCompleted) => {
                complete_workflow("")
            }
            _ => vec![],
        },
    )
    .await;
    let events = kinds(&world.events("parent", "").await);
    let at = |kind| events.iter().position(|e| *e == kind);
    assert!(at(E::StartChildWorkflowExecutionInitiated) < at(E::ChildWorkflowExecutionStarted));
    assert!(at(E::ChildWorkflowExecutionStarted) < at(E::ChildWorkflowExecutionCompleted));
    let child = world
        .describe("child")
        .await
        .unwrap()
        .workflow_execution_info
        .unwrap();
    assert_eq!(child.parent_execution.unwrap().workflow_id, "parent");
}

/// As Temporal Server has it, whatever the policy: a child is there once its start is recorded, and a parent that closed
/// before records nothing.
#[tokio::test]
async fn a_child_of_the_task_that_closes_its_parent_is_never_started() {
    for policy in [ParentClosePolicy::Abandon, ParentClosePolicy::Terminate] {
        let world = World::new().await;
        let (parent, child) = (format!("parent-{policy:?}"), format!("child-{policy:?}"));
        let run = world.start(&parent).await;
        let task = world.poll().await;
        let mut start = start_child(&child);
        if let Some(Attributes::StartChildWorkflowExecutionCommandAttributes(attributes)) =
            &mut start.attributes
        {
            attributes.parent_close_policy = policy as i32;
        }
        let commands = [vec![start], complete_workflow("")].concat();
        world.complete(&task, commands).await.unwrap();
        let ended = world.close_event(&parent, &run).await;
        assert_eq!(ended.event_type(), E::WorkflowExecutionCompleted);
        // Whoever comes later has its child started, so the task of the first was executed meanwhile.
        let later = format!("later-{policy:?}");
        world.start(&later).await;
        work(
            &world,
            &later,
            E::ChildWorkflowExecutionStarted,
            |task| match id_of(task) {
                id if id == later && in_task(task).len() == 3 => {
                    vec![start_child(&format!("{later}-child"))]
                }
                _ => vec![],
            },
        )
        .await;
        let events = kinds(&world.events(&parent, "").await);
        let initiated = E::StartChildWorkflowExecutionInitiated;
        assert_eq!(events[4..], [initiated, E::WorkflowExecutionCompleted]);
        let absent = world.describe(&child).await.unwrap_err();
        assert_eq!(absent.code(), tonic::Code::NotFound, "{policy:?}");
    }
}

#[tokio::test]
async fn children_end_with_their_parent_and_a_taken_id_is_told() {
    let world = World::new().await;
    let other = world.start("taken").await;
    let task = world.poll().await;
    world.complete(&task, vec![]).await.unwrap();
    world.start("closer").await;
    work(
        &world,
        "closer",
        E::StartChildWorkflowExecutionFailed,
        |task| match id_of(task) {
            "closer" if in_task(task).len() == 3 => {
                vec![start_child("taken"), start_child("orphan")]
            }
            _ => vec![],
        },
    )
    .await;
    for _ in 0..20 {
        if kinds(&world.events("closer", "").await).contains(&E::ChildWorkflowExecutionStarted) {
            break;
        }
        tokio::task::yield_now().await;
    }
    terminate(&world, "closer").await;
    let ended = world.close_event("orphan", "").await;
    assert_eq!(ended.event_type(), E::WorkflowExecutionTerminated);
    let info = world
        .describe("taken")
        .await
        .unwrap()
        .workflow_execution_info
        .unwrap();
    assert_eq!(
        info.execution.unwrap().run_id,
        other,
        "a run that is not its child stays"
    );
    assert!(info.close_time.is_none());
}

#[tokio::test]
async fn runs_signal_one_another() {
    let world = World::new().await;
    world.start("target").await;
    let task = world.poll().await;
    world.complete(&task, vec![]).await.unwrap();
    world.start("sender").await;
    work(
        &world,
        "sender",
        E::ExternalWorkflowExecutionSignaled,
        |task| match id_of(task) {
            "sender" if in_task(task).len() == 3 => vec![signal("target"), signal("nobody")],
            _ => vec![],
        },
    )
    .await;
    let target = kinds(&world.events("target", "").await);
    assert!(target.contains(&E::WorkflowExecutionSignaled));
}

async fn terminate(world: &World, id: &str) {
    let request = api::TerminateWorkflowExecutionRequest {
        workflow_execution: Some(execution(id, "")),
        reason: "test".into(),
        ..Default::default()
    };
    let call = proto_messages::meridian::history::v1::TerminateWorkflowExecutionRequest {
        namespace_id: NS.into(),
        request: Some(request),
        ..Default::default()
    };
    world
        .history
        .terminate_workflow_execution(call)
        .await
        .unwrap();
}

#[tokio::test]
async fn an_orphan_of_a_lost_branch_makes_room_for_the_child_its_parent_initiates_again() {
    let world = World::new().await;
    let parent = world.start("parent").await;
    // What a forced failover leaves: the child came over, the event that initiated it did not.
    let orphan = history::StartWorkflowExecutionRequest {
        namespace_id: NS.into(),
        request: Some(api::StartWorkflowExecutionRequest {
            request_id: "of the branch that lost".into(),
            ..start_request("child")
        }),
        parent: Some(history::ParentExecution {
            namespace_id: NS.into(),
            namespace: "test".into(),
            execution: Some(execution("parent", &parent)),
            initiated_event_id: 5,
            initiated_event_version: 0,
            ..Default::default()
        }),
        ..Default::default()
    };
    let orphan = world.history.start_workflow_execution(orphan).await;
    let orphan = orphan.unwrap().run_id;
    work(
        &world,
        "parent",
        E::ChildWorkflowExecutionStarted,
        |task| match id_of(task) {
            "parent" if in_task(task).len() == 3 => vec![start_child("child")],
            _ => vec![],
        },
    )
    .await;
    let events = kinds(&world.events("parent", "").await);
    assert!(
        !events.contains(&E::StartChildWorkflowExecutionFailed),
        "{events:?}"
    );
    let ended = world.close_event("child", &orphan).await;
    assert_eq!(ended.event_type(), E::WorkflowExecutionTerminated);
    let child = world.describe("child").await.unwrap();
    let child = child.workflow_execution_info.unwrap();
    assert_ne!(child.execution.unwrap().run_id, orphan);
    assert_eq!(child.parent_execution.unwrap().run_id, parent);
}
