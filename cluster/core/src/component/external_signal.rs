//! Signals to other runs.

mod apply;
mod command;
mod record;
mod replica;
mod request;
mod state;
mod tasks;

use proto_ids::EventId;
use proto_messages::temporal::api::enums::v1::{EventType, WorkflowTaskFailedCause as Cause};

pub(crate) use self::request::signaled;
pub use self::state::SignalInfo;
use super::{Component, items};
use crate::{MutableState, command::command, invariants::is_written, task::TaskType};

pub(super) const COMPONENT: Component = Component {
    events: &[
        EventType::SignalExternalWorkflowExecutionInitiated,
        EventType::SignalExternalWorkflowExecutionFailed,
        EventType::ExternalWorkflowExecutionSignaled,
    ],
    apply: apply::apply,
    commands: &[command!(
        SignalExternalWorkflowExecution,
        SignalExternalWorkflowExecutionCommandAttributes,
        command,
        Cause::BadSignalWorkflowExecutionAttributes
    )],
    tasks: &[TaskType::SignalExternal],
    is_pending: tasks::is_pending,
    pending_tasks: tasks::pending_tasks,
    rows: Some(ROWS),
    broken,
    replicate: replica::replicate,
    ..Component::NONE
};

items! {
    /// Pending signals to other runs, by initiated event.
    ExternalSignals: EventId => SignalInfo, by |signal| signal.initiated_event_id;
    stored as 5 in external_signals by record
}

/// The effects of earlier commands of a completion on signals to other runs.
#[derive(Default)]
pub(crate) struct Earlier {
    /// So many they add.
    added: usize,
}

fn broken(ms: &MutableState) -> Option<&'static str> {
    let wrong =
        |(id, e): (&EventId, &SignalInfo)| *id != e.initiated_event_id || !is_written(ms, *id);
    let any = ms.external_signals.iter().any(wrong);
    any.then_some("a pending signal to another run was initiated")
}
