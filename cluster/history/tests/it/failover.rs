//! A namespace goes to another cluster and comes back: nothing is written meanwhile, and everything that
//! was owed is done afterwards.

use std::time::Duration;

use proto_messages::{
    meridian::history::v1 as history,
    temporal::api::{
        command::v1::{StartTimerCommandAttributes, command::Attributes},
        enums::v1::{CommandType, EventType as E, WorkflowTaskFailedCause},
        errordetails::v1::NamespaceNotActiveFailure,
        history::v1::history_event,
    },
    time::duration_to_proto,
};
use tonic::Code;

use crate::world::*;

const SHORT: Duration = Duration::from_millis(80);

#[tokio::test]
async fn a_standby_writes_nothing_and_a_failover_wakes_what_was_parked() {
    let world = World::new().await;
    world.start("timer").await;
    let task = world.poll().await;
    let timer = StartTimerCommandAttributes {
        timer_id: "t".into(),
        start_to_fire_timeout: Some(duration_to_proto(SHORT)),
    };
    let timer = Attributes::StartTimerCommandAttributes(timer);
    let commands = vec![command(CommandType::StartTimer, timer)];
    world.complete(&task, commands).await.unwrap();
    world.start("flight").await;
    let flight = world.poll().await;

    world.fail_over("there", 2);
    let refused = world.signal("flight", "s").await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let detail: NamespaceNotActiveFailure = cluster_rpc::status::decode_detail(&refused).unwrap();
    assert_eq!(
        (
            detail.current_cluster.as_str(),
            detail.active_cluster.as_str()
        ),
        ("here", "there")
    );
    // Time passes: what must not happen has no condition to wait for.
    tokio::time::sleep(2 * SHORT).await;
    assert_eq!(
        world.events("timer", "").await.len(),
        5,
        "a standby fires no timer"
    );

    world.fail_over("here", 11);
    let task = world.poll().await;
    assert_eq!(
        task.workflow_execution.as_ref().unwrap().workflow_id,
        "timer"
    );
    assert!(in_task(&task).contains(&E::TimerFired));
    let last = task.history.clone().unwrap().events.pop().unwrap();
    assert_eq!(last.version, 11);

    // What a worker holds from before is void: the first write fails it and schedules it anew.
    world.signal("flight", "s").await.unwrap();
    let stale = world.complete(&flight, vec![]).await.unwrap_err();
    assert_eq!(
        (stale.code(), stale.message()),
        (Code::NotFound, "Workflow task not found.")
    );
    let again = world.poll().await;
    let events = again.history.clone().unwrap().events;
    let cause = events.iter().find_map(|e| match &e.attributes {
        Some(history_event::Attributes::WorkflowTaskFailedEventAttributes(a)) => Some(a.cause()),
        _ => None,
    });
    assert_eq!(cause, Some(WorkflowTaskFailedCause::FailoverCloseCommand));
    world.complete(&again, complete_workflow("")).await.unwrap();
    kinds(&world.events("flight", "").await);
}

#[tokio::test]
async fn a_standby_is_read_and_its_tasks_are_not_rebuilt() {
    let world = World::new().await;
    world.start("rebuild").await;
    let run = world.poll().await.workflow_execution.unwrap().run_id;
    // Reading is possible anywhere, and rebuilding is refused where the namespace is passive.
    world.fail_over("there", 2);
    assert!(rebuild(&world, &run).await.is_err());
    assert_eq!(world.events("rebuild", &run).await.len(), 3);
    world.fail_over("here", 11);
    rebuild(&world, &run).await.unwrap();
}

async fn rebuild(world: &World, run: &str) -> Result<(), tonic::Status> {
    let call = history::RebuildTasksRequest {
        namespace_id: NS.into(),
        execution: Some(execution("rebuild", run)),
    };
    world.history.rebuild_tasks(call).await.map(drop)
}

#[tokio::test]
async fn a_predecessors_workflow_task_is_settled_without_traffic() {
    let world = World::new().await;
    world.start("flight").await;
    let flight = world.poll().await;
    world.fail_over("here", 11);
    // Its own timeout would take ten seconds.
    let again = tokio::time::timeout(Duration::from_secs(5), world.poll()).await;
    let again = again.expect("scheduled again at once");
    assert_eq!(again.workflow_execution, flight.workflow_execution);
    assert!(in_task(&again).contains(&E::WorkflowTaskFailed));
}
