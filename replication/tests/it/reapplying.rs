//! What was acknowledged on the losing side of a conflict: it holds on the winning side, once.

use cluster_core::{EventBatch, MutableState, NonHistoryState, Request, Reset, request::Signal};
use cluster_shard::{CurrentChange, ShardError, Txn, TxnError};
use proto_messages::{
    Wire,
    meridian::replication::v1::GetShardReplicationStatusRequest,
    temporal::{
        api::{
            command::v1::{
                Command, CompleteWorkflowExecutionCommandAttributes, command::Attributes as Wish,
            },
            common::v1::DataBlob,
            enums::v1::{CommandType, WorkflowExecutionStatus},
            history::v1::{HistoryEvent, history_event::Attributes},
        },
        server::api::{
            adminservice::v1::{AddTasksRequest, add_tasks_request},
            enums::v1::TaskType,
            persistence::v1::ReplicationTaskInfo,
        },
    },
};

use crate::world::{Cluster, NAMESPACE, Pulling, World, key, namespace, outline, until};

const RUN: &str = "2f7e2b30-4c9c-4f6a-9a6c-d4c1a5b0e001";
const OTHER: &str = "2f7e2b30-4c9c-4f6a-9a6c-d4c1a5b0e002";

/// One run that both clusters have; then they are apart, and east takes over without west's knowing.
async fn apart() -> World {
    let world = World::new(1, 1).await;
    let (west, east) = world.connect().await;
    world.west.start("wf", RUN).await;
    until("east has the run", || async {
        world.east.read("wf", RUN, |_| ()).await.is_some()
    })
    .await;
    west.stop().await;
    east.stop().await;
    world.east.registry.set(vec![namespace("east", 2)]);
    world
}

/// East writes on; then the two meet again.
async fn meet(world: &World) -> (Pulling, Pulling) {
    world.east.signal("wf", RUN, "east").await;
    world.fail_over("east", 2);
    world.connect().await
}

fn terminate(identity: &str) -> Request {
    Request::Terminate {
        reason: "stop it".to_owned(),
        details: None,
        identity: identity.to_owned(),
        only_from_parent: None,
        first_execution_run_id: Default::default(),
        links: Vec::new(),
    }
}

fn cancel(request_id: &str) -> Request {
    Request::Cancel {
        reason: "no more".to_owned(),
        identity: "operator".to_owned(),
        request_id: request_id.to_owned(),
        external: None,
        child_only: false,
        links: Vec::new(),
    }
}

async fn branches(cluster: &Cluster) -> usize {
    let count = |run: &MutableState| run.versions.histories.len();
    cluster.read("wf", RUN, count).await.unwrap_or(0)
}

async fn status(cluster: &Cluster, run: &str) -> Option<WorkflowExecutionStatus> {
    cluster
        .read("wf", run, |run| run.execution_info.status)
        .await
}

async fn both_end_alike(world: &World, run: &str) {
    until("the histories are alike", || async {
        let (west, east) = (
            world.west.history("wf", run).await,
            world.east.history("wf", run).await,
        );
        outline(&west) == outline(&east)
    })
    .await;
}

fn count(events: &[HistoryEvent], wanted: impl Fn(&Attributes) -> bool) -> usize {
    let found = events.iter().filter_map(|e| e.attributes.as_ref());
    found.filter(|attributes| wanted(attributes)).count()
}

#[tokio::test]
async fn an_operators_termination_on_the_losing_side_holds() {
    let world = apart().await;
    world.west.ask(&key("wf", RUN), terminate("operator")).await;
    let _pulling = meet(&world).await;
    until("the run is terminated in east", || async {
        status(&world.east, RUN).await == Some(WorkflowExecutionStatus::Terminated)
    })
    .await;
    let last = world.east.history("wf", RUN).await.pop().unwrap();
    assert_eq!(last.version, 2, "it is a write of the winner");
    let Some(Attributes::WorkflowExecutionTerminatedEventAttributes(a)) = last.attributes else {
        panic!("{last:?}");
    };
    assert_eq!(
        (a.identity.as_str(), a.reason.as_str()),
        ("operator", "stop it")
    );
    both_end_alike(&world, RUN).await;
}

#[tokio::test]
async fn a_termination_that_the_server_decided_on_does_not_outlive_its_branch() {
    for identity in ["history-service", "history-resetter"] {
        let world = apart().await;
        world.west.signal("wf", RUN, "west").await;
        world.west.ask(&key("wf", RUN), terminate(identity)).await;
        let _pulling = meet(&world).await;
        // The signal came before it, so what had to be delivered has been.
        until("east has the losing branch and its signal", || async {
            let signals = world
                .east
                .read("wf", RUN, |run| run.execution_info.signal_count)
                .await;
            branches(&world.east).await == 2 && signals == Some(2)
        })
        .await;
        both_end_alike(&world, RUN).await;
        assert_eq!(
            status(&world.east, RUN).await,
            Some(WorkflowExecutionStatus::Running),
            "{identity}"
        );
    }
}

#[tokio::test]
async fn a_cancel_request_on_the_losing_side_holds_whoever_asked() {
    let world = apart().await;
    world.west.ask(&key("wf", RUN), cancel("c")).await;
    let _pulling = meet(&world).await;
    let is_cancel = |a: &Attributes| {
        matches!(
            a,
            Attributes::WorkflowExecutionCancelRequestedEventAttributes(_)
        )
    };
    until("east's run is asked to cancel", || async {
        count(&world.east.history("wf", RUN).await, is_cancel) == 1
    })
    .await;
    both_end_alike(&world, RUN).await;
}

#[tokio::test]
async fn what_the_active_side_loses_itself_it_delivers_to_itself() {
    let world = apart().await;
    world.west.signal("wf", RUN, "west").await;
    world.east.signal("wf", RUN, "east").await;
    // The namespace comes back before west has heard a word of what east wrote.
    world.fail_over("west", 11);
    let _pulling = world.connect().await;
    for cluster in [&world.west, &world.east] {
        until("both signals are there once", || async {
            let is_signal = |a: &Attributes| {
                matches!(a, Attributes::WorkflowExecutionSignaledEventAttributes(_))
            };
            count(&cluster.history("wf", RUN).await, is_signal) == 2
        })
        .await;
    }
    both_end_alike(&world, RUN).await;
    let versions: Vec<_> = world.west.history("wf", RUN).await;
    assert_eq!(versions.last().map(|e| e.version), Some(11));
}

/// Sends a batch of west's once more, as after an acknowledgement that was lost.
async fn send_batch_again(world: &World, run: &str, first: i64, next: i64) {
    let raw = ReplicationTaskInfo {
        namespace_id: NAMESPACE.into(),
        workflow_id: "wf".into(),
        run_id: run.into(),
        task_type: TaskType::ReplicationHistory as i32,
        version: 1,
        first_event_id: first,
        next_event_id: next,
        ..Default::default()
    };
    let task = add_tasks_request::Task {
        category_id: 3,
        blob: Some(DataBlob {
            encoding_type: 1,
            data: raw.to_wire(),
        }),
    };
    let request = AddTasksRequest {
        shard_id: 1,
        tasks: vec![task],
    };
    let request = tonic::Request::new(request);
    world.west.client.add_tasks(request).await.unwrap();
}

/// Ends the current run in a cluster and starts another one under its id.
async fn end_and_go_on(cluster: &Cluster) {
    complete(cluster).await;
    cluster.start("wf", OTHER).await;
}

/// A worker completes the run.
async fn complete(cluster: &Cluster) {
    let task = |run: &MutableState| run.execution_info.workflow_task.clone().unwrap();
    let scheduled = cluster.read("wf", RUN, task).await.unwrap();
    cluster
        .start_task("wf", RUN, scheduled.scheduled_event_id.get())
        .await;
    let started = cluster.read("wf", RUN, task).await.unwrap();
    let complete = Command {
        command_type: CommandType::CompleteWorkflowExecution.into(),
        attributes: Some(Wish::CompleteWorkflowExecutionCommandAttributes(
            CompleteWorkflowExecutionCommandAttributes::default(),
        )),
        ..Default::default()
    };
    let request = Request::CompleteWorkflowTask {
        scheduled_event_id: started.scheduled_event_id,
        started_event_id: started.started_event_id,
        attempt: 1,
        request: Box::new(
            proto_messages::temporal::api::workflowservice::v1::RespondWorkflowTaskCompletedRequest {
                commands: vec![complete],
                ..Default::default()
            },
        ),
        queries_pending: false,
    };
    cluster.ask(&key("wf", RUN), request).await;
}

#[tokio::test]
async fn a_run_that_closed_over_a_losing_signal_goes_on_and_gets_it() {
    let world = apart().await;
    world.west.signal("wf", RUN, "pay").await;
    complete(&world.east).await;
    world.fail_over("east", 2);
    let _pulling = world.connect().await;
    until("another run has the signal", || async {
        match world.east.current("wf").await {
            Some(run) if run != RUN => {
                let signals = world
                    .east
                    .read("wf", &run, |run| run.execution_info.signal_count)
                    .await;
                signals == Some(1)
            }
            _ => false,
        }
    })
    .await;
    let run = world.east.current("wf").await.unwrap();
    until("west follows", || async {
        world.west.current("wf").await.as_ref() == Some(&run)
    })
    .await;
    both_end_alike(&world, &run).await;
    both_end_alike(&world, RUN).await;
}

#[tokio::test]
async fn a_run_that_an_operator_ended_stays_ended_whatever_the_losing_side_had() {
    let world = apart().await;
    world.west.signal("wf", RUN, "pay").await;
    world.east.ask(&key("wf", RUN), terminate("operator")).await;
    world.fail_over("east", 2);
    let _pulling = world.connect().await;
    until("east has the losing branch", || async {
        branches(&world.east).await == 2
    })
    .await;
    both_end_alike(&world, RUN).await;
    assert_eq!(world.east.current("wf").await.as_deref(), Some(RUN));
}

#[tokio::test]
async fn a_losing_signal_is_delivered_once_even_after_its_run_ended() {
    let world = apart().await;
    world.west.signal("wf", RUN, "pay").await;
    let _pulling = meet(&world).await;
    until("it is delivered", || async {
        world
            .east
            .read("wf", RUN, |run| run.execution_info.signal_count)
            .await
            == Some(2)
    })
    .await;
    end_and_go_on(&world.east).await;
    until("west has the new run", || async {
        world.west.read("wf", OTHER, |_| ()).await.is_some()
    })
    .await;
    send_batch_again(&world, RUN, 3, 4).await;
    until("east has done all that west sent", || async {
        let asked = GetShardReplicationStatusRequest {
            shard_ids: Vec::new(),
            remote_clusters: vec!["east".to_owned()],
        };
        let status = world.west.client.get_shard_replication_status(asked).await;
        let shard = &status.shards[0];
        let acked = shard.remotes.iter().map(|remote| remote.acked_task_id);
        acked.min().is_some_and(|acked| acked >= shard.max_task_id)
    })
    .await;
    for cluster in [&world.west, &world.east] {
        let signals = cluster
            .read("wf", OTHER, |run| run.execution_info.signal_count)
            .await;
        assert_eq!(signals, Some(0), "the signal is delivered to both runs");
    }
}

#[tokio::test]
async fn what_was_delivered_is_known_after_the_next_failover_too() {
    let world = apart().await;
    world.west.signal("wf", RUN, "pay").await;
    let _pulling = meet(&world).await;
    until("both know of the delivery", || async {
        let known = |run: &MutableState| run.execution_info.reapplied.contains(&(RUN.into(), 3, 1));
        world.east.read("wf", RUN, known).await == Some(true)
            && world.west.read("wf", RUN, known).await == Some(true)
    })
    .await;
    both_end_alike(&world, RUN).await;
}

#[tokio::test]
async fn an_id_used_again_after_the_clock_went_back_is_the_current_run_everywhere() {
    let world = World::new(1, 1).await;
    let _pulling = world.connect().await;
    world.west.skew(3_000);
    world.west.start("wf", RUN).await;
    end_and_go_on_at_once(&world.west).await;
    until("the second run is in east", || async {
        world.east.read("wf", OTHER, |_| ()).await.is_some()
    })
    .await;
    until("east follows", || async {
        world.east.current("wf").await.as_deref() == Some(OTHER)
    })
    .await;
    let zombie = world
        .east
        .read("wf", OTHER, |run| run.execution_info.zombie)
        .await;
    assert_eq!(zombie, Some(false));
    world.fail_over("east", 2);
    world.east.signal("wf", OTHER, "there").await;
    both_end_alike(&world, OTHER).await;
}

async fn end_and_go_on_at_once(cluster: &Cluster) {
    let end = terminate("operator");
    cluster.ask(&key("wf", RUN), end).await;
    cluster.skew(0);
    cluster.start("wf", OTHER).await;
}

#[tokio::test]
async fn a_request_repeated_after_a_failover_is_known_there() {
    let world = World::new(1, 1).await;
    let _pulling = world.connect().await;
    world.west.start("wf", RUN).await;
    let signal = Request::Signal {
        signal: Signal {
            name: "pay".to_owned(),
            request_id: "s".to_owned(),
            ..Signal::default()
        },
        only_from_parent: None,
    };
    world.west.ask(&key("wf", RUN), signal.clone()).await;
    world.west.ask(&key("wf", RUN), cancel("c")).await;
    both_end_alike(&world, RUN).await;
    world.fail_over("east", 2);
    let before = world.east.history("wf", RUN).await.len();
    let current = world.east.record("wf").await.unwrap();
    assert_eq!(current.request_id, RUN, "the start's own request id");
    world.east.ask(&key("wf", RUN), signal).await;
    world.east.ask(&key("wf", RUN), cancel("c")).await;
    let known = |run: &MutableState| {
        (
            run.execution_info.signal_count,
            run.execution_info.cancel_request.clone(),
        )
    };
    assert_eq!(
        world.east.read("wf", RUN, known).await,
        Some((1, Some("c".to_owned())))
    );
    assert_eq!(world.east.history("wf", RUN).await.len(), before);
}

#[tokio::test]
async fn request_ids_come_with_what_is_fetched_as_well() {
    let world = World::new(1, 1).await;
    world.west.start("wf", RUN).await;
    world.west.ask(&key("wf", RUN), cancel("c")).await;
    world.west.forget_backlog("wf", "east/1").await;
    let _pulling = world.connect().await;
    world.west.send_again("wf", RUN).await;
    both_end_alike_when_there(&world, RUN).await;
    let known = |run: &MutableState| {
        (
            run.start.request_id.clone(),
            run.execution_info.cancel_request.clone(),
        )
    };
    let east = world.east.read("wf", RUN, known).await.unwrap();
    assert_eq!(east, (RUN.to_owned(), Some("c".to_owned())));
}

async fn both_end_alike_when_there(world: &World, run: &str) {
    until("east has it", || async {
        world.east.read("wf", run, |_| ()).await.is_some()
    })
    .await;
    both_end_alike(world, run).await;
}

#[test]
fn non_history_state_changes_only_what_was_not_known() {
    let mut run = MutableState::default();
    run.start.request_id = "known".into();
    run.execution_info.cancel_request = Some(String::new());
    let non_history = NonHistoryState {
        create_request_id: "other".into(),
        cancel_request_id: "c".into(),
        ..NonHistoryState::default()
    };
    assert!(run.sync_non_history(non_history.clone()).is_some());
    assert!(run.sync_non_history(non_history).is_none());
    assert_eq!(run.start.request_id, "known");
    assert_eq!(run.execution_info.cancel_request.as_deref(), Some("c"));
}

/// Resets the run in a cluster to its first workflow task, as the history service does it.
async fn reset(cluster: &Cluster, new_run: &str) {
    let events = cluster.history("wf", RUN).await;
    let (kept, later): (Vec<_>, Vec<_>) = events.into_iter().partition(|e| e.event_id < 3);
    let key = key("wf", RUN);
    let shard = cluster.shard("wf").await;
    let made = shard
        .transact(
            &key.namespace_id,
            &key.workflow_id,
            async |txn: &mut Txn| {
                let ask = Reset {
                    new_run_id: new_run.into(),
                    finish_event_id: 3.into(),
                    request_id: "reset".to_owned(),
                    ..Reset::default()
                };
                let (ending, context) = (txn.decision_context(), txn.decision_context());
                let base = txn.run(&key.run_id).await.unwrap().unwrap();
                let kept = vec![EventBatch { events: kept }];
                let new =
                    MutableState::reset(base, kept, later, &ask, &context.borrowed()).unwrap();
                base.execution_info.reset_run_id = new_run.into();
                let end = terminate("history-resetter");
                let ended = base.handle(end, &ending.borrowed()).unwrap();
                txn.put(&key.run_id, ended)?;
                txn.insert(
                    new.mutable_state,
                    new.events,
                    new.tasks,
                    CurrentChange::Become,
                )
            },
        )
        .await;
    made.unwrap_or_else(|error: TxnError<ShardError>| panic!("{error:?}"));
}

#[tokio::test]
async fn a_reset_is_told_to_the_other_cluster() {
    // An id that sorts before the first run's, so that the order of ids does not help.
    let new_run = "1f7e2b30-4c9c-4f6a-9a6c-d4c1a5b0e001";
    let world = World::new(1, 1).await;
    let _pulling = world.connect().await;
    world.west.start("wf", RUN).await;
    world.west.signal("wf", RUN, "kept").await;
    both_end_alike_when_there(&world, RUN).await;
    reset(&world.west, new_run).await;
    both_end_alike_when_there(&world, new_run).await;
    until("east follows", || async {
        world.east.current("wf").await.as_deref() == Some(new_run)
    })
    .await;
    let told = |run: &MutableState| (run.execution_info.zombie, run.start.request_id.clone());
    assert_eq!(
        world.east.read("wf", new_run, told).await,
        Some((false, "reset".to_owned()))
    );
    until("east knows what took the old run's place", || async {
        let named = |run: &MutableState| run.execution_info.reset_run_id.to_string();
        world.east.read("wf", RUN, named).await.as_deref() == Some(new_run)
    })
    .await;
    // The signal is in the new run's history; nobody delivers it once more.
    let signals = world
        .east
        .read("wf", new_run, |run| run.execution_info.signal_count)
        .await;
    assert_eq!(signals, Some(1));
    both_end_alike(&world, RUN).await;
}
