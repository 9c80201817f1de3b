//! What another cluster lacks is found whatever the reason, and a planned failover waits for all of it.

use std::time::Duration;

use cluster_core::{MutableState, Request, Start, request::Signal};
use cluster_shard::{CurrentChange, Txn};
use namespaces::Namespace;
use proto_ids::RunKey;
use proto_messages::{
    meridian::replication::v1::{
        DeadLetter, FreezeNamespaceRequest, GetShardReplicationStatusRequest, run_difference::Kind,
    },
    temporal::{
        api::{
            common::v1::WorkflowType, taskqueue::v1::TaskQueue,
            workflowservice::v1::StartWorkflowExecutionRequest,
        },
        server::api::{persistence::v1::ReplicationTaskInfo, replication::v1::ReplicationTask},
    },
    time,
};
use replication::completeness::{self, ComparisonError};
use tokio::time::Instant;

use crate::world::{NAMESPACE, World, namespace, until};

const RUN: &str = "6a7e2b30-4c9c-4f6a-9a6c-d4c1a5b0e00";
const OTHERS: &str = "4a4c8d6e-90c2-4b61-8d3a-7d7f0c6b2a12";

fn run(n: usize) -> String {
    format!("{RUN}{n}")
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// As when the cluster was added late, the tasks were trimmed, or the other side lost its disk: all is acknowledged
/// and nothing is there.
#[tokio::test]
async fn what_was_never_sent_is_lacking_although_all_is_acknowledged() {
    let world = World::new(2, 1).await;
    for n in 0..4 {
        world.west.start(&format!("wf-{n}"), &run(n)).await;
        world
            .west
            .forget_backlog(&format!("wf-{n}"), "east/1")
            .await;
    }
    let pulling = world.connect().await;
    let mut check = world.check();
    check.all(|_| ()).await.unwrap();
    let found = check.findings();
    assert_eq!((found.checked_runs, found.lacking_runs), (4, 4));
    assert!(found.differences.iter().all(|d| d.kind() == Kind::Missing));
    assert!(!completeness::is_complete(&found));
    assert!(completeness::names(&found).starts_with("4 workflows (wf-0, wf-1, wf-2, wf-3"));

    // A cluster that has the beginning only lacks the rest.
    world.west.signal("wf-0", &run(0), "one").await;
    until("the first arrives", || async {
        world.east.read("wf-0", &run(0), |_| ()).await.is_some()
    })
    .await;
    assert_eq!(check.send_again(&"orders".into()).await, Ok(4));
    let mut check = world.check();
    check.all(|_| ()).await.unwrap();
    let found = check.findings();
    assert!(completeness::is_complete(&found), "{found:?}");
    drop(pulling);
}

/// A cluster that was taken out of a namespace and put in again lacks what was written meanwhile: nothing of it was ever
/// to be sent, so no acknowledgement tells.
#[tokio::test]
async fn what_was_written_while_a_cluster_was_out_of_the_namespace_is_lacking() {
    let world = World::new(1, 1).await;
    let pulling = world.connect().await;
    world.west.start("kept", &run(1)).await;
    until("the run arrives", || async {
        world.east.read("kept", &run(1), |_| ()).await.is_some()
    })
    .await;
    let alone = Namespace {
        clusters: vec!["west".into()],
        ..namespace("west", 1)
    };
    world.west.registry.set(vec![alone]);
    world.west.start("missed", &run(2)).await;
    world.west.signal("kept", &run(1), "missed").await;
    world.west.registry.set(vec![namespace("west", 1)]);
    let mut check = world.check();
    check.all(|_| ()).await.unwrap();
    let found = check.findings();
    assert_eq!((found.checked_runs, found.lacking_runs), (2, 2));
    assert!(!completeness::is_complete(&found));
    let names = completeness::names(&found);
    assert!(
        names.contains("kept") && names.contains("missed"),
        "{names}"
    );
    assert_eq!(check.send_again(&"orders".into()).await, Ok(2));
    let mut check = world.check();
    check.all(|_| ()).await.unwrap();
    let found = check.findings();
    assert!(completeness::is_complete(&found), "{found:?}");
    drop(pulling);
}

#[tokio::test]
async fn events_that_did_not_arrive_are_lacking() {
    let world = World::new(1, 1).await;
    let (west, east) = world.connect().await;
    world.west.start("wf", &run(1)).await;
    until("the run arrives", || async {
        world.east.read("wf", &run(1), |_| ()).await.is_some()
    })
    .await;
    east.stop().await;
    world.west.signal("wf", &run(1), "late").await;
    let mut check = world.check();
    check.all(|_| ()).await.unwrap();
    let found = check.findings();
    let first = &found.differences[0];
    assert_eq!(first.kind(), Kind::Behind);
    assert_eq!((first.first_event_id, first.next_event_id), (3, 4));
    drop(west);
}

/// "Started" is visible before it is stored; what cannot be read yet is no difference.
#[tokio::test]
async fn a_workflow_task_that_was_just_started_is_no_difference() {
    let world = World::new(1, 1).await;
    let pulling = world.connect().await;
    world.west.start("wf", &run(1)).await;
    for _ in 0..3 {
        world.west.start_task("wf", &run(1), 2).await;
        let mut check = world.check();
        check.all(|_| ()).await.unwrap();
        let found = check.findings();
        assert!(completeness::is_complete(&found), "{found:?}");
    }
    drop(pulling);
}

#[tokio::test]
async fn a_dead_letter_counts_as_lacking() {
    let world = World::new(1, 1).await;
    let raw = ReplicationTaskInfo {
        namespace_id: NAMESPACE.to_owned(),
        workflow_id: "wf".to_owned(),
        run_id: run(1),
        ..Default::default()
    };
    let letter = |namespace_id: &str| DeadLetter {
        source_cluster: "west".to_owned(),
        task: Some(ReplicationTask {
            raw_task_info: Some(ReplicationTaskInfo {
                namespace_id: namespace_id.to_owned(),
                ..raw.clone()
            }),
            ..Default::default()
        }),
        ..Default::default()
    };
    world.east.letters.put(&letter(OTHERS)).await.unwrap();
    let mut check = world.check();
    check.all(|_| ()).await.unwrap();
    assert!(completeness::is_complete(&check.findings()));

    world.east.letters.put(&letter(NAMESPACE)).await.unwrap();
    let mut check = world.check();
    check.all(|_| ()).await.unwrap();
    let found = check.findings();
    assert_eq!((found.dead_letters, found.lacking_runs), (1, 1));
}

#[tokio::test]
async fn a_peer_that_cannot_be_asked_makes_it_unknown() {
    let world = World::new(1, 1).await;
    world.east.registry.set(vec![]);
    let unknown = world.check().all(|_| ()).await.unwrap_err();
    assert!(
        matches!(unknown, ComparisonError::Unknown(_)),
        "{unknown:?}"
    );
}

/// A signal is acknowledged while a worker holds the workflow task: it is buffered, and no task sends it.
#[tokio::test]
async fn buffered_events_are_at_the_target_before_it_may_become_active() {
    let world = World::new(1, 1).await;
    let pulling = world.connect().await;
    world.west.start("wf", &run(1)).await;
    world.west.start_task("wf", &run(1), 2).await;
    let mut check = world.check();
    check.all(|_| ()).await.unwrap();
    world.west.signal("wf", &run(1), "buffered").await;
    check.catch_up().await.unwrap();
    world.hold().await;
    check.settle(soon()).await.unwrap();
    // From here on the source may die.
    let east = world.east.history("wf", &run(1)).await;
    let names: Vec<_> = crate::world::outline(&east)
        .into_iter()
        .map(|(_, _, name)| name)
        .collect();
    assert_eq!(
        names,
        [
            "WORKFLOW_EXECUTION_STARTED",
            "WORKFLOW_TASK_SCHEDULED",
            "WORKFLOW_TASK_STARTED",
            "WORKFLOW_TASK_FAILED",
            "WORKFLOW_EXECUTION_SIGNALED",
            "WORKFLOW_TASK_SCHEDULED"
        ]
    );
    drop(pulling);
}

/// Nothing sends it before the workflow task ends: without a switchover's hold it is lost with the source.
#[tokio::test]
async fn a_comparison_names_workflows_with_buffered_events() {
    let world = World::new(1, 1).await;
    let pulling = world.connect().await;
    world.west.start("wf", &run(1)).await;
    world.west.start_task("wf", &run(1), 2).await;
    world.west.signal("wf", &run(1), "buffered").await;
    let mut check = world.check();
    check.all(|_| ()).await.unwrap();
    let found = check.findings();
    assert_eq!((found.lacking_runs, found.buffered_runs), (0, 1));
    let told = &found.differences[0];
    assert_eq!(told.execution.as_ref().unwrap().workflow_id, "wf");
    assert_eq!(told.kind(), Kind::Buffered);
    // A switchover gives it a place in history first, so it does not stand in its way.
    assert!(completeness::is_complete(&found));
    drop(pulling);
}

#[tokio::test]
async fn a_hold_ends_in_vain_when_the_target_does_not_get_everything() {
    let world = World::new(1, 1).await;
    let (west, east) = world.connect().await;
    world.west.start("wf", &run(1)).await;
    let mut check = world.check();
    check.all(|_| ()).await.unwrap();
    east.stop().await;
    world.west.signal("wf", &run(1), "late").await;
    world.hold().await;
    let until = Instant::now() + Duration::from_secs(2);
    let refused = check.settle(until).await.unwrap_err();
    assert!(refused.to_string().contains("wf"), "{refused}");
    drop(west);
}

/// Buffered events cost the workflow task in flight, so they are flushed under a hold only; and no shard is
/// frozen of a namespace that is not held.
#[tokio::test]
async fn what_belongs_to_a_hold_needs_one() {
    let world = World::new(1, 1).await;
    let request = FreezeNamespaceRequest {
        shard_id: 1,
        namespace_id: NAMESPACE.to_owned(),
        hold: Some(time::duration_to_proto(Duration::from_secs(60))),
        probe: false,
    };
    let refused = world.west.client.freeze_namespace(request).await;
    assert_eq!(refused.unwrap_err().code(), tonic::Code::FailedPrecondition);
    world.west.start("wf", &run(1)).await;
    let request = proto_messages::meridian::replication::v1::FlushBufferedEventsRequest {
        shard_id: 1,
        namespace_id: NAMESPACE.to_owned(),
        executions: vec![],
    };
    let refused = world.west.client.flush_buffered_events(request).await;
    assert_eq!(refused.unwrap_err().code(), tonic::Code::FailedPrecondition);
}

/// Much is written that the target does not need; what it needs comes after.
#[tokio::test]
async fn tasks_of_other_namespaces_hide_nothing() {
    let world = World::new(1, 1).await;
    let others = Namespace {
        id: OTHERS.into(),
        name: "others".into(),
        clusters: vec!["west".into(), "north".into()],
        ..namespace("west", 1)
    };
    world.west.registry.set(vec![namespace("west", 1), others]);
    world.west.start("first", &run(1)).await;
    world.west.forget_backlog("first", "east/1").await;
    let key = RunKey::new(OTHERS, "o", run(3).as_str());
    let shard = world.west.shard("o").await;
    let request = StartWorkflowExecutionRequest {
        workflow_id: "o".into(),
        workflow_type: Some(WorkflowType { name: "t".into() }),
        task_queue: Some(TaskQueue {
            name: "q".into(),
            ..Default::default()
        }),
        request_id: "x".into(),
        ..Default::default()
    };
    let started = shard
        .transact(
            &key.namespace_id,
            &key.workflow_id,
            async |txn: &mut Txn| {
                let context = txn.decision_context();
                let start = Start {
                    key: key.clone(),
                    request: Box::new(request),
                    ..Default::default()
                };
                let (run, transition) = MutableState::start(start, &context.borrowed())
                    .map_err(|r| format!("{r:?}"))?;
                txn.insert(
                    run,
                    transition.events,
                    transition.tasks,
                    CurrentChange::Become,
                )
                .map_err(|e| e.to_string())
            },
        )
        .await;
    started.unwrap();
    for n in 0..1_050 {
        let signal = Signal {
            name: n.to_string(),
            ..Default::default()
        };
        let request = Request::Signal {
            signal,
            only_from_parent: None,
        };
        let signaled = shard.update(&key, |run, ctx| Ok((run.handle(request, ctx)?, ())));
        signaled.await.unwrap();
    }
    world.west.start("needed", &run(2)).await;
    let request = GetShardReplicationStatusRequest {
        shard_ids: vec![],
        remote_clusters: vec!["east".into()],
    };
    let status = world
        .west
        .client
        .get_shard_replication_status(request)
        .await;
    let (shard, remote) = (&status.shards[0], &status.shards[0].remotes[0]);
    assert!(remote.acked_task_id < shard.max_task_id);
    let ours = status
        .namespaces
        .iter()
        .find(|n| n.namespace_id == NAMESPACE);
    assert_eq!(
        ours.map(|n| (n.pending_tasks, n.at_least)),
        Some((1, false))
    );
    assert_eq!(status.namespaces.len(), 1, "{:?}", status.namespaces);
}
