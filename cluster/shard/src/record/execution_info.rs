//! The stored form of execution info.

use bytes::Bytes;
use cluster_core::{
    MutableState, VersionHistories,
    mutable_state::{ExecutionInfo, Sticky, WorkflowTask},
};
use prost::Message;
use proto_ids::{EventId, FailoverVersion, RunId, Timestamp};
use proto_messages::temporal::api::enums::v1::WorkflowExecutionStatus;

use super::{
    RecordError, decode_message,
    item::{nanos, read_nanos},
    message, read_versions, versions,
};

pub(crate) fn encode_execution_info(w: &MutableState) -> Bytes {
    let h = &w.execution_info;
    let stored = message::ExecutionInfo {
        status: h.status as i32,
        zombie: h.zombie,
        next_event_id: h.next_event_id.get(),
        last_completed_started_event_id: h.last_completed_started_event_id.get(),
        history_size: h.history_size,
        state_transition_count: h.state_transition_count,
        last_update_time: h.last_update_time.nanos(),
        close_time: h.close_time.nanos(),
        close_event_id: h.close_event_id.get(),
        close_batch_first_event_id: h.close_batch_first_event_id.get(),
        new_run_id: h.new_run_id.to_string(),
        workflow_task: h.workflow_task.as_ref().map(workflow_task),
        first_workflow_task_scheduled: h.first_workflow_task_scheduled,
        sticky: h.sticky.as_ref().map(sticky),
        cancel_request: h.cancel_request.clone(),
        memo: h.memo.clone(),
        search_attributes: h.search_attributes.clone(),
        reset_points: h.reset_points.clone(),
        signal_count: h.signal_count,
        workflow_task_attempt: h.workflow_task_attempt,
        most_recent_build_id: h.most_recent_build_id.clone(),
        reapplied: h.reapplied.iter().map(reapplied).collect(),
        reset_run_id: h.reset_run_id.to_string(),
        sdk_name: h.sdk_name.clone(),
        sdk_version: h.sdk_version.clone(),
        workflow_task_heartbeat_since: h.workflow_task_heartbeat_since.nanos(),
        close_attempted: h.close_attempted,
        last_running_clock: h.last_running_clock,
        versions: Some(versions(&w.versions)),
    };
    Bytes::from(stored.encode_to_vec())
}

pub(super) fn decode(data: &[u8]) -> Result<(ExecutionInfo, VersionHistories), RecordError> {
    let h: message::ExecutionInfo = decode_message("execution info", data)?;
    let status = WorkflowExecutionStatus::try_from(h.status)
        .map_err(|_| RecordError::Unknown("status", h.status.to_string()))?;
    let versions = read_versions(h.versions.unwrap_or_default())?;
    let execution_info = ExecutionInfo {
        status,
        zombie: h.zombie,
        next_event_id: EventId::new(h.next_event_id),
        last_completed_started_event_id: EventId::new(h.last_completed_started_event_id),
        history_size: h.history_size,
        state_transition_count: h.state_transition_count,
        last_update_time: Timestamp::from_nanos(h.last_update_time),
        close_time: Timestamp::from_nanos(h.close_time),
        close_event_id: EventId::new(h.close_event_id),
        close_batch_first_event_id: EventId::new(h.close_batch_first_event_id),
        new_run_id: h.new_run_id.into(),
        workflow_task: h.workflow_task.map(read_workflow_task),
        first_workflow_task_scheduled: h.first_workflow_task_scheduled,
        sticky: h.sticky.map(read_sticky),
        cancel_request: h.cancel_request,
        memo: h.memo,
        search_attributes: h.search_attributes,
        reset_points: h.reset_points,
        signal_count: h.signal_count,
        workflow_task_attempt: h.workflow_task_attempt,
        most_recent_build_id: h.most_recent_build_id,
        reapplied: h.reapplied.into_iter().map(read_reapplied).collect(),
        reset_run_id: h.reset_run_id.into(),
        sdk_name: h.sdk_name,
        sdk_version: h.sdk_version,
        workflow_task_heartbeat_since: Timestamp::from_nanos(h.workflow_task_heartbeat_since),
        close_attempted: h.close_attempted,
        last_running_clock: h.last_running_clock,
        ..ExecutionInfo::default()
    };
    Ok((execution_info, versions))
}

fn reapplied(r: &(RunId, i64, i64)) -> message::Reapplied {
    message::Reapplied {
        run_id: r.0.to_string(),
        event_id: r.1,
        version: r.2,
    }
}

fn read_reapplied(r: message::Reapplied) -> (RunId, i64, i64) {
    (r.run_id.into(), r.event_id, r.version)
}

fn sticky(s: &Sticky) -> message::Sticky {
    message::Sticky {
        task_queue: s.task_queue.clone(),
        schedule_to_start_timeout: nanos(s.schedule_to_start_timeout),
    }
}

fn read_sticky(s: message::Sticky) -> Sticky {
    Sticky {
        task_queue: s.task_queue,
        schedule_to_start_timeout: read_nanos(s.schedule_to_start_timeout),
        ..Sticky::default()
    }
}

fn workflow_task(s: &WorkflowTask) -> message::WorkflowTask {
    message::WorkflowTask {
        version: s.version.get(),
        scheduled_event_id: s.scheduled_event_id.get(),
        started_event_id: s.started_event_id.get(),
        request_id: s.request_id.clone(),
        attempt: s.attempt,
        timeout: nanos(s.timeout),
        scheduled_time: s.scheduled_time.nanos(),
        started_time: s.started_time.nanos(),
        original_scheduled_time: s.original_scheduled_time.nanos(),
        task_queue: s.task_queue.clone(),
        sticky: s.sticky,
        identity: s.identity.clone(),
        suggest_continue_as_new: s.suggest_continue_as_new,
        history_size: s.history_size,
    }
}

fn read_workflow_task(s: message::WorkflowTask) -> WorkflowTask {
    WorkflowTask {
        version: FailoverVersion::new(s.version),
        scheduled_event_id: EventId::new(s.scheduled_event_id),
        started_event_id: EventId::new(s.started_event_id),
        request_id: s.request_id,
        attempt: s.attempt,
        timeout: read_nanos(s.timeout),
        scheduled_time: Timestamp::from_nanos(s.scheduled_time),
        started_time: Timestamp::from_nanos(s.started_time),
        original_scheduled_time: Timestamp::from_nanos(s.original_scheduled_time),
        task_queue: s.task_queue,
        sticky: s.sticky,
        identity: s.identity,
        suggest_continue_as_new: s.suggest_continue_as_new,
        history_size: s.history_size,
        ..WorkflowTask::default()
    }
}
