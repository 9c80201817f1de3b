//! The workflow task as DescribeWorkflowExecution shows it.

use proto_ids::Timestamp;
use proto_messages::temporal::api::{
    enums::v1::PendingWorkflowTaskState, workflow::v1 as view,
    workflowservice::v1::DescribeWorkflowExecutionResponse,
};

use super::WorkflowTask;
use crate::{MutableState, replica::at as time};

pub(super) fn describe(
    ms: &MutableState,
    _: Timestamp,
    to: &mut DescribeWorkflowExecutionResponse,
) {
    to.pending_workflow_task = ms.execution_info.workflow_task.as_ref().map(workflow_task);
}

fn workflow_task(task: &WorkflowTask) -> view::PendingWorkflowTaskInfo {
    let state = if task.started_event_id.get() > 0 {
        PendingWorkflowTaskState::Started
    } else {
        PendingWorkflowTaskState::Scheduled
    };
    view::PendingWorkflowTaskInfo {
        state: state as i32,
        scheduled_time: time(task.scheduled_time),
        original_scheduled_time: time(task.original_scheduled_time),
        started_time: time(task.started_time),
        attempt: task.attempt,
    }
}
