//! Makes a message of a queue row, from what the shard holds now. Nothing is sent for what is gone.

use cluster_core::{
    MutableState, TaskKind, VersionHistories, VersionHistory, VersionItem,
    mutable_state::ActivityInfo,
};
use cluster_rpc::INTERNAL_MESSAGE_BYTES_MAX;
use cluster_shard::{HistoryBatch, QueuedTask, ReadError, Shard};
use prost::Message;
use proto_ids::{EventId, RunId, RunKey};
use proto_messages::{
    meridian::replication::v1::RunState,
    temporal::server::api::{
        enums::v1::{ReplicationTaskType, TaskPriority, TaskType},
        persistence::v1::ReplicationTaskInfo,
        replication::v1::{
            HistoryTaskAttributes, ReplicationTask, SyncActivityTaskAttributes,
            SyncWorkflowStateTaskAttributes, replication_task::Attributes,
        },
    },
    time,
};
use replication_ndc::branch;

use super::source::SourceError;
use crate::{
    apply::TRANSIENT_EVENT,
    wire::{self, state},
};

/// Batches one row may stand for.
const BATCHES_MAX: usize = 100;

/// Bytes of one task, with room for what is around it on the way.
const MESSAGE_BYTES_MAX: usize = INTERNAL_MESSAGE_BYTES_MAX - (64 << 10);

/// Causes of a failure in one task. Readers of protobuf go a hundred messages deep, and some are around it.
const FAILURE_DEPTH_MAX: usize = 90;

/// The message of a row.
pub(super) async fn message(
    shard: &Shard,
    row: &QueuedTask,
) -> Result<Option<ReplicationTask>, SourceError> {
    let made = match &row.task.kind {
        TaskKind::ReplicateHistory {
            first_event_id,
            next_event_id,
            new_run_id,
        } => {
            history(
                shard,
                row,
                *first_event_id,
                *next_event_id,
                new_run_id.as_ref(),
            )
            .await?
        }
        TaskKind::SyncActivity { scheduled_event_id } => {
            let found = shard
                .read(&row.run, |run| {
                    let activity = run.activities.get(scheduled_event_id)?;
                    run.is_running().then(|| activity_attributes(run, activity))
                })
                .await;
            present(found)?.flatten().map(|attributes| {
                let attributes = Attributes::SyncActivityTaskAttributes(attributes);
                (ReplicationTaskType::SyncActivityTask, Some(attributes))
            })
        }
        TaskKind::SyncWorkflowState => {
            let found = shard
                .read(&row.run, |run| {
                    (!run.is_running()).then(|| state::to_wire(run))
                })
                .await;
            present(found)?.flatten().map(|workflow_state| {
                let attributes =
                    Attributes::SyncWorkflowStateTaskAttributes(SyncWorkflowStateTaskAttributes {
                        workflow_state: Some(workflow_state),
                        is_force_replication: true,
                        is_close_transfer_task_acked: false,
                    });
                (ReplicationTaskType::SyncWorkflowStateTask, Some(attributes))
            })
        }
        TaskKind::ReplicateDelete => Some((ReplicationTaskType::DeleteExecutionTask, None)),
        other => {
            return Err(SourceError::Stuck(format!(
                "{other:?} is no replication task"
            )));
        }
    };
    let made = made.map(|(task_type, attributes)| ReplicationTask {
        task_type: task_type as i32,
        source_task_id: row.task_id.get(),
        attributes,
        visibility_time: Some(time::to_proto(row.at)),
        priority: TaskPriority::Unspecified as i32,
        raw_task_info: Some(raw(row)),
        ..ReplicationTask::default()
    });
    if let Some(task) = &made {
        fits(task).map_err(SourceError::Stuck)?;
    }
    Ok(made)
}

/// Whether the receivers can decode the message: otherwise it would break there every time it is sent.
fn fits(task: &ReplicationTask) -> Result<(), String> {
    let bytes = task.encoded_len();
    if bytes > MESSAGE_BYTES_MAX {
        return Err(format!(
            "the message has {bytes} bytes; {MESSAGE_BYTES_MAX} can be sent"
        ));
    }
    if let Some(Attributes::SyncActivityTaskAttributes(activity)) = &task.attributes {
        let first = activity.last_failure.as_ref();
        let depth = std::iter::successors(first, |f| f.cause.as_deref()).count();
        if depth > FAILURE_DEPTH_MAX {
            return Err(format!(
                "the activity's failure is {depth} causes deep; {FAILURE_DEPTH_MAX} can be sent"
            ));
        }
    }
    Ok(())
}

type Made = Option<(ReplicationTaskType, Option<Attributes>)>;

async fn history(
    shard: &Shard,
    row: &QueuedTask,
    first: EventId,
    next: EventId,
    new_run: Option<&RunId>,
) -> Result<Made, SourceError> {
    let look = |run: &MutableState| (run.versions.clone(), wire::non_history_to_wire(run));
    let Some((versions, run_state)) = present(shard.read(&row.run, look).await)? else {
        return Ok(None);
    };
    let last = VersionItem {
        event_id: EventId::new(next.get() - 1),
        version: row.task.version,
    };
    let Some(history) = holder(&versions, last) else {
        return Err(SourceError::Stuck(format!(
            "no branch holds event {}@{}",
            last.event_id, last.version
        )));
    };
    let read = shard
        .history(&row.run, Some(&history.branch), first, next, BATCHES_MAX)
        .await;
    let Some(page) = present(read)? else {
        return Ok(None);
    };
    // Batches travel as they were written: other bounds would be other nodes in the receiver's store.
    let is_whole = page.next.is_none()
        && page.batches.first().is_some_and(|b| b.first <= first)
        && page.batches.last().is_some_and(|b| b.next >= next);
    if !is_whole {
        // The receiver notices what it lacks at the next batch, and asks.
        return Err(SourceError::Stuck(format!(
            "events {first}..{next} are not all there"
        )));
    }
    let (new_run_events, new_run_state) = match new_run {
        Some(run_id) => first_batch(shard, &row.run, run_id).await?.unzip(),
        None => (None, None),
    };
    let mut blobs: Vec<_> = page
        .batches
        .into_iter()
        .map(|b| wire::blob(b.data))
        .collect();
    let events = if blobs.len() == 1 { blobs.pop() } else { None };
    let attributes = HistoryTaskAttributes {
        namespace_id: row.run.namespace_id.to_string(),
        workflow_id: row.run.workflow_id.to_string(),
        run_id: row.run.run_id.to_string(),
        version_history_items: wire::items_to_wire(&history.items),
        events,
        new_run_id: match (&new_run_events, new_run) {
            (Some(_), Some(run_id)) => run_id.to_string(),
            _ => String::new(),
        },
        new_run_events: new_run_events.map(|batch| wire::blob(batch.data)),
        base_execution_info: None,
        events_batches: blobs,
        run_state,
        new_run_state: new_run_state.flatten(),
    };
    Ok(Some((
        ReplicationTaskType::HistoryV2Task,
        Some(Attributes::HistoryTaskAttributes(attributes)),
    )))
}

/// The first batch of the run that continues another one, and what no event tells of it.
async fn first_batch(
    shard: &Shard,
    key: &RunKey,
    run_id: &RunId,
) -> Result<Option<(HistoryBatch, Option<RunState>)>, SourceError> {
    let key = RunKey {
        run_id: run_id.clone(),
        ..key.clone()
    };
    let (first, second) = (EventId::new(1), EventId::new(2));
    let page = present(shard.history(&key, None, first, second, 1).await)?;
    let Some(batch) = page.and_then(|page| page.batches.into_iter().next()) else {
        return Ok(None);
    };
    let told = present(shard.read(&key, wire::non_history_to_wire).await)?;
    Ok(Some((batch, told.flatten())))
}

/// The branch that holds an event.
fn holder(versions: &VersionHistories, event: VersionItem) -> Option<&VersionHistory> {
    let current = versions.histories.get(versions.current);
    current
        .into_iter()
        .chain(&versions.histories)
        .find(|history| branch::contains(&history.items, event))
}

fn present<T>(read: Result<T, ReadError>) -> Result<Option<T>, SourceError> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(ReadError::NotFound) => Ok(None),
        Err(ReadError::Shard(error)) => Err(error.into()),
    }
}

fn activity_attributes(run: &MutableState, activity: &ActivityInfo) -> SyncActivityTaskAttributes {
    let at = |time: proto_ids::Timestamp| (!time.is_zero()).then(|| time::to_proto(time));
    let started_event_id = match activity.started_event_id.get() {
        0 if activity.is_started() => TRANSIENT_EVENT,
        id => id,
    };
    SyncActivityTaskAttributes {
        namespace_id: run.key.namespace_id.to_string(),
        workflow_id: run.key.workflow_id.to_string(),
        run_id: run.key.run_id.to_string(),
        version: activity.version.get(),
        scheduled_event_id: activity.scheduled_event_id.get(),
        scheduled_time: at(activity.attempt_scheduled_time),
        started_event_id,
        started_time: at(activity.started_time),
        last_heartbeat_time: at(activity.last_heartbeat_time),
        details: activity.heartbeat_details.clone(),
        attempt: activity.attempt,
        last_failure: activity.last_failure.clone(),
        last_worker_identity: activity.last_worker_identity.clone(),
        version_history: Some(wire::history_to_wire(run.versions.current())),
        first_scheduled_time: at(activity.scheduled_time),
        last_attempt_complete_time: at(activity.last_attempt_complete_time),
        start_version: activity.version.get(),
        ..SyncActivityTaskAttributes::default()
    }
}

/// The row as a peer's dead-letter queue keeps it.
pub(super) fn raw(row: &QueuedTask) -> ReplicationTaskInfo {
    let mut raw = ReplicationTaskInfo {
        namespace_id: row.run.namespace_id.to_string(),
        workflow_id: row.run.workflow_id.to_string(),
        run_id: row.run.run_id.to_string(),
        version: row.task.version.get(),
        task_id: row.task_id.get(),
        visibility_time: Some(time::to_proto(row.at)),
        ..ReplicationTaskInfo::default()
    };
    let task_type = match &row.task.kind {
        TaskKind::ReplicateHistory {
            first_event_id,
            next_event_id,
            new_run_id,
        } => {
            raw.first_event_id = first_event_id.get();
            raw.next_event_id = next_event_id.get();
            raw.new_run_id = new_run_id
                .as_ref()
                .map(RunId::to_string)
                .unwrap_or_default();
            TaskType::ReplicationHistory
        }
        TaskKind::SyncActivity { scheduled_event_id } => {
            raw.scheduled_event_id = scheduled_event_id.get();
            TaskType::ReplicationSyncActivity
        }
        TaskKind::SyncWorkflowState => {
            raw.is_force_replication = true;
            TaskType::ReplicationSyncWorkflowState
        }
        _ => TaskType::ReplicationDeleteExecution,
    };
    raw.task_type = task_type as i32;
    raw
}
