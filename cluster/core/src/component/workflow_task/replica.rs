//! The workflow task and the sticky queue as other clusters and tools see them.

use proto_messages::temporal::server::api::persistence::v1 as wire;

use crate::{
    MutableState,
    replica::{at, lasting},
};

pub(super) fn replicate(ms: &MutableState, to: &mut wire::WorkflowMutableState) {
    let info = to.execution_info.get_or_insert_default();
    if let Some(sticky) = &ms.execution_info.sticky {
        info.sticky_task_queue = sticky.task_queue.clone();
        info.sticky_schedule_to_start_timeout = lasting(sticky.schedule_to_start_timeout);
    }
    if let Some(task) = &ms.execution_info.workflow_task {
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
}
