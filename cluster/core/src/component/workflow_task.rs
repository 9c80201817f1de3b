//! Workflow tasks. A first attempt lives in history; an attempt after a failure lives in state only (transient)
//! until it completes, and takes the ids it would have got.

mod apply;
mod completion;
mod describe;
mod record;
mod replica;
mod request;
mod state;
mod tasks;
mod transient;

use proto_ids::EventId;
use proto_messages::temporal::api::enums::v1::EventType;

pub use self::state::{Sticky, WorkflowTask};
pub(crate) use self::{
    completion::complete,
    record::{
        StoredSticky, StoredWorkflowTask, read_sticky, read_workflow_task, sticky, workflow_task,
    },
    request::{
        Failed, Token, end_backoff, fail, fail_in_flight, flush_buffered_events, limit_buffer,
        reset_sticky, schedule_first, start, time_out,
    },
};
use super::Component;
use crate::{MutableState, invariants::is_written, task::TaskType};

pub(super) const COMPONENT: Component = Component {
    events: &[
        EventType::WorkflowTaskScheduled,
        EventType::WorkflowTaskStarted,
        EventType::WorkflowTaskCompleted,
        EventType::WorkflowTaskTimedOut,
        EventType::WorkflowTaskFailed,
    ],
    apply: apply::apply,
    tasks: &[TaskType::WorkflowTask, TaskType::WorkflowTaskTimeout],
    is_pending: tasks::is_pending,
    pending_tasks: tasks::pending_tasks,
    broken,
    replicate: replica::replicate,
    describe: describe::describe,
    ..Component::NONE
};

fn broken(ms: &MutableState) -> Option<&'static str> {
    let wrong = |task: &WorkflowTask| {
        let started = task.started_event_id != EventId::default();
        task.attempt < 1
            || started == task.started_time.is_zero()
            // What follows a failure has the id its event would get, until another event takes it.
            || (task.attempt == 1 && !is_written(ms, task.scheduled_event_id))
            || (started && task.started_event_id <= task.scheduled_event_id)
    };
    let any = ms.execution_info.workflow_task.as_ref().is_some_and(wrong);
    any.then_some("a workflow task was scheduled, and then started")
}
