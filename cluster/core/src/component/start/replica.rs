//! The part that the first event determined, as other clusters and tools see it.

use proto_messages::temporal::server::api::persistence::v1 as wire;

use crate::{
    MutableState,
    replica::{at, lasting},
};

pub(super) fn replicate(ms: &MutableState, to: &mut wire::WorkflowMutableState) {
    let start = &ms.start;
    let info = to.execution_info.get_or_insert_default();
    info.first_execution_run_id = start.first_run_id.to_string();
    info.original_execution_run_id = start.original_run_id.to_string();
    info.task_queue = start.task_queue.clone();
    info.workflow_type_name = start.workflow_type.name.clone();
    info.workflow_execution_timeout = lasting(start.execution_timeout);
    info.workflow_run_timeout = lasting(start.run_timeout);
    info.default_workflow_task_timeout = lasting(start.task_timeout);
    info.start_time = at(start.start_time);
    info.execution_time = at(start.execution_time);
    info.workflow_execution_expiration_time = at(start.execution_expiration);
    info.attempt = start.attempt;
    info.cron_schedule = start.cron_schedule.clone();
    info.priority = start.priority.clone();
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
    let state = to.execution_state.get_or_insert_default();
    state.create_request_id = start.request_id.clone();
    state.start_time = at(start.start_time);
    state.first_execution_run_id = start.first_run_id.to_string();
}
