//! Dead letters as an operator's tools see them: this cluster's own tasks beside those of replication.

use cluster_shard::DlqEntry;
use proto_messages::temporal::server::api::{
    adminservice::v1::{
        DescribeDlqJobRequest, DescribeDlqJobResponse, GetDlqTasksRequest, ListQueuesRequest,
        MergeDlqTasksRequest, PurgeDlqTasksRequest,
    },
    common::v1::{HistoryDlqKey, HistoryDlqTaskMetadata},
};
use proto_services::temporal::server::api::adminservice::v1::admin_service_server::AdminService;
use tonic::{Code, Request};

use crate::world::{Cluster, World, key};

const RUN: &str = "11111111-0000-0000-0000-000000000001";
const TRANSFER: i32 = 1;
const REPLICATION: i32 = 3;

fn queue(task_category: i32, source: &str) -> Option<HistoryDlqKey> {
    Some(HistoryDlqKey {
        task_category,
        source_cluster: source.into(),
        target_cluster: String::new(),
    })
}

async fn unsent_rows(cluster: &Cluster) {
    let shard = cluster.shard("w").await;
    let entry = DlqEntry {
        shard: shard.id(),
        category: TRANSFER,
        kind: "RegenerateTasks".into(),
        run: key("w", RUN),
        cause: "it never worked".into(),
        time: proto_ids::Timestamp::from_millis(1_000),
        attempts: 3,
        ..DlqEntry::default()
    };
    cluster.tasks_aside.enqueue(&entry).await.unwrap();
}

async fn read(cluster: &Cluster) -> Vec<HistoryDlqTaskMetadata> {
    let request = GetDlqTasksRequest {
        dlq_key: queue(TRANSFER, ""),
        page_size: 10,
        ..Default::default()
    };
    let answer = cluster.letter_box.get_dlq_tasks(Request::new(request));
    let tasks = answer.await.unwrap().into_inner().dlq_tasks;
    tasks.into_iter().map(|t| t.metadata.unwrap()).collect()
}

async fn job(cluster: &Cluster, job_token: bytes::Bytes) -> DescribeDlqJobResponse {
    let request = Request::new(DescribeDlqJobRequest { job_token });
    let job = cluster.letter_box.describe_dlq_job(request).await;
    job.unwrap().into_inner()
}

/// Own tasks that were set aside are listed with what and why, retried at their shard, and purged by count.
#[tokio::test]
async fn tasks_that_were_set_aside_are_read_retried_and_purged() {
    let world = World::new(1, 1).await;
    let west = &world.west;
    west.start("w", RUN).await;
    unsent_rows(west).await;
    let found = read(west).await;
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].workflow_id.as_str(), found[0].run_id.as_str()),
        ("w", RUN)
    );
    assert_eq!(
        (found[0].cause.as_str(), found[0].attempts),
        ("it never worked", 3)
    );
    assert_eq!(found[0].time.as_ref().unwrap().seconds, 1);

    let lists = west
        .letter_box
        .list_queues(Request::new(ListQueuesRequest::default()));
    let lists = lists.await.unwrap().into_inner().queues;
    assert_eq!(lists.iter().map(|q| q.message_count).sum::<i64>(), 1);

    let request = MergeDlqTasksRequest {
        dlq_key: queue(TRANSFER, "west"),
        ..Default::default()
    };
    let merged = west.letter_box.merge_dlq_tasks(Request::new(request)).await;
    let merged = job(west, merged.unwrap().into_inner().job_token).await;
    assert_eq!(merged.messages_processed, 1);
    assert!(read(west).await.is_empty());

    unsent_rows(west).await;
    unsent_rows(west).await;
    let request = PurgeDlqTasksRequest {
        dlq_key: queue(TRANSFER, ""),
        ..Default::default()
    };
    let purged = west.letter_box.purge_dlq_tasks(Request::new(request)).await;
    let purged = job(west, purged.unwrap().into_inner().job_token).await;
    assert_eq!(purged.messages_processed, 2);
    assert!(read(west).await.is_empty());
}

/// A queue that cannot be there is an error; it would read as empty.
#[tokio::test]
async fn a_wrong_cluster_name_is_an_error() {
    let world = World::new(1, 1).await;
    let ask = async |dlq_key| {
        let request = GetDlqTasksRequest {
            dlq_key,
            page_size: 10,
            ..Default::default()
        };
        let letter_box = &world.west.letter_box;
        letter_box.get_dlq_tasks(Request::new(request)).await
    };
    assert!(ask(queue(REPLICATION, "east")).await.is_ok());
    let unknown = ask(queue(REPLICATION, "esat")).await.unwrap_err();
    assert_eq!(unknown.code(), Code::InvalidArgument);
    assert!(unknown.message().contains("esat"), "{}", unknown.message());
    let foreign = ask(queue(TRANSFER, "east")).await.unwrap_err();
    assert_eq!(foreign.code(), Code::InvalidArgument);
}
