//! The dead-letter RPCs of the admin service, for the stock tools and `meridian dlq`. Everything else of that
//! service is somebody else's.

use std::sync::Arc;

use ::namespaces::Manager;
use cluster_rpc::{ReplicationClient, status};
use proto_ids::ClusterName;
use proto_messages::temporal::server::api::{
    adminservice::v1::*, common::v1::HistoryDlqTaskMetadata, enums::v1::DeadLetterQueueType,
};
use proto_services::temporal::server::api::adminservice::v1::admin_service_server::AdminService;
use schema_store::queue::QueueStore;
use tonic::{Request, Response, Status, async_trait};

use crate::{
    dead_letters::{DeadLetters, PAGE_MAX, source_of, unavailable},
    namespaces,
};

/// What the service needs.
pub struct LetterBoxDeps {
    /// Durable queues.
    pub queues: Arc<dyn QueueStore>,
    /// This cluster.
    pub local: ClusterName,
    /// Applies letters again.
    pub shards: ReplicationClient,
    /// Merges namespace letters again.
    pub manager: Manager,
}

/// Serves dead letters.
pub struct LetterBox {
    deps: LetterBoxDeps,
    histories: DeadLetters,
}

impl LetterBox {
    /// Over the queues of this cluster.
    pub fn new(deps: LetterBoxDeps) -> Arc<Self> {
        let histories = DeadLetters::new(deps.queues.clone(), deps.local.clone());
        Arc::new(Self { deps, histories })
    }

    async fn replay_histories(&self, source: &str, through: i64) -> Result<(), Status> {
        let replayed = self
            .histories
            .replay(source, through, &self.deps.shards)
            .await;
        let replayed = replayed.map_err(unavailable)?;
        match replayed.failed.first() {
            None => Ok(()),
            Some((id, reason)) => Err(status::failed_precondition(format!(
                "{} letters were applied; {} could not be and stay in the queue, the first, {id}, because: {reason}",
                replayed.done,
                replayed.failed.len()
            ))),
        }
    }
}

fn through(inclusive_end: i64) -> i64 {
    // Callers that name no end mean everything.
    if inclusive_end <= 0 {
        i64::MAX
    } else {
        inclusive_end
    }
}

fn last_of(metadata: Option<&HistoryDlqTaskMetadata>) -> i64 {
    through(metadata.map_or(0, |m| m.message_id))
}

fn kind(number: i32) -> Result<DeadLetterQueueType, Status> {
    match DeadLetterQueueType::try_from(number) {
        Ok(kind @ (DeadLetterQueueType::Replication | DeadLetterQueueType::Namespace)) => Ok(kind),
        _ => Err(status::invalid_argument(
            "The DLQ type is neither replication nor namespace.",
        )),
    }
}

fn after(token: &[u8]) -> Result<i64, Status> {
    match token {
        [] => Ok(0),
        token => <[u8; 8]>::try_from(token)
            .map(i64::from_be_bytes)
            .map_err(|_| status::invalid_argument("the page token is not one of this call")),
    }
}

#[async_trait]
impl AdminService for LetterBox {
    async fn get_dlq_messages(
        &self,
        request: Request<GetDlqMessagesRequest>,
    ) -> Result<Response<GetDlqMessagesResponse>, Status> {
        let request = request.into_inner();
        let kind = kind(request.r#type)?;
        let after = after(&request.next_page_token)?;
        let limit = usize::try_from(request.maximum_page_size)
            .unwrap_or(0)
            .clamp(1, PAGE_MAX);
        let last = through(request.inclusive_end_message_id);
        let (mut ids, mut tasks) = (Vec::new(), Vec::new());
        let mut add = |id, mut task: proto_messages::temporal::server::api::replication::v1::ReplicationTask| {
            if id <= last {
                // The place in this queue is what replay and purge go by.
                task.source_task_id = id;
                ids.push(id);
                tasks.push(task);
            }
        };
        let read = match kind {
            DeadLetterQueueType::Namespace => {
                let letters = namespaces::letters(self.deps.queues.as_ref(), after, limit).await;
                let letters = letters.map_err(unavailable)?;
                let read = letters.len();
                letters.into_iter().for_each(|l| add(l.id, l.task));
                read
            }
            _ => {
                let letters = self
                    .histories
                    .read(&request.source_cluster, after, limit)
                    .await;
                let letters = letters.map_err(unavailable)?;
                let read = letters.len();
                letters
                    .into_iter()
                    .for_each(|l| add(l.id, l.letter.task.unwrap_or_default()));
                read
            }
        };
        let next = match ids.last() {
            Some(last) if read == limit => last.to_be_bytes().to_vec(),
            _ => Vec::new(),
        };
        Ok(Response::new(GetDlqMessagesResponse {
            r#type: kind as i32,
            replication_tasks: tasks,
            next_page_token: next.into(),
            ..Default::default()
        }))
    }

    async fn purge_dlq_messages(
        &self,
        request: Request<PurgeDlqMessagesRequest>,
    ) -> Result<Response<PurgeDlqMessagesResponse>, Status> {
        let request = request.into_inner();
        let through = through(request.inclusive_end_message_id);
        let purged = match kind(request.r#type)? {
            DeadLetterQueueType::Namespace => {
                namespaces::purge(self.deps.queues.as_ref(), through).await
            }
            _ => self.histories.purge(&request.source_cluster, through).await,
        };
        let purged = purged.map_err(unavailable)?;
        tracing::info!(
            remote_cluster = request.source_cluster,
            purged,
            "dead letters were purged"
        );
        Ok(Response::new(PurgeDlqMessagesResponse::default()))
    }

    async fn merge_dlq_messages(
        &self,
        request: Request<MergeDlqMessagesRequest>,
    ) -> Result<Response<MergeDlqMessagesResponse>, Status> {
        let request = request.into_inner();
        let through = through(request.inclusive_end_message_id);
        match kind(request.r#type)? {
            DeadLetterQueueType::Namespace => {
                let replayed =
                    namespaces::replay(self.deps.queues.as_ref(), &self.deps.manager, through)
                        .await;
                replayed.map_err(|refusal| status::failed_precondition(refusal.to_string()))?;
            }
            _ => {
                self.replay_histories(&request.source_cluster, through)
                    .await?
            }
        }
        Ok(Response::new(MergeDlqMessagesResponse::default()))
    }

    async fn get_dlq_tasks(
        &self,
        request: Request<GetDlqTasksRequest>,
    ) -> Result<Response<GetDlqTasksResponse>, Status> {
        self.histories
            .get_tasks(request.get_ref())
            .await
            .map(Response::new)
    }

    async fn purge_dlq_tasks(
        &self,
        request: Request<PurgeDlqTasksRequest>,
    ) -> Result<Response<PurgeDlqTasksResponse>, Status> {
        let request = request.into_inner();
        let source = source_of(request.dlq_key.as_ref())?;
        let last = last_of(request.inclusive_max_task_metadata.as_ref());
        let purged = self
            .histories
            .purge(source, last)
            .await
            .map_err(unavailable)?;
        tracing::info!(remote_cluster = source, purged, "dead letters were purged");
        Ok(Response::new(PurgeDlqTasksResponse::default()))
    }

    async fn merge_dlq_tasks(
        &self,
        request: Request<MergeDlqTasksRequest>,
    ) -> Result<Response<MergeDlqTasksResponse>, Status> {
        let request = request.into_inner();
        let source = source_of(request.dlq_key.as_ref())?;
        let last = last_of(request.inclusive_max_task_metadata.as_ref());
        self.replay_histories(source, last).await?;
        Ok(Response::new(MergeDlqTasksResponse::default()))
    }

    async fn list_queues(
        &self,
        _: Request<ListQueuesRequest>,
    ) -> Result<Response<ListQueuesResponse>, Status> {
        self.histories
            .list()
            .await
            .map(Response::new)
            .map_err(unavailable)
    }
}
