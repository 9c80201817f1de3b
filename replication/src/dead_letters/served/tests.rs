use ::namespaces::{Clusters, ManagerOptions, Registry, rules::OwnCluster};
use cluster_runtime::{Settings, SystemClock, Tasks};
use proto_messages::temporal::server::api::replication::v1::replication_task::Attributes;
use proto_messages::{
    meridian::replication::v1::DeadLetter,
    temporal::server::api::replication::v1::NamespaceTaskAttributes,
};
use schema_store::memory::MemoryStore;
use tonic::Code;

use super::*;

async fn service() -> DeadLetterService {
    let store = MemoryStore::new().store();
    let (tasks, settings) = (Tasks::new("letters"), Settings::new());
    let own = OwnCluster {
        name: "west".into(),
        initial_failover_version: 1,
        failover_version_increment: 10,
        shard_count: 1,
        address: "west:1".into(),
        is_global_namespace_enabled: true,
        ..Default::default()
    };
    let clusters = Clusters::start(&own, store.cluster.clone(), settings.clone(), &tasks);
    let clusters = clusters.await.unwrap();
    let registry = Registry::start(store.namespace.clone(), settings, &tasks)
        .await
        .unwrap();
    let options = ManagerOptions {
        master_cluster: "west".into(),
    };
    let clock = SystemClock::shared();
    let manager = Manager::new(
        options,
        store.namespace.clone(),
        registry,
        clusters,
        clock.clone(),
    );
    let letters = DeadLetters::new(store.queue.clone(), "west".into());
    let replication = ReplicationClient::local(1);
    DeadLetterService::new(letters, store.queue, manager, replication, clock)
}

fn letter(task_id: i64) -> DeadLetter {
    DeadLetter {
        source_cluster: "east".into(),
        shard_id: 1,
        task: Some(ReplicationTask {
            source_task_id: task_id,
            ..Default::default()
        }),
        ..Default::default()
    }
}

#[tokio::test]
async fn letters_of_runs_are_read_by_page_and_purged_by_place() {
    let service = service().await;
    for task in [70, 71, 72] {
        service.letters.put(&letter(task)).await.unwrap();
    }
    let read = |token: Bytes| GetDlqMessagesRequest {
        r#type: DeadLetterQueueType::Replication as i32,
        source_cluster: "east".into(),
        maximum_page_size: 2,
        next_page_token: token,
        ..Default::default()
    };
    let page = |request| async {
        service
            .get_dlq_messages(Request::new(request))
            .await
            .unwrap()
            .into_inner()
    };
    let first = page(read(Bytes::new())).await;
    let places = |r: &GetDlqMessagesResponse| -> Vec<i64> {
        r.replication_tasks
            .iter()
            .map(|t| t.source_task_id)
            .collect()
    };
    assert_eq!(places(&first), [1, 2]);
    let second = page(read(first.next_page_token)).await;
    assert_eq!(places(&second), [3]);
    assert!(second.next_page_token.is_empty());

    let purge = PurgeDlqTasksRequest {
        dlq_key: Some(HistoryDlqKey {
            task_category: super::super::CATEGORY,
            source_cluster: "east".into(),
            target_cluster: "west".into(),
        }),
        inclusive_max_task_metadata: Some(HistoryDlqTaskMetadata { message_id: 2 }),
    };
    let job_token = service
        .purge_dlq_tasks(Request::new(purge))
        .await
        .unwrap()
        .into_inner()
        .job_token;
    let described = service.describe_dlq_job(Request::new(DescribeDlqJobRequest { job_token }));
    let described = described.await.unwrap().into_inner();
    assert_eq!(described.messages_processed, 2);
    assert_eq!(
        described.operation_state,
        DlqOperationState::Completed as i32
    );
    assert_eq!(places(&page(read(Bytes::new())).await), [3]);
    let nothing = DescribeDlqJobRequest::default();
    let refused = service
        .describe_dlq_job(Request::new(nothing))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_replay_that_fails_again_says_so_and_keeps_the_letter() {
    let service = service().await;
    service.letters.put(&letter(70)).await.unwrap();
    // Nobody owns the shard: the applying side answers nothing.
    let merge = MergeDlqMessagesRequest {
        r#type: DeadLetterQueueType::Replication as i32,
        source_cluster: "east".into(),
        ..Default::default()
    };
    let refused = service
        .merge_dlq_messages(Request::new(merge))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let listed = service
        .list_queues(Request::new(ListQueuesRequest::default()))
        .await
        .unwrap();
    assert_eq!(listed.into_inner().queues[0].message_count, 1);
}

#[tokio::test]
async fn letters_of_namespaces_stay_until_they_merge() {
    let service = service().await;
    let task = ReplicationTask {
        attributes: Some(Attributes::NamespaceTaskAttributes(
            NamespaceTaskAttributes::default(),
        )),
        ..Default::default()
    };
    let data = Bytes::from(task.encode_to_vec());
    service
        .queues
        .queue_enqueue(namespaces::DEAD_LETTERS, data)
        .await
        .unwrap();
    let kind = DeadLetterQueueType::Namespace as i32;
    let merge = MergeDlqMessagesRequest {
        r#type: kind,
        ..Default::default()
    };
    let refused = service
        .merge_dlq_messages(Request::new(merge))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let purge = PurgeDlqMessagesRequest {
        r#type: kind,
        ..Default::default()
    };
    service
        .purge_dlq_messages(Request::new(purge))
        .await
        .unwrap();
    let read = GetDlqMessagesRequest {
        r#type: kind,
        ..Default::default()
    };
    let left = service
        .get_dlq_messages(Request::new(read))
        .await
        .unwrap()
        .into_inner();
    assert!(left.replication_tasks.is_empty());
}
