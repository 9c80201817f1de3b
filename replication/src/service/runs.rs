//! Single runs, for tools and peers: look at one, send one again, make its tasks again, put tasks into a
//! shard's queue.

use cluster_core::{MutableState, Task, TaskKind};
use cluster_shard::{DlqEntry, QueuedTask, ShardError, TaskDlq, Txn};
use proto_ids::{RunId, RunKey, TaskId};
use proto_messages::temporal::server::api::{
    adminservice::v1::{
        AddTasksRequest, DescribeMutableStateRequest, DescribeMutableStateResponse,
        GenerateLastHistoryReplicationTasksRequest, GenerateLastHistoryReplicationTasksResponse,
        ReapplyEventsRequest, RefreshWorkflowTasksRequest,
    },
    enums::v1::TaskType,
    persistence::v1::ReplicationTaskInfo,
};
use proto_messages::{Wire, time};
use tonic::Status;

use super::{ReplicationHost, run_key};
use crate::{
    apply::status,
    dead_letters::CATEGORY,
    wire::{self, state},
};

/// Why a staged change of a run did not happen.
enum Ended {
    NotFound,
    Shard(ShardError),
}

impl From<ShardError> for Ended {
    fn from(error: ShardError) -> Self {
        Self::Shard(error)
    }
}

impl ReplicationHost {
    pub(super) async fn mutable_state(
        &self,
        request: DescribeMutableStateRequest,
    ) -> Result<DescribeMutableStateResponse, Status> {
        let namespace = self.namespace_named(&request.namespace)?;
        let key = run_key(namespace.id.as_str(), request.execution.as_ref())?;
        let shard = self.shard_of(&key).await?;
        let found = shard
            .read(&key, state::to_wire)
            .await
            .map_err(status::read)?;
        Ok(DescribeMutableStateResponse {
            shard_id: shard.id().to_string(),
            history_addr: self.deps.address.clone(),
            // What is in memory and what is stored are the same by the time of the answer.
            cache_mutable_state: Some(found.clone()),
            database_mutable_state: Some(found),
        })
    }

    pub(super) async fn send_again(
        &self,
        request: GenerateLastHistoryReplicationTasksRequest,
    ) -> Result<GenerateLastHistoryReplicationTasksResponse, Status> {
        let namespace = self.namespace_named(&request.namespace)?;
        let key = run_key(namespace.id.as_str(), request.execution.as_ref())?;
        let (transitions, length) = self
            .stage(&key, |run| {
                let told = (
                    run.execution_info.state_transition_count,
                    run.execution_info.next_event_id.get() - 1,
                );
                (last_tasks(run), told)
            })
            .await?;
        Ok(GenerateLastHistoryReplicationTasksResponse {
            state_transition_count: transitions,
            history_length: length,
        })
    }

    pub(super) async fn refresh_tasks(
        &self,
        request: RefreshWorkflowTasksRequest,
    ) -> Result<(), Status> {
        let key = run_key(&request.namespace_id, request.execution.as_ref())?;
        let shard = self.shard_of(&key).await?;
        let done = shard
            .replicate(
                &key.namespace_id,
                &key.workflow_id,
                async |txn: &mut Txn| {
                    let run_id = named(txn, &key).await?;
                    let context = txn.decision_context();
                    let run = txn.peek(&run_id).await?.ok_or(Ended::NotFound)?;
                    let tasks = run.pending_tasks(context.borrowed().limits);
                    Ok(txn.add_tasks(&run_id, tasks)?)
                },
            )
            .await;
        done.map_err(ended)
    }

    /// Puts raw tasks of the replication queue into a shard again, under new ids.
    pub(super) async fn add(&self, request: AddTasksRequest) -> Result<(), Status> {
        let invalid = |text: String| Status::invalid_argument(text);
        for task in request.tasks {
            if TaskDlq::CATEGORIES.contains(&task.category_id) {
                let blob = task.blob.unwrap_or_default();
                let entry = DlqEntry::from_bytes(&blob.data)
                    .map_err(|e| invalid(format!("a task cannot be read: {e}")))?;
                let shard = self.shard(request.shard_id).await?;
                shard.retry_from_dlq(&entry).await.map_err(status::shard)?;
                continue;
            }
            if task.category_id != CATEGORY {
                return Err(invalid(format!(
                    "tasks of category {} cannot be added",
                    task.category_id
                )));
            }
            let blob = task.blob.unwrap_or_default();
            let raw = ReplicationTaskInfo::from_wire(blob.data)
                .map_err(|e| invalid(format!("a task cannot be read: {e}")))?;
            let key = RunKey::new(
                raw.namespace_id.as_str(),
                raw.workflow_id.as_str(),
                raw.run_id.as_str(),
            );
            let made = from_raw(&raw).ok_or_else(|| {
                invalid(format!("tasks of type {} cannot be added", raw.task_type))
            })?;
            match self.stage(&key, |_| (vec![made], ())).await {
                Ok(()) => {}
                // A run that is gone has nothing to send.
                Err(status) if status.code() == tonic::Code::NotFound => {}
                Err(status) => return Err(status),
            }
        }
        Ok(())
    }

    /// Delivers events of another cluster's losing branch to the current run.
    pub(super) async fn reapply_events(&self, request: ReapplyEventsRequest) -> Result<(), Status> {
        let lost = run_key(&request.namespace_id, request.workflow_execution.as_ref())?;
        let events = wire::events_from_blob(&request.events.unwrap_or_default())
            .map_err(|e| Status::invalid_argument(e.to_string()))?;
        let shard = self.shard_of(&lost).await?;
        self.applier.deliver_here(&shard, &lost, &events).await
    }

    /// Adds tasks to a run, if it exists.
    pub(super) async fn stage<T: Send>(
        &self,
        key: &RunKey,
        make: impl FnOnce(&MutableState) -> (Vec<Task>, T) + Send,
    ) -> Result<T, Status> {
        let shard = self.shard_of(key).await?;
        let done = shard
            .replicate(
                &key.namespace_id,
                &key.workflow_id,
                async |txn: &mut Txn| {
                    let run_id = named(txn, key).await?;
                    let run = txn.peek(&run_id).await?.ok_or(Ended::NotFound)?;
                    let (tasks, told) = make(run);
                    txn.add_tasks(&run_id, tasks)?;
                    Ok(told)
                },
            )
            .await;
        done.map_err(ended)
    }
}

/// The run a key means: the current one when it names none.
async fn named(txn: &mut Txn, key: &RunKey) -> Result<RunId, Ended> {
    if !key.run_id.is_empty() {
        return Ok(key.run_id.clone());
    }
    Ok(txn.current().await?.ok_or(Ended::NotFound)?.run_id)
}

fn ended(error: cluster_shard::TxnError<Ended>) -> Status {
    match error {
        cluster_shard::TxnError::Decided(Ended::NotFound) => {
            cluster_rpc::status::not_found("workflow execution not found")
        }
        cluster_shard::TxnError::Decided(Ended::Shard(error))
        | cluster_shard::TxnError::Shard(error) => status::shard(error),
        other => Status::unavailable(other.to_string()),
    }
}

/// The tasks that bring a run to a cluster which has nothing of it: its last events, for which a receiver
/// fetches all earlier ones, and what its activities hold; for a closed run its end.
fn last_tasks(run: &MutableState) -> Vec<Task> {
    let version = run.last_version();
    let task = |kind| Task {
        version,
        fire_at: None,
        kind,
    };
    if !run.is_running() {
        return vec![task(TaskKind::SyncWorkflowState)];
    }
    let Some(last) = run.versions.current().last() else {
        return Vec::new();
    };
    let mut tasks = vec![task(TaskKind::ReplicateHistory {
        first_event_id: last.event_id,
        next_event_id: last.event_id.next(),
        new_run_id: None,
    })];
    tasks.extend(run.activities.keys().map(|scheduled| {
        task(TaskKind::SyncActivity {
            scheduled_event_id: *scheduled,
        })
    }));
    tasks
}

/// The queue row that a raw task was.
pub(super) fn row_of(task_id: TaskId, raw: &ReplicationTaskInfo) -> Option<QueuedTask> {
    let at = raw.visibility_time.as_ref();
    Some(QueuedTask {
        task_id,
        run: RunKey::new(
            raw.namespace_id.as_str(),
            raw.workflow_id.as_str(),
            raw.run_id.as_str(),
        ),
        task: from_raw(raw)?,
        at: at.map(time::from_proto).unwrap_or_default(),
    })
}

fn from_raw(raw: &ReplicationTaskInfo) -> Option<Task> {
    let kind = match TaskType::try_from(raw.task_type).ok()? {
        TaskType::ReplicationHistory => TaskKind::ReplicateHistory {
            first_event_id: raw.first_event_id.into(),
            next_event_id: raw.next_event_id.into(),
            new_run_id: (!raw.new_run_id.is_empty()).then(|| RunId::new(&raw.new_run_id)),
        },
        TaskType::ReplicationSyncActivity => TaskKind::SyncActivity {
            scheduled_event_id: raw.scheduled_event_id.into(),
        },
        TaskType::ReplicationSyncWorkflowState => TaskKind::SyncWorkflowState,
        TaskType::ReplicationDeleteExecution => TaskKind::ReplicateDelete,
        _ => return None,
    };
    Some(Task {
        version: raw.version.into(),
        fire_at: None,
        kind,
    })
}
