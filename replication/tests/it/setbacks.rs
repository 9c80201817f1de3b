//! One bad thing stops nothing else, is not forgotten, and is told: rows that cannot be sent, and tasks that
//! their sender may not send.

use proto_messages::{
    Wire,
    meridian::replication::v1::{
        ApplyRequest, GetShardReplicationStatusRequest, Outcome, RemoteStatus,
    },
    temporal::{
        api::{
            common::v1::DataBlob,
            enums::v1::{EncodingType, EventType},
            history::v1::{History, HistoryEvent},
        },
        server::api::{
            adminservice::v1::{
                AddTasksRequest, GetDlqTasksRequest, GetShardRequest, add_tasks_request,
            },
            enums::v1::{ReplicationTaskType, TaskType},
            history::v1::VersionHistoryItem,
            persistence::v1::ReplicationTaskInfo,
            replication::v1::{
                HistoryTaskAttributes, ReplicationTask, replication_task::Attributes,
            },
        },
    },
};
use tonic::Code;

use crate::world::{Cluster, NAMESPACE, World, namespace, until};

const RUN: &str = "0b7e2b30-4c9c-4f6a-9a6c-d4c1a5b0e001";

/// How east stands with the shard of a workflow.
async fn stands(west: &Cluster, workflow: &str) -> RemoteStatus {
    let shard = west.shard(workflow).await.id().get();
    let request = GetShardReplicationStatusRequest {
        shard_ids: vec![shard],
        remote_clusters: vec!["east".to_owned()],
    };
    let mut status = west.client.get_shard_replication_status(request).await;
    status.shards.remove(0).remotes.remove(0)
}

/// Puts a row into the queue of which nothing can be made: the run has no such event.
async fn add_unsendable(west: &Cluster, workflow: &str) {
    let raw = ReplicationTaskInfo {
        namespace_id: NAMESPACE.to_owned(),
        workflow_id: workflow.to_owned(),
        run_id: RUN.to_owned(),
        task_type: TaskType::ReplicationHistory as i32,
        version: 1,
        first_event_id: 900,
        next_event_id: 901,
        ..Default::default()
    };
    let task = add_tasks_request::Task {
        category_id: replication::dead_letters::CATEGORY,
        blob: Some(DataBlob {
            encoding_type: EncodingType::Proto3 as i32,
            data: raw.to_wire(),
        }),
    };
    let request = AddTasksRequest {
        shard_id: west.shard(workflow).await.id().get(),
        tasks: vec![task],
    };
    west.client.add_tasks(request).await.unwrap();
}

#[tokio::test]
async fn a_row_that_cannot_be_sent_is_set_aside_and_the_rest_flows() {
    let world = World::new(1, 1).await;
    let pulling = world.connect().await;
    world.west.start("wf", RUN).await;
    // Nobody set anything aside or looked yet, and all the same it is known.
    assert_eq!(stands(&world.west, "wf").await.set_aside_tasks, 0);
    add_unsendable(&world.west, "wf").await;
    world.west.signal("wf", RUN, "after it").await;
    let wanted = world.west.history("wf", RUN).await.len();
    until("the rest is there", || async {
        world.east.read("wf", RUN, |_| ()).await.is_some()
            && world.east.history("wf", RUN).await.len() == wanted
    })
    .await;
    let unsent_rows = world.west.letters.towards("east".into());
    let letters = unsent_rows.read("west", 0, 10).await.unwrap();
    assert_eq!(letters.len(), 1);
    let letter = &letters[0].letter;
    assert!(letter.reason.contains("900"), "{}", letter.reason);
    let raw = letter.task.as_ref().unwrap().raw_task_info.as_ref();
    assert_eq!(raw.unwrap().workflow_id, "wf");
    // What is listed tells its kind, although it never became a message.
    let request = GetDlqTasksRequest {
        page_size: 10,
        ..Default::default()
    };
    let listed = unsent_rows.get_tasks("west", &request).await.unwrap();
    let told = listed.dlq_tasks[0].metadata.as_ref().unwrap();
    assert_eq!(
        (told.kind.as_str(), told.workflow_id.as_str()),
        ("replication_history", "wf")
    );
    let by_source = world.west.letters.from("west").await.unwrap();
    assert_eq!(by_source.read("west", 0, 10).await.unwrap().len(), 1);
    let status = stands(&world.west, "wf").await;
    assert_eq!(status.set_aside_tasks, 1);
    let counted = world.west.letters.count().await.unwrap().unwrap();
    assert_eq!(counted.len(), 1);
    assert_eq!(
        (counted[0].target_cluster.as_str(), counted[0].count),
        ("east", 1)
    );

    // Sending it again is refused again, and it stays.
    let replayed = unsent_rows
        .replay("west", 0, i64::MAX, &world.west.client)
        .await;
    assert_eq!(replayed.unwrap().done, 1, "the row is in the stream again");
    until("it is set aside again", || async {
        unsent_rows.read("west", 0, 10).await.unwrap().len() == 1
    })
    .await;
    drop(pulling);
}

/// A run that cannot be read at its source is set aside by its stream, told of as lacking, and sent once it can be read.
#[tokio::test]
async fn a_run_that_cannot_be_read_at_its_source_stops_no_other() {
    const OTHER: &str = "0b7e2b30-4c9c-4f6a-9a6c-d4c1a5b0e002";
    let world = World::new(1, 1).await;
    world.west.start("bad", RUN).await;
    world.west.start("good", OTHER).await;
    world.west.corrupt("bad").await;
    let pulling = world.connect().await;
    world.west.signal("good", OTHER, "behind it").await;
    let wanted = world.west.history("good", OTHER).await.len();
    until("the other run is there", || async {
        world.east.read("good", OTHER, |_| ()).await.is_some()
            && world.east.history("good", OTHER).await.len() == wanted
    })
    .await;
    let aside = world.west.letters.towards("east".into());
    let letters = aside.read("west", 0, 10).await.unwrap();
    assert!(!letters.is_empty());
    for letter in &letters {
        let raw = letter.letter.task.as_ref().unwrap().raw_task_info.as_ref();
        assert_eq!(raw.unwrap().workflow_id, "bad");
        assert!(letter.letter.reason.contains("cannot be read"));
    }
    until("the position goes on", || async {
        let shard = world.west.shard("bad").await;
        let end = *shard.replication_watermark().borrow();
        let status = stands(&world.west, "bad").await;
        status.acked_task_id >= end.get() - 1 && status.set_aside_tasks > 0
    })
    .await;
    let mut check = world.check();
    check.all(|_| ()).await.unwrap();
    let found = check.findings();
    assert_eq!(found.lacking_runs, 1);
    let named = found.differences[0].execution.as_ref().unwrap();
    assert_eq!(named.workflow_id, "bad");

    *world.west.faults.corrupt.lock() = None;
    let replayed = aside.replay("west", 0, i64::MAX, &world.west.client).await;
    assert!(replayed.unwrap().failed.is_empty());
    until("it is there, too", || async {
        world.east.read("bad", RUN, |_| ()).await.is_some()
    })
    .await;
    assert!(aside.read("west", 0, 10).await.unwrap().is_empty());
    drop(pulling);
}

#[tokio::test]
async fn a_reader_is_told_by_its_store_and_one_that_never_came_is_told_too() {
    let world = World::new(1, 2).await;
    world.west.start("wf", RUN).await;
    let status = stands(&world.west, "wf").await;
    assert!(!status.ever_connected && status.incarnation.is_empty());
    assert_eq!(status.acked_task_id, 0, "nothing is acknowledged");
    let pulling = world.connect().await;
    let status = stands(&world.west, "wf").await;
    assert!(status.ever_connected && !status.came_back_empty);
    assert_eq!(status.incarnation, "store-of-east");
    assert_eq!(status.complete_since_task_id, 0);
    drop(pulling);
}

/// A task of one event, as a peer may forge it.
fn forged(namespace_id: &str, version: i64) -> ApplyRequest {
    let event = HistoryEvent {
        event_id: 1,
        version,
        event_type: EventType::WorkflowExecutionStarted as i32,
        ..Default::default()
    };
    let events = History {
        events: vec![event],
    };
    let attributes = HistoryTaskAttributes {
        namespace_id: namespace_id.to_owned(),
        workflow_id: "forged".to_owned(),
        run_id: RUN.to_owned(),
        version_history_items: vec![VersionHistoryItem {
            event_id: 1,
            version,
        }],
        events: Some(DataBlob {
            encoding_type: EncodingType::Proto3 as i32,
            data: events.to_wire(),
        }),
        ..Default::default()
    };
    ApplyRequest {
        shard_id: 1,
        source_cluster: "west".to_owned(),
        source_shard_id: 1,
        task: Some(ReplicationTask {
            task_type: ReplicationTaskType::HistoryV2Task as i32,
            source_task_id: 1,
            attributes: Some(Attributes::HistoryTaskAttributes(attributes)),
            ..Default::default()
        }),
        replay: false,
    }
}

#[tokio::test]
async fn a_peer_writes_only_to_namespaces_that_it_shares() {
    let world = World::new(1, 1).await;
    let east = &world.east;
    let local = namespaces::Namespace {
        is_global: false,
        clusters: vec!["east".into()],
        active_cluster: "east".into(),
        failover_version: 0.into(),
        ..namespace("east", 0)
    };
    east.registry.set(vec![local]);
    let skipped = east.client.apply(forged(NAMESPACE, 0)).await.unwrap();
    assert_eq!(skipped.outcome(), Outcome::Skipped, "{}", skipped.detail);

    let system = namespaces::SYSTEM_NAMESPACE_ID;
    let skipped = east.client.apply(forged(system, 1)).await.unwrap();
    assert_eq!(skipped.outcome(), Outcome::Skipped, "{}", skipped.detail);

    let of_others = namespaces::Namespace {
        clusters: vec!["north".into(), "east".into()],
        ..namespace("east", 2)
    };
    east.registry.set(vec![of_others]);
    let refused = east.client.apply(forged(NAMESPACE, 1)).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    assert!(east.read("forged", RUN, |_| ()).await.is_none());
}

#[tokio::test]
async fn numbers_that_no_version_or_event_has_are_refused() {
    let world = World::new(1, 1).await;
    for version in [-1, i64::MIN] {
        let refused = world.east.client.apply(forged(NAMESPACE, version)).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    }
    // What is to come is asked for, and nobody has it.
    let refused = world.east.client.apply(forged(NAMESPACE, i64::MAX)).await;
    assert!(refused.is_err());
    assert!(world.east.read("forged", RUN, |_| ()).await.is_none());
}

#[tokio::test]
async fn a_shard_that_there_is_not_is_the_callers_mistake() {
    let world = World::new(1, 1).await;
    for shard_id in [-1, 0, 2, i32::MAX] {
        let asked = world.west.client.get_shard(GetShardRequest { shard_id });
        let refused = asked.await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    }
    assert!(
        world
            .west
            .client
            .get_shard(GetShardRequest { shard_id: 1 })
            .await
            .is_ok()
    );
}
