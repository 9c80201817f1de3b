//! The end of a run, whoever brings it about, and the run that follows: continue-as-new, retry, cron.

mod apply;
mod cancel;
mod complete;
mod continue_as_new;
mod fail;
mod next_run;
mod tasks;
mod terminate;
mod timeout;

use proto_ids::EventId;
use proto_messages::temporal::{
    api::enums::v1::{EventType, WorkflowTaskFailedCause as Cause},
    server::api::persistence::v1::WorkflowMutableState,
};

pub(crate) use self::{
    tasks::retention,
    terminate::{allowed, terminate, terminate_linked},
    timeout::fire,
};
use super::Component;
use crate::{MutableState, command::command, replica, task::TaskType};

pub(super) const COMPONENT: Component = Component {
    events: &[
        EventType::WorkflowExecutionCompleted,
        EventType::WorkflowExecutionFailed,
        EventType::WorkflowExecutionTimedOut,
        EventType::WorkflowExecutionCanceled,
        EventType::WorkflowExecutionTerminated,
        EventType::WorkflowExecutionContinuedAsNew,
    ],
    apply: apply::apply,
    commands: &[
        command!(
            CompleteWorkflowExecution,
            CompleteWorkflowExecutionCommandAttributes,
            complete,
            Cause::BadCompleteWorkflowExecutionAttributes
        )
        .closing(),
        command!(
            FailWorkflowExecution,
            FailWorkflowExecutionCommandAttributes,
            fail,
            Cause::BadFailWorkflowExecutionAttributes
        )
        .closing(),
        command!(
            CancelWorkflowExecution,
            CancelWorkflowExecutionCommandAttributes,
            cancel,
            Cause::BadCancelWorkflowExecutionAttributes
        )
        .closing(),
        command!(
            ContinueAsNewWorkflowExecution,
            ContinueAsNewWorkflowExecutionCommandAttributes,
            continue_as_new,
            Cause::BadContinueAsNewAttributes
        )
        .closing(),
    ],
    tasks: &[TaskType::Close, TaskType::Retention],
    is_pending: tasks::is_pending,
    pending_tasks: tasks::pending_tasks,
    broken,
    replicate,
    ..Component::NONE
};

fn replicate(ms: &MutableState, to: &mut WorkflowMutableState) {
    let info = to.execution_info.get_or_insert_default();
    info.close_time = replica::at(ms.execution_info.close_time);
    info.completion_event_batch_id = ms.execution_info.close_batch_first_event_id.get();
    info.new_execution_run_id = ms.execution_info.new_run_id.to_string();
    info.successor_run_id = ms.execution_info.new_run_id.to_string();
}

fn broken(ms: &MutableState) -> Option<&'static str> {
    let execution_info = &ms.execution_info;
    if execution_info.close_time.is_zero() {
        let closed = execution_info.close_event_id != EventId::default();
        return closed.then_some("an open run has no event that closed it");
    }
    let works = execution_info.workflow_task.is_some() || execution_info.sticky.is_some();
    works.then_some("a closed run has no workflow task")
}
