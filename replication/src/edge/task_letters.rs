//! The dead-letter queues of this cluster's own tasks (transfer, timer, visibility) in the form of the tools.
//! Retrying an entry asks the owner of its shard to add the tasks again; it leaves the queue when they are
//! durable there.

use cluster_rpc::ReplicationClient;
use cluster_shard::{DlqEntry, TaskDlq};
use proto_messages::{
    temporal::server::api::{
        adminservice::v1::{AddTasksRequest, GetDlqTasksResponse, add_tasks_request},
        common::v1::{HistoryDlqTask, HistoryDlqTaskMetadata, HistoryTask},
    },
    time,
};
use schema_store::StoreError;
use tonic::Request;

use crate::{dead_letters::Replayed, wire};

/// Entries retried per read.
const PAGE: usize = 100;

/// Entries of a category after `after`, and the place of the last one when there may be more.
pub(super) async fn page(
    dlq: &TaskDlq,
    category: i32,
    after: i64,
    limit: usize,
) -> Result<(GetDlqTasksResponse, Option<i64>), StoreError> {
    let found = dlq.read(category, after, limit).await?;
    let next = found
        .last()
        .map(|(id, _)| *id)
        .filter(|_| found.len() == limit);
    let dlq_tasks = found
        .into_iter()
        .map(|(id, entry)| HistoryDlqTask {
            payload: Some(HistoryTask {
                shard_id: entry.shard.get(),
                blob: Some(wire::blob(entry.to_bytes())),
            }),
            metadata: Some(metadata(id, entry)),
        })
        .collect();
    let answer = GetDlqTasksResponse {
        dlq_tasks,
        ..GetDlqTasksResponse::default()
    };
    Ok((answer, next))
}

fn metadata(id: i64, entry: DlqEntry) -> HistoryDlqTaskMetadata {
    HistoryDlqTaskMetadata {
        message_id: id,
        namespace_id: entry.run.namespace_id.to_string(),
        workflow_id: entry.run.workflow_id.to_string(),
        run_id: entry.run.run_id.to_string(),
        kind: entry.kind,
        cause: entry.cause,
        time: Some(time::to_proto(entry.time)),
        attempts: i32::try_from(entry.attempts).unwrap_or(i32::MAX),
        shard_id: entry.shard.get(),
    }
}

/// Retries entries up to and including `through`, in order.
pub(super) async fn replay(
    dlq: &TaskDlq,
    category: i32,
    through: i64,
    shards: &ReplicationClient,
) -> Result<Replayed, StoreError> {
    let mut replayed = Replayed::default();
    loop {
        let page = dlq.read(category, replayed.last_id, PAGE).await?;
        let is_last = page.len() < PAGE;
        for (id, entry) in page {
            if id > through {
                return Ok(replayed);
            }
            replayed.last_id = id;
            let request = AddTasksRequest {
                shard_id: entry.shard.get(),
                tasks: vec![add_tasks_request::Task {
                    category_id: category,
                    blob: Some(wire::blob(entry.to_bytes())),
                }],
            };
            match shards.add_tasks(Request::new(request)).await {
                Ok(_) => {
                    dlq.delete(category, id, id).await?;
                    replayed.done += 1;
                }
                Err(status) => replayed.failed.push((id, status.message().to_owned())),
            }
        }
        if is_last {
            return Ok(replayed);
        }
    }
}
