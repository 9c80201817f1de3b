//! Requests to cancel other runs.

mod apply;
mod command;
mod record;
mod replica;
mod request;
mod state;
mod tasks;

use proto_ids::EventId;
use proto_messages::temporal::api::enums::v1::{EventType, WorkflowTaskFailedCause as Cause};

pub(crate) use self::request::canceled;
pub use self::state::RequestCancelInfo;
use super::{Component, items};
use crate::{MutableState, command::command, invariants::is_written, task::TaskType};

pub(super) const COMPONENT: Component = Component {
    events: &[
        EventType::RequestCancelExternalWorkflowExecutionInitiated,
        EventType::RequestCancelExternalWorkflowExecutionFailed,
        EventType::ExternalWorkflowExecutionCancelRequested,
    ],
    apply: apply::apply,
    commands: &[command!(
        RequestCancelExternalWorkflowExecution,
        RequestCancelExternalWorkflowExecutionCommandAttributes,
        command,
        Cause::BadRequestCancelExternalWorkflowExecutionAttributes
    )],
    tasks: &[TaskType::CancelExternal],
    is_pending: tasks::is_pending,
    pending_tasks: tasks::pending_tasks,
    rows: Some(ROWS),
    broken,
    replicate: replica::replicate,
    ..Component::NONE
};

items! {
    /// Pending cancels of other runs, by initiated event.
    ExternalCancels: EventId => RequestCancelInfo, by |cancel| cancel.initiated_event_id;
    stored as 4 in external_cancels by record
}

/// The effects of earlier commands of a completion on cancels of other runs.
#[derive(Default)]
pub(crate) struct Earlier {
    /// So many they add.
    added: usize,
}

fn broken(ms: &MutableState) -> Option<&'static str> {
    let wrong = |(id, e): (&EventId, &RequestCancelInfo)| {
        *id != e.initiated_event_id || !is_written(ms, *id)
    };
    let any = ms.external_cancels.iter().any(wrong);
    any.then_some("a pending cancel of another run was initiated")
}
