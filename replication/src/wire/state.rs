//! A run's state as peers and tools see it. Our stored form is another one; this is made when asked for.

use cluster_core::{MutableState, mutable_state as core};
use proto_ids::{EventId, Timestamp};
use proto_messages::{
    temporal::{
        api::enums::v1::WorkflowExecutionStatus,
        server::api::{
            enums::v1::WorkflowExecutionState as StateName,
            history::v1::VersionHistories,
            persistence::v1::{
                ActivityInfo, ChildExecutionInfo, ExecutionStats, RequestCancelInfo, SignalInfo,
                TimerInfo, WorkflowExecutionInfo, WorkflowExecutionState, WorkflowMutableState,
            },
        },
    },
    time,
};

use super::history_to_wire;

fn at(at_time: Timestamp) -> Option<prost_types::Timestamp> {
    (!at_time.is_zero()).then(|| time::to_proto(at_time))
}

fn lasting(d: std::time::Duration) -> Option<prost_types::Duration> {
    Some(time::duration_to_proto(d))
}

/// The whole state.
pub fn to_wire(run: &MutableState) -> WorkflowMutableState {
    WorkflowMutableState {
        activity_infos: run
            .activities
            .iter()
            .map(|(id, activity)| (id.get(), activity_info(activity)))
            .collect(),
        timer_infos: run
            .timers
            .iter()
            .map(|(id, timer)| {
                let info = TimerInfo {
                    version: timer.version.get(),
                    started_event_id: timer.started_event_id.get(),
                    expiry_time: at(timer.expiry),
                    timer_id: timer.timer_id.clone(),
                    ..TimerInfo::default()
                };
                (id.clone(), info)
            })
            .collect(),
        child_execution_infos: run
            .children
            .iter()
            .map(|(id, child)| (id.get(), child_info(child)))
            .collect(),
        request_cancel_infos: run
            .external_cancels
            .iter()
            .map(|(id, cancel)| {
                let info = RequestCancelInfo {
                    version: cancel.version.get(),
                    initiated_event_batch_id: cancel.initiated_batch_id.get(),
                    cancel_request_id: cancel.request_id.clone(),
                    initiated_event_id: cancel.initiated_event_id.get(),
                    ..RequestCancelInfo::default()
                };
                (id.get(), info)
            })
            .collect(),
        signal_infos: run
            .external_signals
            .iter()
            .map(|(id, signal)| {
                let info = SignalInfo {
                    version: signal.version.get(),
                    initiated_event_batch_id: signal.initiated_batch_id.get(),
                    request_id: signal.request_id.clone(),
                    initiated_event_id: signal.initiated_event_id.get(),
                    ..SignalInfo::default()
                };
                (id.get(), info)
            })
            .collect(),
        signal_requested_ids: run.signal_request_ids.iter().cloned().collect(),
        execution_info: Some(execution_info(run)),
        execution_state: Some(execution_state(run)),
        next_event_id: run.execution_info.next_event_id.get(),
        buffered_events: run.buffered.clone(),
    }
}

fn execution_state(run: &MutableState) -> WorkflowExecutionState {
    let state = match (run.is_running(), run.execution_info.zombie) {
        (false, _) => StateName::Completed,
        (true, true) => StateName::Zombie,
        (true, false)
            if run.execution_info.last_completed_started_event_id == EventId::default() =>
        {
            StateName::Created
        }
        (true, false) => StateName::Running,
    };
    WorkflowExecutionState {
        create_request_id: run.start.request_id.clone(),
        run_id: run.key.run_id.to_string(),
        state: state as i32,
        status: match run.is_running() {
            true => WorkflowExecutionStatus::Running as i32,
            false => run.execution_info.status as i32,
        },
        start_time: at(run.start.start_time),
        first_execution_run_id: run.start.first_run_id.to_string(),
        ..WorkflowExecutionState::default()
    }
}

fn execution_info(run: &MutableState) -> WorkflowExecutionInfo {
    let (start, execution_info) = (&run.start, &run.execution_info);
    let mut info = WorkflowExecutionInfo {
        namespace_id: run.key.namespace_id.to_string(),
        workflow_id: run.key.workflow_id.to_string(),
        first_execution_run_id: start.first_run_id.to_string(),
        new_execution_run_id: execution_info.new_run_id.to_string(),
        original_execution_run_id: start.original_run_id.to_string(),
        successor_run_id: execution_info.new_run_id.to_string(),
        task_queue: start.task_queue.clone(),
        workflow_type_name: start.workflow_type.name.clone(),
        workflow_execution_timeout: lasting(start.execution_timeout),
        workflow_run_timeout: lasting(start.run_timeout),
        default_workflow_task_timeout: lasting(start.task_timeout),
        start_time: at(start.start_time),
        last_update_time: at(execution_info.last_update_time),
        last_running_clock: execution_info.last_running_clock,
        execution_time: at(start.execution_time),
        workflow_execution_expiration_time: at(start.execution_expiration),
        close_time: at(execution_info.close_time),
        completion_event_batch_id: execution_info.close_batch_first_event_id.get(),
        last_completed_workflow_task_started_event_id: execution_info
            .last_completed_started_event_id
            .get(),
        state_transition_count: execution_info.state_transition_count,
        execution_stats: Some(ExecutionStats {
            history_size: execution_info.history_size,
            ..ExecutionStats::default()
        }),
        cancel_requested: execution_info.cancel_request.is_some(),
        cancel_request_id: execution_info.cancel_request.clone().unwrap_or_default(),
        attempt: start.attempt,
        cron_schedule: start.cron_schedule.clone(),
        signal_count: execution_info.signal_count,
        auto_reset_points: execution_info.reset_points.clone(),
        search_attributes: execution_info
            .search_attributes
            .as_ref()
            .map(|attributes| attributes.indexed_fields.clone())
            .unwrap_or_default(),
        memo: execution_info
            .memo
            .as_ref()
            .map(|memo| memo.fields.clone())
            .unwrap_or_default(),
        version_histories: Some(VersionHistories {
            current_version_history_index: run.versions.current as i32,
            histories: run.versions.histories.iter().map(history_to_wire).collect(),
        }),
        workflow_was_reset: !execution_info.reset_run_id.is_empty(),
        reset_run_id: execution_info.reset_run_id.to_string(),
        priority: start.priority.clone(),
        ..WorkflowExecutionInfo::default()
    };
    if let Some(parent) = &start.parent {
        info.parent_namespace_id = parent.key.namespace_id.to_string();
        info.parent_workflow_id = parent.key.workflow_id.to_string();
        info.parent_run_id = parent.key.run_id.to_string();
        info.parent_initiated_id = parent.initiated_event_id.get();
        info.parent_initiated_version = parent.initiated_event_version;
    }
    if let Some(root) = &start.root {
        info.root_workflow_id = root.workflow_id.clone();
        info.root_run_id = root.run_id.clone();
    }
    if let Some(policy) = &start.retry_policy {
        info.has_retry_policy = true;
        info.retry_initial_interval = policy.initial_interval;
        info.retry_maximum_interval = policy.maximum_interval;
        info.retry_maximum_attempts = policy.maximum_attempts;
        info.retry_backoff_coefficient = policy.backoff_coefficient;
        info.retry_non_retryable_error_types = policy.non_retryable_error_types.clone();
    }
    if let Some(sticky) = &execution_info.sticky {
        info.sticky_task_queue = sticky.task_queue.clone();
        info.sticky_schedule_to_start_timeout = lasting(sticky.schedule_to_start_timeout);
    }
    if let Some(task) = &execution_info.workflow_task {
        info.workflow_task_version = task.version.get();
        info.workflow_task_scheduled_event_id = task.scheduled_event_id.get();
        info.workflow_task_started_event_id = task.started_event_id.get();
        info.workflow_task_timeout = lasting(task.timeout);
        info.workflow_task_attempt = task.attempt;
        info.workflow_task_scheduled_time = at(task.scheduled_time);
        info.workflow_task_started_time = at(task.started_time);
        info.workflow_task_original_scheduled_time = at(task.original_scheduled_time);
        info.workflow_task_request_id = task.request_id.clone();
    }
    info
}

fn activity_info(activity: &core::ActivityInfo) -> ActivityInfo {
    let mut info = ActivityInfo {
        version: activity.version.get(),
        scheduled_event_batch_id: activity.scheduled_batch_id.get(),
        scheduled_event_id: activity.scheduled_event_id.get(),
        scheduled_time: at(activity.attempt_scheduled_time),
        first_scheduled_time: at(activity.scheduled_time),
        started_event_id: activity.started_event_id.get(),
        started_time: at(activity.started_time),
        activity_id: activity.activity_id.clone(),
        request_id: activity.request_id.clone(),
        schedule_to_start_timeout: lasting(activity.schedule_to_start_timeout),
        schedule_to_close_timeout: lasting(activity.schedule_to_close_timeout),
        start_to_close_timeout: lasting(activity.start_to_close_timeout),
        heartbeat_timeout: lasting(activity.heartbeat_timeout),
        cancel_requested: activity.cancel_requested_event_id != EventId::default(),
        cancel_request_id: activity.cancel_requested_event_id.get(),
        attempt: activity.attempt,
        task_queue: activity.task_queue.clone(),
        started_identity: activity.identity.clone(),
        retry_expiration_time: at(activity.retry_expiration),
        retry_last_failure: activity.last_failure.clone(),
        retry_last_worker_identity: activity.last_worker_identity.clone(),
        last_heartbeat_details: activity.heartbeat_details.clone(),
        last_heartbeat_update_time: at(activity.last_heartbeat_time),
        activity_type: Some(activity.activity_type.clone()),
        last_attempt_complete_time: at(activity.last_attempt_complete_time),
        priority: activity.priority.clone(),
        start_version: activity.version.get(),
        ..ActivityInfo::default()
    };
    if let Some(policy) = &activity.retry_policy {
        info.has_retry_policy = true;
        info.retry_initial_interval = policy.initial_interval;
        info.retry_maximum_interval = policy.maximum_interval;
        info.retry_maximum_attempts = policy.maximum_attempts;
        info.retry_backoff_coefficient = policy.backoff_coefficient;
        info.retry_non_retryable_error_types = policy.non_retryable_error_types.clone();
    }
    info
}

fn child_info(child: &core::ChildExecutionInfo) -> ChildExecutionInfo {
    ChildExecutionInfo {
        version: child.version.get(),
        initiated_event_batch_id: child.initiated_batch_id.get(),
        started_event_id: child.started_event_id.get(),
        started_workflow_id: child.workflow_id.clone(),
        started_run_id: child.run_id.to_string(),
        create_request_id: child.create_request_id.clone(),
        namespace: child.namespace.clone(),
        workflow_type_name: child.workflow_type.name.clone(),
        parent_close_policy: child.parent_close_policy as i32,
        initiated_event_id: child.initiated_event_id.get(),
        namespace_id: child.namespace_id.clone(),
        ..ChildExecutionInfo::default()
    }
}
