//! The dead-letter RPCs of the admin service, for the stock tools and `meridian dlq`: replication tasks that
//! could not be applied here, and this cluster's own tasks that were set aside. Everything else of that
//! service is somebody else's. Merging replays letters in this cluster; a job is done when it is answered, so
//! its token simply holds how it ended.

use std::sync::Arc;

use ::namespaces::{Clusters, Manager};
use cluster_rpc::ReplicationClient;
use cluster_shard::TaskDlq;
use proto_messages::Wire;
use proto_messages::temporal::server::api::{
    adminservice::v1::{list_queues_response::QueueInfo, *},
    common::v1::{HistoryDlqKey, HistoryDlqTaskMetadata},
    enums::v1::{DeadLetterQueueType, DlqOperationState, DlqOperationType},
    persistence::v1 as persistence,
    replication::v1::ReplicationTaskInfo,
};
use proto_services::temporal::server::api::adminservice::v1::admin_service_server::AdminService;
use schema_store::queue::QueueStore;
use tonic::{Request, Response, Status};

use super::task_letters;
use crate::{
    dead_letters::{DeadLetters, DlqEntry, PAGE_MAX, Replayed, source_of, unavailable},
    namespaces as messages,
};

/// The dependencies of the service.
pub struct LetterBoxDeps {
    /// Durable queues.
    pub queues: Arc<dyn QueueStore>,
    /// This cluster and the ones it knows.
    pub clusters: Clusters,
    /// Applies letters again.
    pub shards: ReplicationClient,
    /// Merges namespace letters again.
    pub manager: Manager,
}

/// Serves dead letters. Always in an `Arc`.
pub struct LetterBox {
    deps: LetterBoxDeps,
    letters: DeadLetters,
    tasks: TaskDlq,
}

/// Which queue a key means.
enum Queue<'a> {
    /// Replication tasks of this cluster.
    Replication(DeadLetters, &'a str),
    /// This cluster's own tasks of a category.
    Tasks(i32),
}

/// Which of the older two queues a request means.
enum Which {
    Replication,
    Namespaces,
}

impl LetterBox {
    /// Over the queues of this cluster.
    pub fn new(deps: LetterBoxDeps) -> Arc<Self> {
        let local = deps.clusters.current_name();
        let letters = DeadLetters::new(deps.queues.clone(), local.clone());
        let tasks = TaskDlq::new(deps.queues.clone(), local);
        Arc::new(Self {
            deps,
            letters,
            tasks,
        })
    }

    /// The queue a key names. One that cannot be there is an error: it would read as empty.
    async fn queue<'a>(&self, key: Option<&'a HistoryDlqKey>) -> Result<Queue<'a>, Status> {
        let key = key.ok_or_else(|| Status::invalid_argument("DLQ key is not set on request."))?;
        let local = self.deps.clusters.current_name();
        let is_other = |name: &str| !name.is_empty() && name != local.as_str();
        if TaskDlq::CATEGORIES.contains(&key.task_category) {
            return match is_other(&key.source_cluster) || is_other(&key.target_cluster) {
                true => Err(Status::invalid_argument(format!(
                    "tasks of category {} are from and to this cluster, {local}, not {} and {}",
                    key.task_category, key.source_cluster, key.target_cluster
                ))),
                false => Ok(Queue::Tasks(key.task_category)),
            };
        }
        let source = source_of(Some(key))?;
        self.known(source).await?;
        let letters = match key.target_cluster.is_empty() {
            true => self.letters.from(source).await?,
            false => self.letters.of(Some(key))?.0,
        };
        Ok(Queue::Replication(letters, source))
    }

    /// Whether letters can have come from a cluster: it is in the directory, or left letters when it was.
    async fn known(&self, source: &str) -> Result<(), Status> {
        let clusters = &self.deps.clusters;
        if clusters.get(&source.into()).is_some() {
            return Ok(());
        }
        let queue = self.letters.queue_name(source);
        match self.deps.queues.queue_last_id(&queue).await {
            Ok(0) => Err(Status::invalid_argument(format!(
                "cluster {source} is not known here, and no dead letter came from it; \
                 `meridian cluster list` shows the known ones"
            ))),
            Ok(_) => Ok(()),
            Err(error) => Err(unavailable(error)),
        }
    }

    /// A page of letters of a shard (0: of all) up to and including `through`, and the next page's token.
    async fn page(
        &self,
        source: &str,
        shard: i32,
        through: i64,
        after: i64,
        limit: usize,
    ) -> Result<(Vec<DlqEntry>, bytes::Bytes), Status> {
        let letters = self.letters.from(source).await?;
        let read = letters.read(source, after, limit).await;
        let mut page = read.map_err(unavailable)?;
        let token = token(page.last().map(|l| l.id), page.len() == limit);
        page.retain(|l| l.id <= through && (shard == 0 || l.letter.shard_id == shard));
        Ok((page, token))
    }
}

/// The token of a job that has ended.
fn job(
    key: Option<HistoryDlqKey>,
    operation: DlqOperationType,
    through: i64,
    replayed: Replayed,
) -> bytes::Bytes {
    let state = match replayed.failed.is_empty() {
        true => DlqOperationState::Completed,
        false => DlqOperationState::Failed,
    };
    let job = DescribeDlqJobResponse {
        dlq_key: key,
        operation_type: operation as i32,
        operation_state: state as i32,
        max_message_id: through,
        last_processed_message_id: replayed.last_id,
        messages_processed: replayed.done,
        ..DescribeDlqJobResponse::default()
    };
    job.to_wire()
}

fn which(number: i32) -> Result<Which, Status> {
    match DeadLetterQueueType::try_from(number) {
        Ok(DeadLetterQueueType::Replication) => Ok(Which::Replication),
        Ok(DeadLetterQueueType::Namespace) => Ok(Which::Namespaces),
        _ => Err(Status::invalid_argument("The DLQ type is not supported.")),
    }
}

fn after(token: &[u8]) -> Result<i64, Status> {
    if token.is_empty() {
        return Ok(0);
    }
    <[u8; 8]>::try_from(token)
        .map(i64::from_be_bytes)
        .map_err(|_| Status::invalid_argument("Invalid NextPageToken."))
}

fn limit(page_size: i32) -> usize {
    usize::try_from(page_size)
        .ok()
        .filter(|n| *n > 0)
        .unwrap_or(PAGE_MAX)
        .min(PAGE_MAX)
}

/// A missing end means all there is.
fn end(inclusive_end: i64) -> i64 {
    if inclusive_end > 0 {
        inclusive_end
    } else {
        i64::MAX
    }
}

fn token(last: Option<i64>, is_full: bool) -> bytes::Bytes {
    match last {
        Some(id) if is_full => id.to_be_bytes().to_vec().into(),
        _ => bytes::Bytes::new(),
    }
}

fn through(metadata: Option<HistoryDlqTaskMetadata>) -> i64 {
    end(metadata.map_or(0, |m| m.message_id))
}

fn info(raw: persistence::ReplicationTaskInfo) -> ReplicationTaskInfo {
    ReplicationTaskInfo {
        namespace_id: raw.namespace_id,
        workflow_id: raw.workflow_id,
        run_id: raw.run_id,
        task_type: raw.task_type,
        task_id: raw.task_id,
        version: raw.version,
        first_event_id: raw.first_event_id,
        next_event_id: raw.next_event_id,
        scheduled_event_id: raw.scheduled_event_id,
        priority: raw.priority,
    }
}

#[tonic::async_trait]
impl AdminService for LetterBox {
    async fn get_dlq_messages(
        &self,
        request: Request<GetDlqMessagesRequest>,
    ) -> Result<Response<GetDlqMessagesResponse>, Status> {
        let r = request.into_inner();
        let (after, limit, through) = (
            after(&r.next_page_token)?,
            limit(r.maximum_page_size),
            end(r.inclusive_end_message_id),
        );
        let mut answer = GetDlqMessagesResponse {
            r#type: r.r#type,
            ..Default::default()
        };
        match which(r.r#type)? {
            Which::Replication => {
                self.known(&r.source_cluster).await?;
                let found = self.page(&r.source_cluster, r.shard_id, through, after, limit);
                let (page, next) = found.await?;
                answer.next_page_token = next;
                for DlqEntry { id, letter } in page {
                    let mut task = letter.task.unwrap_or_default();
                    // The tools purge and merge by this number.
                    task.source_task_id = id;
                    let raw = task.raw_task_info.clone().unwrap_or_default();
                    answer.replication_tasks_info.push(info(raw));
                    answer.replication_tasks.push(task);
                }
            }
            Which::Namespaces => {
                let page = messages::letters(self.deps.queues.as_ref(), after, limit).await;
                let page = page.map_err(unavailable)?;
                answer.next_page_token = token(page.last().map(|l| l.id), page.len() == limit);
                let tasks = page.into_iter().filter(|l| l.id <= through).map(|letter| {
                    let mut task = letter.task;
                    task.source_task_id = letter.id;
                    task
                });
                answer.replication_tasks = tasks.collect();
            }
        }
        Ok(Response::new(answer))
    }

    async fn purge_dlq_messages(
        &self,
        request: Request<PurgeDlqMessagesRequest>,
    ) -> Result<Response<PurgeDlqMessagesResponse>, Status> {
        let r = request.into_inner();
        let through = end(r.inclusive_end_message_id);
        match which(r.r#type)? {
            Which::Replication => {
                self.known(&r.source_cluster).await?;
                let letters = self.letters.from(&r.source_cluster).await?;
                letters
                    .purge_shard(&r.source_cluster, r.shard_id, through)
                    .await
                    .map_err(unavailable)?;
            }
            Which::Namespaces => {
                let purged = messages::purge(self.deps.queues.as_ref(), through).await;
                purged.map_err(unavailable)?;
            }
        }
        Ok(Response::new(PurgeDlqMessagesResponse {}))
    }

    async fn merge_dlq_messages(
        &self,
        request: Request<MergeDlqMessagesRequest>,
    ) -> Result<Response<MergeDlqMessagesResponse>, Status> {
        let r = request.into_inner();
        let through = end(r.inclusive_end_message_id);
        match which(r.r#type)? {
            Which::Replication => {
                self.known(&r.source_cluster).await?;
                let letters = self.letters.from(&r.source_cluster).await?;
                let replayed = letters
                    .replay(&r.source_cluster, r.shard_id, through, &self.deps.shards)
                    .await
                    .map_err(unavailable)?;
                if let Some((id, reason)) = replayed.failed.first() {
                    return Err(Status::failed_precondition(format!(
                        "{} messages merged; message {id} was refused again: {reason}",
                        replayed.done
                    )));
                }
            }
            Which::Namespaces => {
                messages::replay(self.deps.queues.as_ref(), &self.deps.manager, through)
                    .await
                    .map_err(|refusal| Status::failed_precondition(refusal.to_string()))?;
            }
        }
        Ok(Response::new(MergeDlqMessagesResponse::default()))
    }

    async fn get_dlq_tasks(
        &self,
        request: Request<GetDlqTasksRequest>,
    ) -> Result<Response<GetDlqTasksResponse>, Status> {
        let r = request.get_ref();
        let category = match self.queue(r.dlq_key.as_ref()).await? {
            Queue::Tasks(category) => category,
            Queue::Replication(letters, source) => {
                return letters.get_tasks(source, r).await.map(Response::new);
            }
        };
        let (after, limit) = (after(&r.next_page_token)?, limit(r.page_size));
        let page = task_letters::page(&self.tasks, category, after, limit).await;
        let (mut answer, next) = page.map_err(unavailable)?;
        answer.next_page_token = token(next, next.is_some());
        Ok(Response::new(answer))
    }

    async fn purge_dlq_tasks(
        &self,
        request: Request<PurgeDlqTasksRequest>,
    ) -> Result<Response<PurgeDlqTasksResponse>, Status> {
        let r = request.into_inner();
        let through = through(r.inclusive_max_task_metadata);
        let done = match self.queue(r.dlq_key.as_ref()).await? {
            Queue::Tasks(category) => self.tasks.delete(category, 1, through).await,
            Queue::Replication(letters, source) => letters.purge(source, through).await,
        };
        let done = done.map_err(unavailable)?;
        let purged = Replayed {
            done,
            last_id: through,
            ..Replayed::default()
        };
        let job_token = job(r.dlq_key, DlqOperationType::Purge, through, purged);
        Ok(Response::new(PurgeDlqTasksResponse { job_token }))
    }

    async fn merge_dlq_tasks(
        &self,
        request: Request<MergeDlqTasksRequest>,
    ) -> Result<Response<MergeDlqTasksResponse>, Status> {
        let r = request.into_inner();
        let through = through(r.inclusive_max_task_metadata);
        let shards = &self.deps.shards;
        let replayed = match self.queue(r.dlq_key.as_ref()).await? {
            Queue::Tasks(category) => {
                task_letters::replay(&self.tasks, category, through, shards).await
            }
            Queue::Replication(letters, source) => letters.replay(source, 0, through, shards).await,
        };
        let replayed = replayed.map_err(unavailable)?;
        let job_token = job(r.dlq_key, DlqOperationType::Merge, through, replayed);
        Ok(Response::new(MergeDlqTasksResponse { job_token }))
    }

    async fn describe_dlq_job(
        &self,
        request: Request<DescribeDlqJobRequest>,
    ) -> Result<Response<DescribeDlqJobResponse>, Status> {
        let job = DescribeDlqJobResponse::from_wire(request.into_inner().job_token)
            .map_err(|_| Status::invalid_argument("Invalid DLQ job token."))?;
        Ok(Response::new(job))
    }

    async fn cancel_dlq_job(
        &self,
        _: Request<CancelDlqJobRequest>,
    ) -> Result<Response<CancelDlqJobResponse>, Status> {
        // A job has ended by the time its token is known.
        Ok(Response::new(CancelDlqJobResponse { canceled: false }))
    }

    async fn list_queues(
        &self,
        _: Request<ListQueuesRequest>,
    ) -> Result<Response<ListQueuesResponse>, Status> {
        let mut answer = self.letters.list().await.map_err(unavailable)?;
        for category in TaskDlq::CATEGORIES {
            let name = self.tasks.queue_name(category);
            let found = self.deps.queues.queue_list(&name).await;
            let found = found.map_err(unavailable)?.into_iter();
            answer.queues.extend(found.map(|queue| QueueInfo {
                queue_name: queue.name,
                message_count: queue.len,
                last_message_id: queue.last_id,
            }));
        }
        Ok(Response::new(answer))
    }
}
