//! The dead-letter queues of tasks that cannot be done, so that they do not block others: a task whose execution
//! fails for good, a visibility row that the store refuses, a task row that cannot be decoded, a run that
//! cannot be read. Each is kept whole in a durable queue per category until an operator retries or purges it;
//! retrying adds it to its shard as new tasks.

use std::sync::Arc;

use bytes::Bytes;
use cluster_core::{Task, task::Category};
use proto_ids::{ClusterName, RunKey, ShardId, TaskId, Timestamp};
use schema_store::{StoreError, queue::QueueStore, visibility::VisibilityWrite};

use crate::{
    error::{ShardError, TxnError},
    queue::QueuedTask,
    record,
    shard::{Shard, key_of},
    txn::{Mode, Txn},
};

/// Tasks that went to a dead-letter queue together, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DlqEntry {
    /// The shard they belong to.
    pub shard: ShardId,
    /// The queue they were in, as Temporal numbers task categories: 1 transfer, 2 timer, 4 visibility.
    pub category: i32,
    /// Their kind, for people.
    pub kind: String,
    /// Their run; empty when the row that names it cannot be read as far as that.
    pub run: RunKey,
    /// Why they cannot be done.
    pub cause: String,
    /// When they were enqueued.
    pub time: Timestamp,
    /// How often they were tried.
    pub attempts: u32,
    /// The row that holds them. Empty when it is the tasks of the whole run that have to be generated again.
    pub row: Bytes,
}

/// The dead-letter queues of one cluster's own tasks. Cheap to clone.
#[derive(Clone)]
pub struct TaskDlq {
    queues: Arc<dyn QueueStore>,
    local: ClusterName,
}

/// The name of a dead-letter queue, as Temporal builds it: tasks of a category from one cluster to another.
pub fn dlq_name(category: i32, source: &str, target: &str) -> String {
    // Cluster names may hold the separator; the hash keeps two pairs apart all the same.
    let hash = farmhash::fingerprint32(format!("{source}\0{target}").as_bytes());
    format!("{category}_{source}_{target}_{hash:08x}")
}

impl TaskDlq {
    /// Categories whose tasks have a dead-letter queue.
    pub const CATEGORIES: [i32; 3] = [1, 2, 4];

    /// The queues of the cluster `local` in this store.
    pub fn new(queues: Arc<dyn QueueStore>, local: ClusterName) -> Self {
        Self { queues, local }
    }

    /// The queue of a category.
    pub fn queue_name(&self, category: i32) -> String {
        dlq_name(category, self.local.as_str(), self.local.as_str())
    }

    /// Puts an entry at the end of its queue; returns its place.
    pub async fn enqueue(&self, entry: &DlqEntry) -> Result<i64, StoreError> {
        let queue = self.queue_name(entry.category);
        self.queues
            .queue_enqueue(&queue, record::encode_dlq_entry(entry))
            .await
    }

    /// Entries of a category after the place `after`, with their places.
    pub async fn read(
        &self,
        category: i32,
        after: i64,
        limit: usize,
    ) -> Result<Vec<(i64, DlqEntry)>, StoreError> {
        let queue = self.queue_name(category);
        let stored = self.queues.queue_read(&queue, after, limit).await?;
        let entry = |message: schema_store::queue::Message| {
            // One that cannot be decoded is shown as such: it must not hide the ones behind it.
            let entry = record::decode_dlq_entry(&message.data).unwrap_or_else(|error| DlqEntry {
                category,
                kind: "unknown".to_owned(),
                cause: format!("the entry itself cannot be decoded: {error}"),
                row: message.data.clone(),
                ..DlqEntry::default()
            });
            (message.id, entry)
        };
        Ok(stored.into_iter().map(entry).collect())
    }

    /// Removes the entries from `first` to `last`, both inclusive; returns how many there were.
    pub async fn delete(&self, category: i32, first: i64, last: i64) -> Result<i64, StoreError> {
        let queue = self.queue_name(category);
        self.queues.queue_delete(&queue, first, last).await
    }
}

impl DlqEntry {
    /// An entry as it crosses to the shard's owner.
    pub fn to_bytes(&self) -> Bytes {
        record::encode_dlq_entry(self)
    }

    /// Decodes what [`Self::to_bytes`] made.
    pub fn from_bytes(data: &[u8]) -> Result<Self, record::RecordError> {
        record::decode_dlq_entry(data)
    }

    /// Tasks of one run.
    pub(crate) fn of_tasks(run: &RunKey, tasks: &[&QueuedTask], cause: String) -> Self {
        let first = tasks.first();
        let category = first.map_or(Category::Transfer, |t| t.task.kind.category());
        let kind = first.map(|t| kind_name(&t.task)).unwrap_or_default();
        Self {
            category: number(category),
            kind,
            run: run.clone(),
            cause,
            row: record::encode_tasks(run, tasks),
            ..Self::default()
        }
    }

    /// A row that cannot be decoded. Its beginning may still name the run.
    pub(crate) fn of_row(category: Category, row: Bytes, cause: String) -> Self {
        Self {
            category: number(category),
            kind: "UndecodableRow".to_owned(),
            run: record::run_of_tasks(&row).unwrap_or_default(),
            cause,
            row,
            ..Self::default()
        }
    }

    /// A run that cannot be read, and has pending tasks.
    pub(crate) fn of_run(run: RunKey, cause: String) -> Self {
        Self {
            category: number(Category::Transfer),
            kind: "RegenerateTasks".to_owned(),
            run,
            cause,
            ..Self::default()
        }
    }

    fn is_visibility(&self) -> bool {
        self.category == number(Category::Visibility)
    }
}

/// Temporal's number of a category.
fn number(category: Category) -> i32 {
    match category {
        Category::Transfer => 1,
        Category::Timer => 2,
        Category::Replication => 3,
        Category::Visibility => 4,
    }
}

/// The name of a task's kind without its fields.
fn kind_name(task: &Task) -> String {
    let text = format!("{:?}", task.kind);
    let end = text.find([' ', '{', '(']).unwrap_or(text.len());
    text[..end].to_owned()
}

impl Shard {
    /// Enqueues tasks in their dead-letter queue, durably. The caller may count them as done afterwards.
    pub(crate) async fn send_to_dlq(&self, entry: DlqEntry) -> Result<(), StoreError> {
        let host = &self.0.host;
        let entry = DlqEntry {
            shard: self.id(),
            time: host.now(),
            ..entry
        };
        let dlq = TaskDlq::new(
            host.deps.store.queue.clone(),
            host.deps.clusters.current_name(),
        );
        let id = dlq.enqueue(&entry).await?;
        host.meters
            .dlq_writes
            .with_label_values(&[&entry.kind])
            .inc();
        tracing::error!(shard = %entry.shard, namespace_id = %entry.run.namespace_id,
            workflow_id = %entry.run.workflow_id, run_id = %entry.run.run_id, kind = entry.kind,
            cause = entry.cause, attempts = entry.attempts, queue = dlq.queue_name(entry.category), id,
            "tasks cannot be done and are in the dead-letter queue; `meridian dlq` shows and retries them");
        Ok(())
    }

    /// The tasks of a row. One that cannot be decoded goes to the dead-letter queue, once, and has none.
    pub(crate) async fn tasks_of_row(
        &self,
        category: Category,
        id: TaskId,
        row: &Bytes,
    ) -> Result<Vec<QueuedTask>, ShardError> {
        let error = match record::decode_tasks(row) {
            Ok(tasks) => return Ok(tasks),
            Err(error) => error,
        };
        if !self.0.queues.is_in_dlq(id) {
            let entry = DlqEntry::of_row(category, row.clone(), format!("task row {id}: {error}"));
            self.send_to_dlq(entry).await?;
            self.0.queues.note_in_dlq(id);
        }
        Ok(Vec::new())
    }

    /// Adds tasks that were set aside as new ones; what a row that cannot be decoded held is generated from the
    /// run's state. They are durable when this returns; that they can be done now is not said.
    pub async fn retry_from_dlq(&self, entry: &DlqEntry) -> Result<(), ShardError> {
        let decoded = match entry.row.is_empty() {
            true => None,
            false => match record::decode_tasks(&entry.row) {
                Ok(tasks) => Some(tasks),
                Err(_) if !entry.run.run_id.is_empty() => None,
                Err(error) => {
                    return Err(ShardError::Corrupt(format!(
                        "{error}; the row does not say of which workflow it was, so it can only be purged"
                    )));
                }
            },
        };
        let (run, tasks) = match decoded {
            None => (entry.run.clone(), None),
            Some(tasks) => {
                let Some(first) = tasks.first() else {
                    return Ok(());
                };
                let run = first.run.clone();
                let tasks: Vec<_> = tasks.into_iter().map(|t| t.task).collect();
                (run, Some(tasks))
            }
        };
        let key = key_of(&run.namespace_id, &run.workflow_id);
        let added = async {
            let mut txn = Txn::begin(self, key, Mode::Replicating).await?;
            let context = txn.decision_context();
            let limits = context.borrowed().limits;
            let found = txn.peek(&run.run_id).await.map_err(TxnError::Decided)?;
            let tasks = match (found, tasks) {
                (Some(_), Some(tasks)) => tasks,
                (Some(ms), None) => ms.pending_tasks(limits),
                (None, _) => Vec::new(),
            };
            let is_gone = found.is_none();
            if !tasks.is_empty() {
                txn.add_tasks(&run.run_id, tasks)
                    .map_err(TxnError::Decided)?;
            }
            txn.end(Ok(is_gone)).await
        };
        let is_gone = match added.await {
            Ok(is_gone) => is_gone,
            Err(TxnError::Decided(error) | TxnError::Shard(error)) => return Err(error),
            Err(other) => return Err(ShardError::Unavailable(other.to_string())),
        };
        if is_gone && entry.is_visibility() {
            let delete = VisibilityWrite::Delete {
                namespace_id: run.namespace_id,
                run_id: run.run_id,
            };
            let store = &self.0.host.deps.store.visibility;
            store.visibility_write(vec![delete]).await?;
        }
        Ok(())
    }
}
