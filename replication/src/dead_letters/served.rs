//! Dead letters as operators' tools reach them, by the admin service's RPCs. [`DeadLetterService`] is what a
//! frontend delegates those RPCs to; its other RPCs answer UNIMPLEMENTED.
//!
//! The older RPCs (`GetDLQMessages` and its like) hand out whole tasks, of runs or of namespaces; the newer
//! (`GetDLQTasks`) raw ones of runs. Their jobs are done within the call, and a job's token is its report:
//! whichever frontend is asked about it can answer.

use std::sync::Arc;

use ::namespaces::{Manager, Refusal};
use async_trait::async_trait;
use bytes::Bytes;
use cluster_rpc::{ReplicationClient, status};
use cluster_runtime::SharedClock;
use prost::Message;
use proto_ids::Timestamp;
use proto_messages::{
    temporal::server::api::{
        adminservice::v1::{
            CancelDlqJobRequest, CancelDlqJobResponse, DescribeDlqJobRequest,
            DescribeDlqJobResponse, GetDlqMessagesRequest, GetDlqMessagesResponse,
            GetDlqTasksRequest, GetDlqTasksResponse, ListQueuesRequest, ListQueuesResponse,
            MergeDlqMessagesRequest, MergeDlqMessagesResponse, MergeDlqTasksRequest,
            MergeDlqTasksResponse, PurgeDlqMessagesRequest, PurgeDlqMessagesResponse,
            PurgeDlqTasksRequest, PurgeDlqTasksResponse, list_queues_response::QueueInfo,
        },
        common::v1::{HistoryDlqKey, HistoryDlqTaskMetadata},
        enums::v1::{DeadLetterQueueType, DlqOperationState, DlqOperationType},
        replication::v1::ReplicationTask,
    },
    time,
};
use proto_services::temporal::server::api::adminservice::v1::admin_service_server::AdminService;
use schema_store::queue::QueueStore;
use tonic::{Request, Response, Status};

use super::{DeadLetters, PAGE_MAX, Replayed, source_of, unavailable};
use crate::namespaces;

/// Serves the RPCs about dead letters.
pub struct DeadLetterService {
    letters: DeadLetters,
    queues: Arc<dyn QueueStore>,
    manager: Manager,
    replication: ReplicationClient,
    clock: SharedClock,
}

impl DeadLetterService {
    /// Over the queues; replaying goes through the namespace manager and the shards' owners.
    pub fn new(
        letters: DeadLetters,
        queues: Arc<dyn QueueStore>,
        manager: Manager,
        replication: ReplicationClient,
        clock: SharedClock,
    ) -> Self {
        Self {
            letters,
            queues,
            manager,
            replication,
            clock,
        }
    }

    async fn replay(&self, source: &str, through: i64) -> Result<Replayed, Status> {
        let replayed = self
            .letters
            .replay(source, through, &self.replication)
            .await
            .map_err(unavailable)?;
        tracing::info!(
            remote_cluster = source,
            done = replayed.done,
            failed = replayed.failed.len(),
            "dead letters were replayed"
        );
        Ok(replayed)
    }

    fn report(&self, key: HistoryDlqKey, kind: DlqOperationType, began: Timestamp) -> Job {
        Job(DescribeDlqJobResponse {
            dlq_key: Some(key),
            operation_type: kind as i32,
            operation_state: DlqOperationState::Completed as i32,
            start_time: Some(time::to_proto(began)),
            end_time: Some(time::to_proto(self.now())),
            ..Default::default()
        })
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.clock.now_nanos())
    }
}

/// A job's report, which is its token too.
struct Job(DescribeDlqJobResponse);

impl Job {
    fn token(&self) -> Bytes {
        Bytes::from(self.0.encode_to_vec())
    }

    fn read(token: &Bytes) -> Result<Self, Status> {
        let report = (!token.is_empty()).then(|| DescribeDlqJobResponse::decode(token.clone()));
        match report {
            Some(Ok(report)) if report.dlq_key.is_some() => Ok(Self(report)),
            _ => Err(status::invalid_argument("Invalid job token.")),
        }
    }
}

#[async_trait]
impl AdminService for DeadLetterService {
    async fn get_dlq_messages(
        &self,
        request: Request<GetDlqMessagesRequest>,
    ) -> Result<Response<GetDlqMessagesResponse>, Status> {
        let request = request.into_inner();
        let through = all_unless_told(request.inclusive_end_message_id);
        let after = position(&request.next_page_token)?;
        let limit = usize::try_from(request.maximum_page_size)
            .ok()
            .filter(|n| *n > 0)
            .unwrap_or(PAGE_MAX)
            .min(PAGE_MAX);
        let kind = kind_of(request.r#type)?;
        let letters: Vec<(i64, ReplicationTask)> = match kind {
            Kind::Runs => {
                let source = named(&request.source_cluster)?;
                let read = self.letters.read(source, after, limit).await;
                let read = read.map_err(unavailable)?.into_iter();
                read.map(|l| (l.id, l.letter.task.unwrap_or_default()))
                    .collect()
            }
            Kind::Namespaces => {
                let read = namespaces::letters(self.queues.as_ref(), after, limit).await;
                let read = read.map_err(unavailable)?.into_iter();
                read.map(|l| (l.id, l.task)).collect()
            }
        };
        let next_page_token = match letters.last() {
            Some((last, _)) if letters.len() == limit && *last < through => {
                Bytes::copy_from_slice(&last.to_be_bytes())
            }
            _ => Bytes::new(),
        };
        let told = letters.into_iter().filter(|(id, _)| *id <= through);
        Ok(Response::new(GetDlqMessagesResponse {
            r#type: request.r#type,
            // A letter's place stands in for the task's own id, since that is what purging names.
            replication_tasks: told
                .map(|(id, task)| ReplicationTask {
                    source_task_id: id,
                    ..task
                })
                .collect(),
            next_page_token,
            ..Default::default()
        }))
    }

    async fn purge_dlq_messages(
        &self,
        request: Request<PurgeDlqMessagesRequest>,
    ) -> Result<Response<PurgeDlqMessagesResponse>, Status> {
        let request = request.into_inner();
        let through = all_unless_told(request.inclusive_end_message_id);
        let purged = match kind_of(request.r#type)? {
            Kind::Runs => {
                let source = named(&request.source_cluster)?;
                self.letters.purge(source, through).await
            }
            Kind::Namespaces => namespaces::purge(self.queues.as_ref(), through).await,
        };
        let purged = purged.map_err(unavailable)?;
        tracing::info!(
            remote_cluster = request.source_cluster,
            purged,
            "dead letters were purged"
        );
        Ok(Response::new(PurgeDlqMessagesResponse {}))
    }

    async fn merge_dlq_messages(
        &self,
        request: Request<MergeDlqMessagesRequest>,
    ) -> Result<Response<MergeDlqMessagesResponse>, Status> {
        let request = request.into_inner();
        let through = all_unless_told(request.inclusive_end_message_id);
        match kind_of(request.r#type)? {
            Kind::Runs => {
                let replayed = self
                    .replay(named(&request.source_cluster)?, through)
                    .await?;
                if let Some((id, reason)) = replayed.failed.first() {
                    return Err(status::failed_precondition(format!(
                        "{} letters were replayed and {} failed again, first of them {id}: {reason}",
                        replayed.done,
                        replayed.failed.len()
                    )));
                }
            }
            Kind::Namespaces => {
                let queues = self.queues.as_ref();
                let merged = namespaces::replay(queues, &self.manager, through).await;
                merged.map_err(|refusal| match refusal {
                    Refusal::Store(error) => unavailable(error),
                    Refusal::Contended => status::unavailable(refusal.to_string()),
                    other => status::failed_precondition(other.to_string()),
                })?;
            }
        }
        Ok(Response::new(MergeDlqMessagesResponse::default()))
    }

    async fn get_dlq_tasks(
        &self,
        request: Request<GetDlqTasksRequest>,
    ) -> Result<Response<GetDlqTasksResponse>, Status> {
        self.letters
            .get_tasks(request.get_ref())
            .await
            .map(Response::new)
    }

    async fn purge_dlq_tasks(
        &self,
        request: Request<PurgeDlqTasksRequest>,
    ) -> Result<Response<PurgeDlqTasksResponse>, Status> {
        let request = request.into_inner();
        let through = last_of(request.inclusive_max_task_metadata)?;
        let source = source_of(request.dlq_key.as_ref())?;
        let began = self.now();
        let purged = self
            .letters
            .purge(source, through)
            .await
            .map_err(unavailable)?;
        let key = request.dlq_key.unwrap_or_default();
        let mut job = self.report(key, DlqOperationType::Purge, began);
        job.0.max_message_id = through;
        job.0.last_processed_message_id = through;
        job.0.messages_processed = purged;
        Ok(Response::new(PurgeDlqTasksResponse {
            job_token: job.token(),
        }))
    }

    async fn merge_dlq_tasks(
        &self,
        request: Request<MergeDlqTasksRequest>,
    ) -> Result<Response<MergeDlqTasksResponse>, Status> {
        let request = request.into_inner();
        let through = last_of(request.inclusive_max_task_metadata)?;
        let source = source_of(request.dlq_key.as_ref())?;
        let began = self.now();
        let replayed = self.replay(source, through).await?;
        let key = request.dlq_key.unwrap_or_default();
        let mut job = self.report(key, DlqOperationType::Merge, began);
        if !replayed.failed.is_empty() {
            job.0.operation_state = DlqOperationState::Failed as i32;
        }
        job.0.max_message_id = through;
        job.0.last_processed_message_id = replayed.last_id;
        job.0.messages_processed = replayed.done;
        Ok(Response::new(MergeDlqTasksResponse {
            job_token: job.token(),
        }))
    }

    async fn describe_dlq_job(
        &self,
        request: Request<DescribeDlqJobRequest>,
    ) -> Result<Response<DescribeDlqJobResponse>, Status> {
        Job::read(&request.get_ref().job_token).map(|job| Response::new(job.0))
    }

    async fn cancel_dlq_job(
        &self,
        request: Request<CancelDlqJobRequest>,
    ) -> Result<Response<CancelDlqJobResponse>, Status> {
        // A job is over when its token is given out.
        Job::read(&request.get_ref().job_token)?;
        Ok(Response::new(CancelDlqJobResponse { canceled: false }))
    }

    async fn list_queues(
        &self,
        _request: Request<ListQueuesRequest>,
    ) -> Result<Response<ListQueuesResponse>, Status> {
        let mut listed = self.letters.list().await.map_err(unavailable)?;
        let more = self.queues.queue_list(namespaces::DEAD_LETTERS).await;
        listed.queues.extend(
            more.map_err(unavailable)?
                .into_iter()
                .map(|queue| QueueInfo {
                    queue_name: queue.name,
                    message_count: queue.len,
                    last_message_id: queue.last_id,
                }),
        );
        Ok(Response::new(listed))
    }
}

/// Which letters are meant.
enum Kind {
    Runs,
    Namespaces,
}

fn kind_of(number: i32) -> Result<Kind, Status> {
    match DeadLetterQueueType::try_from(number) {
        Ok(DeadLetterQueueType::Replication) => Ok(Kind::Runs),
        Ok(DeadLetterQueueType::Namespace) => Ok(Kind::Namespaces),
        _ => Err(status::invalid_argument("The DLQ type is not supported.")),
    }
}

fn named(source: &str) -> Result<&str, Status> {
    match source.is_empty() {
        true => Err(status::invalid_argument(
            "SourceCluster is not set on request.",
        )),
        false => Ok(source),
    }
}

fn all_unless_told(through: i64) -> i64 {
    if through <= 0 { i64::MAX } else { through }
}

fn last_of(metadata: Option<HistoryDlqTaskMetadata>) -> Result<i64, Status> {
    let told = metadata.ok_or_else(|| {
        status::invalid_argument("InclusiveMaxTaskMetadata is not set on request.")
    })?;
    Ok(told.message_id)
}

fn position(token: &Bytes) -> Result<i64, Status> {
    if token.is_empty() {
        return Ok(0);
    }
    <[u8; 8]>::try_from(token.as_ref())
        .map(i64::from_be_bytes)
        .map_err(|_| status::invalid_argument("Invalid NextPageToken."))
}

#[cfg(test)]
mod tests;
