//! Tasks that could not be applied, in a durable queue per pair of clusters. A letter keeps the payload and
//! the reason, so it can be read and replayed also when its source is gone. Replaying goes through the same
//! applying side as a live stream; a letter leaves the queue only when its effect is durable, or when an
//! operator purges it.

use std::sync::Arc;

use cluster_rpc::ReplicationClient;
use proto_ids::ClusterName;
use proto_messages::{
    Wire,
    meridian::replication::v1::{ApplyRequest, DeadLetter},
    temporal::server::api::{
        adminservice::v1::{
            GetDlqTasksRequest, GetDlqTasksResponse, ListQueuesResponse,
            list_queues_response::QueueInfo,
        },
        common::v1::{HistoryDlqKey, HistoryDlqTask, HistoryDlqTaskMetadata, HistoryTask},
        replication::v1::ReplicationTask,
    },
};
use schema_store::{
    StoreError,
    queue::{Message as Stored, QueueStore},
};
use tonic::Status;

use crate::wire;

/// The task category of replication, as the tools number it.
pub const CATEGORY: i32 = 3;

/// Letters in one page unless fewer are asked for.
pub const PAGE_MAX: usize = 1_000;

/// The dead-letter queues of this cluster. Cheap to clone.
#[derive(Clone)]
pub struct DeadLetters {
    queues: Arc<dyn QueueStore>,
    target: ClusterName,
}

/// A letter and its place in the queue.
#[derive(Clone, Debug)]
pub struct Letter {
    /// Its place.
    pub id: i64,
    /// The letter.
    pub letter: DeadLetter,
}

/// How a replay went.
#[derive(Clone, Debug, Default)]
pub struct Replayed {
    /// Letters whose effect is durable; they left the queue.
    pub done: i64,
    /// The last place looked at.
    pub last_id: i64,
    /// Letters that failed again, with the reason; they stay.
    pub failed: Vec<(i64, String)>,
}

impl DeadLetters {
    /// The queues in this store of letters to the cluster `target`, which is its own one.
    pub fn new(queues: Arc<dyn QueueStore>, target: ClusterName) -> Self {
        Self { queues, target }
    }

    /// The queues in this store of letters to another cluster: rows that could not be sent to it.
    pub fn towards(&self, target: ClusterName) -> Self {
        Self {
            queues: self.queues.clone(),
            target,
        }
    }

    /// The queue of letters from a cluster.
    pub fn queue_name(&self, source: &str) -> String {
        queue_name(source, self.target.as_str())
    }

    /// Puts a task aside.
    pub async fn put(&self, letter: &DeadLetter) -> Result<i64, StoreError> {
        let queue = self.queue_name(&letter.source_cluster);
        let id = self.queues.queue_enqueue(&queue, letter.to_wire()).await?;
        let task = letter.task.as_ref();
        let run = task.map(wire::run_key).unwrap_or_default();
        tracing::error!(
            remote_cluster = letter.source_cluster,
            shard = letter.shard_id,
            namespace_id = %run.namespace_id,
            workflow_id = %run.workflow_id,
            run_id = %run.run_id,
            task_id = task.map(|t| t.source_task_id),
            reason = letter.reason,
            target_cluster = %self.target,
            letter = id,
            "replication task is set aside as a dead letter"
        );
        Ok(id)
    }

    /// Letters from a cluster above `after`.
    pub async fn read(
        &self,
        source: &str,
        after: i64,
        limit: usize,
    ) -> Result<Vec<Letter>, StoreError> {
        let limit = limit.clamp(1, PAGE_MAX);
        let stored = self
            .queues
            .queue_read(&self.queue_name(source), after, limit)
            .await?;
        Ok(stored.into_iter().map(letter).collect())
    }

    /// Removes one letter.
    pub async fn remove(&self, source: &str, id: i64) -> Result<(), StoreError> {
        let queue = self.queue_name(source);
        self.queues.queue_delete(&queue, id, id).await.map(|_| ())
    }

    /// Removes letters up to and including `through`; returns how many.
    pub async fn purge(&self, source: &str, through: i64) -> Result<i64, StoreError> {
        self.queues
            .queue_delete(&self.queue_name(source), 1, through)
            .await
    }

    /// Removes letters of one shard (0: of all) up to and including `through`.
    pub async fn purge_shard(
        &self,
        source: &str,
        shard: i32,
        through: i64,
    ) -> Result<(), StoreError> {
        if shard == 0 {
            return self.purge(source, through).await.map(|_| ());
        }
        let mut last = 0;
        loop {
            let page = self.read(source, last, PAGE_MAX).await?;
            let is_last = page.len() < PAGE_MAX;
            for Letter { id, letter } in page {
                if id > through {
                    return Ok(());
                }
                last = id;
                if letter.shard_id == shard {
                    self.queues
                        .queue_delete(&self.queue_name(source), id, id)
                        .await?;
                }
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// Replays letters of one shard (0: of all) up to and including `through`, in order.
    pub async fn replay(
        &self,
        source: &str,
        shard: i32,
        through: i64,
        client: &ReplicationClient,
    ) -> Result<Replayed, StoreError> {
        let mut replayed = Replayed::default();
        loop {
            let page = self.read(source, replayed.last_id, 100).await?;
            let is_last = page.len() < 100;
            for Letter { id, letter } in page {
                if id > through {
                    return Ok(replayed);
                }
                replayed.last_id = id;
                if shard != 0 && letter.shard_id != shard {
                    continue;
                }
                // A task that could not be decoded may be readable to a newer release.
                let task = match letter.undecoded_task.is_empty() {
                    true => letter.task,
                    false => match ReplicationTask::from_wire(letter.undecoded_task) {
                        Ok(task) => Some(task),
                        Err(error) => {
                            let reason = format!("the task cannot be decoded: {error}");
                            replayed.failed.push((id, reason));
                            continue;
                        }
                    },
                };
                let request = ApplyRequest {
                    shard_id: letter.shard_id,
                    source_cluster: letter.source_cluster,
                    source_shard_id: letter.source_shard_id,
                    task,
                    replay: true,
                };
                match client.apply(request).await {
                    Ok(_) => {
                        self.queues
                            .queue_delete(&self.queue_name(source), id, id)
                            .await?;
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

    /// All queues with letters, as the tools list them.
    pub async fn list(&self) -> Result<ListQueuesResponse, StoreError> {
        let queues = self.queues.queue_list(&format!("{CATEGORY}_")).await?;
        let queues = queues
            .into_iter()
            .map(|queue| QueueInfo {
                queue_name: queue.name,
                message_count: queue.len,
                last_message_id: queue.last_id,
            })
            .collect();
        Ok(ListQueuesResponse {
            queues,
            next_page_token: Default::default(),
        })
    }

    /// Letters in the form of the tools: raw tasks.
    pub async fn get_tasks(
        &self,
        request: &GetDlqTasksRequest,
    ) -> Result<GetDlqTasksResponse, Status> {
        let source = source_of(request.dlq_key.as_ref())?;
        let after = match request.next_page_token.as_ref() {
            [] => 0,
            token => <[u8; 8]>::try_from(token)
                .map(i64::from_be_bytes)
                .map_err(|_| Status::invalid_argument("the page token is not one of this call"))?,
        };
        let limit = usize::try_from(request.page_size)
            .unwrap_or(0)
            .clamp(1, PAGE_MAX);
        let letters = self.read(source, after, limit).await.map_err(unavailable)?;
        let token = match letters.last() {
            Some(last) if letters.len() == limit => last.id.to_be_bytes().to_vec(),
            _ => Vec::new(),
        };
        let dlq_tasks = letters
            .into_iter()
            .map(|Letter { id, letter }| {
                let raw = letter
                    .task
                    .and_then(|task| task.raw_task_info)
                    .unwrap_or_default();
                HistoryDlqTask {
                    metadata: Some(HistoryDlqTaskMetadata { message_id: id }),
                    payload: Some(HistoryTask {
                        shard_id: letter.source_shard_id,
                        blob: Some(wire::blob(raw.to_wire())),
                    }),
                }
            })
            .collect();
        Ok(GetDlqTasksResponse {
            dlq_tasks,
            next_page_token: token.into(),
        })
    }
}

/// The source cluster a key names; the category has to be replication.
pub fn source_of(key: Option<&HistoryDlqKey>) -> Result<&str, Status> {
    match key {
        Some(key) if key.task_category == CATEGORY && !key.source_cluster.is_empty() => {
            Ok(&key.source_cluster)
        }
        Some(key) => Err(Status::invalid_argument(format!(
            "dead letters are kept of category {CATEGORY} with a source cluster, not of {}",
            key.task_category
        ))),
        None => Err(Status::invalid_argument("DLQ key is not set on request.")),
    }
}

/// What a caller of the tools is told when the store is in trouble.
pub fn unavailable(error: StoreError) -> Status {
    match error {
        StoreError::Corrupt(text) => Status::data_loss(text),
        other => Status::unavailable(other.to_string()),
    }
}

fn queue_name(source: &str, target: &str) -> String {
    // Cluster names may hold the separator; the hash keeps two pairs apart all the same.
    let hash = farmhash::fingerprint32(format!("{source}\0{target}").as_bytes());
    format!("{CATEGORY}_{source}_{target}_{hash:08x}")
}

/// One that cannot be read is shown as that; it must not hide the others.
fn letter(stored: Stored) -> Letter {
    let letter = DeadLetter::from_wire(stored.data.clone()).unwrap_or_else(|error| DeadLetter {
        reason: format!("the stored letter cannot be decoded: {error}"),
        undecoded_task: stored.data,
        ..DeadLetter::default()
    });
    Letter {
        id: stored.id,
        letter,
    }
}
