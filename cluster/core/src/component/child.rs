//! Child workflows, and what a parent is told of them.

mod apply;
mod describe;
mod record;
mod replica;
mod request;
mod start;
mod state;
mod tasks;

use proto_ids::EventId;
use proto_messages::temporal::api::enums::v1::{EventType, WorkflowTaskFailedCause as Cause};

pub(crate) use self::request::{closed, reapply, started};
pub use self::state::ChildExecutionInfo;
use super::{Component, items};
use crate::{MutableState, command::command, invariants::is_written, task::TaskType};

pub(super) const COMPONENT: Component = Component {
    events: &[
        EventType::StartChildWorkflowExecutionInitiated,
        EventType::StartChildWorkflowExecutionFailed,
        EventType::ChildWorkflowExecutionStarted,
        EventType::ChildWorkflowExecutionCompleted,
        EventType::ChildWorkflowExecutionFailed,
        EventType::ChildWorkflowExecutionCanceled,
        EventType::ChildWorkflowExecutionTimedOut,
        EventType::ChildWorkflowExecutionTerminated,
    ],
    apply: apply::apply,
    results: &[
        EventType::ChildWorkflowExecutionCompleted,
        EventType::ChildWorkflowExecutionFailed,
        EventType::ChildWorkflowExecutionCanceled,
        EventType::ChildWorkflowExecutionTimedOut,
        EventType::ChildWorkflowExecutionTerminated,
    ],
    place: apply::place,
    commands: &[command!(
        StartChildWorkflowExecution,
        StartChildWorkflowExecutionCommandAttributes,
        start,
        Cause::BadStartChildExecutionAttributes
    )],
    tasks: &[TaskType::StartChild],
    is_pending: tasks::is_pending,
    pending_tasks: tasks::pending_tasks,
    rows: Some(ROWS),
    broken,
    replicate: replica::replicate,
    describe: describe::describe,
};

items! {
    /// Pending children, by initiated event.
    Children: EventId => ChildExecutionInfo, by |child| child.initiated_event_id;
    stored as 3 in children by record
}

/// The effects of earlier commands of a completion on children.
#[derive(Default)]
pub(crate) struct Earlier<'a> {
    /// Workflow ids of the children they start.
    started: Vec<&'a str>,
}

impl Earlier<'_> {
    /// Whether one of them starts a child of this workflow id.
    pub(crate) fn starts(&self, workflow_id: &str) -> bool {
        self.started.contains(&workflow_id)
    }
}

fn broken(ms: &MutableState) -> Option<&'static str> {
    let wrong = |(id, c): (&EventId, &ChildExecutionInfo)| {
        *id != c.initiated_event_id || !is_written(ms, *id)
    };
    let any = ms.children.iter().any(wrong);
    any.then_some("a pending child was initiated")
}
