//! Tasks that could not be applied, in a durable queue per pair of clusters. An entry keeps the payload and the
//! reason, so it can be read and replayed also when its source is gone. Replaying goes through the same
//! applying side as a live stream; an entry leaves the queue only when its effect is durable, or when an
//! operator purges it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use cluster_rpc::ReplicationClient;
use namespaces::Clusters;
use prometheus::IntGaugeVec;
use proto_ids::ClusterName;
use proto_messages::{
    Wire,
    meridian::replication::v1::{ApplyRequest, DeadLetter, DeadLetterStatus},
    temporal::server::api::{
        adminservice::v1::{
            AddTasksRequest, GetDlqTasksRequest, GetDlqTasksResponse, ListQueuesResponse,
            add_tasks_request, list_queues_response::QueueInfo,
        },
        common::v1::{HistoryDlqKey, HistoryDlqTask, HistoryDlqTaskMetadata, HistoryTask},
        enums::v1::ReplicationTaskType,
        replication::v1::ReplicationTask,
    },
};
use schema_store::{
    StoreError,
    queue::{Message as Stored, QueueInfo as Held, QueueStore},
};
use tonic::Status;

use crate::wire;

/// The task category of replication, as the tools number it.
pub const CATEGORY: i32 = 3;

/// Letters that are looked through to count them by namespace.
const COUNT_MAX: i64 = 10_000;

/// How often letters are counted without being asked for.
const MEASURE_EVERY: Duration = Duration::from_secs(10);

/// Letters in one page unless fewer are asked for.
pub const PAGE_MAX: usize = 1_000;

/// The dead-letter queues of this cluster. Cheap to clone.
#[derive(Clone)]
pub struct DeadLetters {
    queues: Arc<dyn QueueStore>,
    own: ClusterName,
    target: ClusterName,
}

/// An entry of a dead-letter queue, with its id.
#[derive(Clone, Debug)]
pub struct DlqEntry {
    /// Its id in the queue.
    pub id: i64,
    /// The dead letter.
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
    /// The queues in this store of letters to the cluster `own`, whose store it is.
    pub fn new(queues: Arc<dyn QueueStore>, own: ClusterName) -> Self {
        let target = own.clone();
        Self {
            queues,
            own,
            target,
        }
    }

    /// The queues in this store of letters to another cluster: rows that could not be sent to it.
    pub fn towards(&self, target: ClusterName) -> Self {
        Self {
            queues: self.queues.clone(),
            own: self.own.clone(),
            target,
        }
    }

    /// The queues and the source that a key means: letters to this cluster, or rows that it could not send.
    pub fn of<'a>(&self, key: Option<&'a HistoryDlqKey>) -> Result<(Self, &'a str), Status> {
        let source = source_of(key)?;
        let target = key.map_or("", |key| key.target_cluster.as_str());
        let own = self.own.as_str();
        if target.is_empty() || target == own {
            return Ok((self.clone(), source));
        }
        if source == own {
            return Ok((self.towards(target.into()), source));
        }
        Err(Status::invalid_argument(format!(
            "letters from {source} to {target} are kept by {target}, not by {own}"
        )))
    }

    /// The queues that hold letters from a cluster, for tools that name no target: those to this cluster, or,
    /// from this cluster itself, those to the only other one that lacks something.
    pub async fn from(&self, source: &str) -> Result<Self, Status> {
        if source != self.own.as_str() {
            return Ok(self.clone());
        }
        let prefix = format!("{CATEGORY}_{source}_");
        let queues = self.queues.queue_list(&prefix).await.map_err(unavailable)?;
        let mut targets = BTreeSet::new();
        for queue in queues {
            let first = self.queues.queue_read(&queue.name, 0, 1).await;
            let first = first.map_err(unavailable)?.into_iter().map(letter);
            let keys = first.filter_map(|first| first.letter.key);
            let sent = keys.filter(|key| key.source_cluster == source);
            targets.extend(sent.map(|key| key.target_cluster));
        }
        match (targets.pop_first(), targets.len()) {
            (None, _) => Ok(self.clone()),
            (Some(target), 0) => Ok(self.towards(target.into())),
            (Some(target), _) => Err(Status::invalid_argument(format!(
                "tasks could not be sent to several clusters, {target} among them; name one as the target"
            ))),
        }
    }

    /// The queue of letters from a cluster.
    pub fn queue_name(&self, source: &str) -> String {
        queue_name(source, self.target.as_str())
    }

    /// Enqueues a task.
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
    ) -> Result<Vec<DlqEntry>, StoreError> {
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
            for DlqEntry { id, letter } in page {
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
            for DlqEntry { id, letter } in page {
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
                let played = match source == self.own.as_str() {
                    true => send_again(client, letter.source_shard_id, task).await,
                    false => {
                        let request = ApplyRequest {
                            shard_id: letter.shard_id,
                            source_cluster: letter.source_cluster,
                            source_shard_id: letter.source_shard_id,
                            task,
                            replay: true,
                        };
                        client.apply(request).await.map(|_| ())
                    }
                };
                match played {
                    Ok(()) => {
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

    /// Counts letters of all queues by the clusters between which they are and by namespace; none where there
    /// are too many to be looked through.
    pub async fn count(&self) -> Result<Option<Vec<DeadLetterStatus>>, StoreError> {
        let mut found: BTreeMap<(String, String, String), i64> = BTreeMap::new();
        let queues = self.queues.queue_list(&format!("{CATEGORY}_")).await?;
        if queues.iter().map(|queue| queue.len).sum::<i64>() > COUNT_MAX {
            return Ok(None);
        }
        for queue in queues {
            let mut after = 0;
            loop {
                let page = self.queues.queue_read(&queue.name, after, PAGE_MAX).await?;
                let is_last = page.len() < PAGE_MAX;
                for DlqEntry { id, letter } in page.into_iter().map(letter) {
                    after = id;
                    let key = letter.key.unwrap_or_default();
                    let run = letter.task.as_ref().map(wire::run_key).unwrap_or_default();
                    let namespace = run.namespace_id.to_string();
                    let place = (key.source_cluster, key.target_cluster, namespace);
                    *found.entry(place).or_default() += 1;
                }
                if is_last {
                    break;
                }
            }
        }
        let told = found
            .into_iter()
            .map(|((source, target, namespace), count)| DeadLetterStatus {
                source_cluster: source,
                target_cluster: target,
                namespace_id: namespace,
                count,
            });
        Ok(Some(told.collect()))
    }

    /// Tells at intervals how many letters there are, from and to each cluster that is known. Never returns.
    pub(crate) async fn keep_measuring(self, clusters: Clusters, meter: IntGaugeVec) {
        loop {
            match self.queues.queue_list("").await {
                Ok(queues) => self.measure(&queues, &clusters, &meter),
                Err(error) => tracing::warn!(%error, "dead letters cannot be counted"),
            }
            tokio::time::sleep(MEASURE_EVERY).await;
        }
    }

    fn measure(&self, queues: &[Held], clusters: &Clusters, meter: &IntGaugeVec) {
        let len = |name: &str| queues.iter().find(|q| q.name == name).map_or(0, |q| q.len);
        let own = self.own.as_str();
        let remotes = clusters.all().into_iter().filter(|c| c.name != self.own);
        for remote in remotes {
            let remote = remote.name.as_str();
            for (source, target) in [(remote, own), (own, remote)] {
                let labels = &["replication", source, target];
                let letters = len(&queue_name(source, target));
                meter.with_label_values(labels).set(letters);
            }
        }
        let letters = len(crate::namespaces::DEAD_LETTERS);
        let labels = &["namespace_replication", "", own];
        meter.with_label_values(labels).set(letters);
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

    /// Letters from a cluster in the form of the tools: raw tasks.
    pub async fn get_tasks(
        &self,
        source: &str,
        request: &GetDlqTasksRequest,
    ) -> Result<GetDlqTasksResponse, Status> {
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
            .map(|DlqEntry { id, letter }| {
                let metadata = metadata(id, &letter);
                let raw = letter
                    .task
                    .and_then(|task| task.raw_task_info)
                    .unwrap_or_default();
                HistoryDlqTask {
                    metadata: Some(metadata),
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

/// Puts a row that was set aside into its shard's stream again.
async fn send_again(
    client: &ReplicationClient,
    shard_id: i32,
    task: Option<ReplicationTask>,
) -> Result<(), Status> {
    let raw = task.and_then(|task| task.raw_task_info).unwrap_or_default();
    let task = add_tasks_request::Task {
        category_id: CATEGORY,
        blob: Some(wire::blob(raw.to_wire())),
    };
    let request = AddTasksRequest {
        shard_id,
        tasks: vec![task],
    };
    client.add_tasks(request).await.map(|_| ())
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

/// The view of an entry for people.
fn metadata(id: i64, letter: &DeadLetter) -> HistoryDlqTaskMetadata {
    let task = letter.task.as_ref();
    let run = task.map(wire::run_key).unwrap_or_default();
    HistoryDlqTaskMetadata {
        message_id: id,
        namespace_id: run.namespace_id.to_string(),
        workflow_id: run.workflow_id.to_string(),
        run_id: run.run_id.to_string(),
        kind: task.map(kind_of).unwrap_or_default(),
        cause: letter.reason.clone(),
        time: letter.time,
        attempts: letter.attempts,
        shard_id: letter.shard_id,
    }
}

/// What kind of task it is. One that could not be sent is kept as its row in the source's queue.
fn kind_of(task: &ReplicationTask) -> String {
    let row = task.raw_task_info.as_ref();
    let kind = match (task.task_type(), row) {
        (ReplicationTaskType::Unspecified, Some(row)) => row.task_type().as_str_name(),
        (kind, _) => kind.as_str_name(),
    };
    let kind = kind.trim_start_matches("REPLICATION_TASK_TYPE_");
    kind.trim_start_matches("TASK_TYPE_").to_lowercase()
}

/// The status for callers of the tools when the store fails.
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
fn letter(stored: Stored) -> DlqEntry {
    let letter = DeadLetter::from_wire(stored.data.clone()).unwrap_or_else(|error| DeadLetter {
        reason: format!("the stored letter cannot be decoded: {error}"),
        undecoded_task: stored.data,
        ..DeadLetter::default()
    });
    DlqEntry {
        id: stored.id,
        letter,
    }
}
