//! Runs that cross from one cluster to another, and back, and apart.

use cluster_core::{MutableState, Request, request::ActivityRef};
use proto_messages::{
    meridian::replication::v1::{GetShardHistoryDigestsRequest, HistoryDigest},
    temporal::api::{
        command::v1::{
            Command, ScheduleActivityTaskCommandAttributes,
            command::Attributes as CommandAttributes,
        },
        common::v1::{ActivityType, Payloads, WorkflowExecution},
        enums::v1::{CommandType, WorkflowExecutionStatus},
        history::v1::history_event::Attributes,
        taskqueue::v1::TaskQueue,
    },
};

use futures::FutureExt;
use replication::digest::same;

use crate::world::{Cluster, NAMESPACE, World, key, outline, until};

const RUN: &str = "0b7e2b30-4c9c-4f6a-9a6c-d4c1a5b0e001";
const OTHER: &str = "0b7e2b30-4c9c-4f6a-9a6c-d4c1a5b0e002";

async fn digest(cluster: &Cluster, workflow: &str, run: &str) -> HistoryDigest {
    let shard = cluster.shard(workflow).await.id();
    let request = GetShardHistoryDigestsRequest {
        shard_id: shard.get(),
        namespace_id: NAMESPACE.to_owned(),
        executions: vec![WorkflowExecution {
            workflow_id: workflow.to_owned(),
            run_id: run.to_owned(),
        }],
    };
    cluster
        .client
        .get_shard_history_digests(request)
        .await
        .unwrap()
        .digests
        .remove(0)
}

async fn equal(world: &World, workflow: &str, run: &str) {
    let waiting = until("histories are equal", || async {
        let (west, east) = (
            digest(&world.west, workflow, run).await,
            digest(&world.east, workflow, run).await,
        );
        let is_open = west.buffered_events > 0 || east.buffered_events > 0;
        let is_same = same(&west, &east)
            || is_open && west.items == east.items && west.history_digest == east.history_digest;
        west.found && is_same
    });
    if std::panic::AssertUnwindSafe(waiting)
        .catch_unwind()
        .await
        .is_err()
    {
        let (west, east) = (
            world.west.history(workflow, run).await,
            world.east.history(workflow, run).await,
        );
        panic!(
            "{workflow} {run}\nwest {:#?}\neast {:#?}",
            outline(&west),
            outline(&east)
        );
    }
}

fn signals(events: &[proto_messages::temporal::api::history::v1::HistoryEvent]) -> Vec<String> {
    let name = |attributes: &Attributes| match attributes {
        Attributes::WorkflowExecutionSignaledEventAttributes(a) => Some(a.signal_name.clone()),
        _ => None,
    };
    events
        .iter()
        .filter_map(|e| e.attributes.as_ref().and_then(name))
        .collect()
}

#[tokio::test]
async fn what_one_cluster_writes_the_other_has() {
    // Four shards to two: every workflow finds its shard.
    let world = World::new(4, 2).await;
    let pulling = world.connect().await;
    for n in 0..8 {
        let (workflow, run) = (format!("wf-{n}"), format!("{}{n}", &RUN[..35]));
        world.west.start(&workflow, &run).await;
        world.west.signal(&workflow, &run, "one").await;
        equal(&world, &workflow, &run).await;
        assert_eq!(world.east.current(&workflow).await, Some(run));
    }
    let close = Request::Terminate {
        reason: "done".to_owned(),
        details: None,
        identity: "me".to_owned(),
        only_from_parent: None,
        first_execution_run_id: Default::default(),
        links: Vec::new(),
    };
    let run = format!("{}0", &RUN[..35]);
    world.west.ask(&key("wf-0", &run), close).await;
    equal(&world, "wf-0", &run).await;
    let status = world
        .east
        .read("wf-0", &run, |run| run.execution_info.status)
        .await;
    assert_eq!(status, Some(WorkflowExecutionStatus::Terminated));
    drop(pulling);
}

#[tokio::test]
async fn a_run_that_began_before_the_streams_is_fetched() {
    let world = World::new(1, 1).await;
    world.west.start("wf", RUN).await;
    for n in 0..5 {
        world.west.signal("wf", RUN, &n.to_string()).await;
    }
    world.west.forget_backlog("wf", "east/1").await;
    let pulling = world.connect().await;
    assert!(world.east.read("wf", RUN, |_| ()).await.is_none());
    world.west.signal("wf", RUN, "last").await;
    equal(&world, "wf", RUN).await;
    assert_eq!(signals(&world.east.history("wf", RUN).await).len(), 6);
    drop(pulling);
}

#[tokio::test]
async fn a_planned_failover_goes_on_in_one_line() {
    let world = World::new(1, 1).await;
    let pulling = world.connect().await;
    world.west.start("wf", RUN).await;
    world.west.start_task("wf", RUN, 2).await;
    world.west.signal("wf", RUN, "buffered").await;
    equal(&world, "wf", RUN).await;
    world.fail_over("east", 2);
    world.east.signal("wf", RUN, "there").await;
    equal(&world, "wf", RUN).await;
    world.fail_over("west", 11);
    world.west.signal("wf", RUN, "back").await;
    equal(&world, "wf", RUN).await;
    let history = world.west.history("wf", RUN).await;
    let versions: Vec<_> = history.iter().map(|e| e.version).collect();
    assert!(versions.is_sorted(), "{:?}", outline(&history));
    assert_eq!(versions.last(), Some(&11));
    // What west had buffered when it was left is not lost.
    until("the buffered signal is delivered", || async {
        let mut names = signals(&world.west.history("wf", RUN).await);
        names.sort();
        names == ["back", "buffered", "there"]
    })
    .await;
    equal(&world, "wf", RUN).await;
    drop(pulling);
}

#[tokio::test]
async fn after_a_partition_the_higher_version_wins_and_signals_survive() {
    let world = World::new(1, 1).await;
    let (west, east) = world.connect().await;
    world.west.start("wf", RUN).await;
    world.west.signal("wf", RUN, "shared").await;
    equal(&world, "wf", RUN).await;
    west.stop().await;
    east.stop().await;

    // West goes on without knowing; east takes over.
    world.west.signal("wf", RUN, "west-1").await;
    world.west.signal("wf", RUN, "west-2").await;
    world
        .east
        .registry
        .set(vec![crate::world::namespace("east", 2)]);
    world.east.signal("wf", RUN, "east").await;

    world.fail_over("east", 2);
    let pulling = world.connect().await;
    until("the losing signals are delivered again", || async {
        let mut names = signals(&world.east.history("wf", RUN).await);
        names.sort();
        names == ["east", "shared", "west-1", "west-2"]
    })
    .await;
    equal(&world, "wf", RUN).await;
    let history = world.west.history("wf", RUN).await;
    assert!(history.iter().all(|e| e.version == 1 || e.version == 2));
    assert_eq!(history.last().map(|e| e.version), Some(2));
    // Both keep the losing branch, and agree on where the two part.
    let branches = |run: &cluster_core::MutableState| {
        let mut branches: Vec<_> = run
            .versions
            .histories
            .iter()
            .map(|h| {
                h.items
                    .iter()
                    .map(|i| (i.event_id.get(), i.version.get()))
                    .collect::<Vec<_>>()
            })
            .collect();
        branches.sort();
        branches
    };
    let (west, east) = (
        world.west.read("wf", RUN, branches).await.unwrap(),
        world.east.read("wf", RUN, branches).await.unwrap(),
    );
    assert_eq!(west, east);
    assert_eq!(west.len(), 2, "{west:?}");
    drop(pulling);
}

#[tokio::test]
async fn of_two_runs_of_one_workflow_id_one_stays() {
    let world = World::new(1, 1).await;
    let (west, east) = world.connect().await;
    west.stop().await;
    east.stop().await;
    world.west.start("wf", RUN).await;
    world.west.signal("wf", RUN, "lost").await;
    world
        .east
        .registry
        .set(vec![crate::world::namespace("east", 2)]);
    world.east.start("wf", OTHER).await;

    world.fail_over("east", 2);
    let pulling = world.connect().await;
    equal(&world, "wf", OTHER).await;
    equal(&world, "wf", RUN).await;
    for cluster in [&world.west, &world.east] {
        assert_eq!(cluster.current("wf").await.as_deref(), Some(OTHER));
        let loser = cluster
            .read("wf", RUN, |run| {
                (run.is_running(), run.execution_info.status)
            })
            .await;
        assert_eq!(loser, Some((false, WorkflowExecutionStatus::Terminated)));
    }
    until("the signal reaches the run that stays", || async {
        signals(&world.west.history("wf", OTHER).await) == ["lost"]
    })
    .await;
    equal(&world, "wf", OTHER).await;
    drop(pulling);
}

#[tokio::test]
async fn chains_activities_and_deletes_cross_too() {
    let world = World::new(1, 1).await;
    let pulling = world.connect().await;
    world.west.start("wf", RUN).await;
    world.west.start_task("wf", RUN, 2).await;
    world
        .west
        .complete_task("wf", RUN, 3, vec![schedule_activity("a")])
        .await;
    equal(&world, "wf", RUN).await;

    // No event tells of a heartbeat.
    let activity = ActivityRef::Token {
        scheduled_event_id: 5.into(),
        attempt: 1,
    };
    let start = Request::StartActivity {
        scheduled_event_id: 5.into(),
        attempt: 1,
        request_id: "poll".to_owned(),
        identity: "worker".to_owned(),
    };
    world.west.ask(&key("wf", RUN), start).await;
    let details = Payloads {
        payloads: vec![Default::default()],
    };
    let heartbeat = Request::Heartbeat {
        activity,
        details: Some(details.clone()),
        identity: "worker".to_owned(),
    };
    world.west.ask(&key("wf", RUN), heartbeat).await;
    world.west.send_again("wf", RUN).await;
    until("the heartbeat is there", || async {
        let in_flight = |run: &MutableState| {
            let activity = &run.activities[&5.into()];
            (activity.is_started(), activity.heartbeat_details.clone())
        };
        world.east.read("wf", RUN, in_flight).await == Some((true, Some(details.clone())))
    })
    .await;

    // The run continues as another one, which comes with its end.
    world.west.signal("wf", RUN, "go").await;
    world.west.start_task("wf", RUN, 7).await;
    world
        .west
        .complete_task("wf", RUN, 8, vec![continue_as_new()])
        .await;
    let next = world.west.current("wf").await.unwrap();
    assert_ne!(next, RUN);
    equal(&world, "wf", RUN).await;
    equal(&world, "wf", &next).await;
    assert_eq!(world.east.current("wf").await, Some(next.clone()));

    world.west.delete("wf", RUN).await;
    until("the deleted run is gone", || async {
        world.east.read("wf", RUN, |_| ()).await.is_none()
    })
    .await;
    assert_eq!(world.east.current("wf").await, Some(next));
    drop(pulling);
}

#[tokio::test]
async fn a_closed_run_is_brought_by_force() {
    let world = World::new(1, 1).await;
    world.west.start("wf", RUN).await;
    let close = Request::Terminate {
        reason: "done".to_owned(),
        details: None,
        identity: "me".to_owned(),
        only_from_parent: None,
        first_execution_run_id: Default::default(),
        links: Vec::new(),
    };
    world.west.ask(&key("wf", RUN), close).await;
    world.west.forget_backlog("wf", "east/1").await;
    let pulling = world.connect().await;
    world.west.send_again("wf", RUN).await;
    equal(&world, "wf", RUN).await;
    assert_eq!(world.east.current("wf").await.as_deref(), Some(RUN));
    assert!(
        world
            .east
            .letters
            .read("west", 0, 10)
            .await
            .unwrap()
            .is_empty()
    );
    drop(pulling);
}

fn schedule_activity(id: &str) -> Command {
    Command {
        command_type: CommandType::ScheduleActivityTask as i32,
        attributes: Some(CommandAttributes::ScheduleActivityTaskCommandAttributes(
            ScheduleActivityTaskCommandAttributes {
                activity_id: id.to_owned(),
                activity_type: Some(ActivityType {
                    name: "type".to_owned(),
                }),
                task_queue: Some(TaskQueue {
                    name: "queue".to_owned(),
                    ..Default::default()
                }),
                start_to_close_timeout: Some(prost_types::Duration {
                    seconds: 60,
                    nanos: 0,
                }),
                heartbeat_timeout: Some(prost_types::Duration {
                    seconds: 30,
                    nanos: 0,
                }),
                ..Default::default()
            },
        )),
        ..Default::default()
    }
}

fn continue_as_new() -> Command {
    Command {
        command_type: CommandType::ContinueAsNewWorkflowExecution as i32,
        attributes: Some(
            CommandAttributes::ContinueAsNewWorkflowExecutionCommandAttributes(Default::default()),
        ),
        ..Default::default()
    }
}
