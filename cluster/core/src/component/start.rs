//! The start of a run: what its first event fixes, and the timers over the whole run.

mod apply;
mod record;
mod replica;
mod request;
mod state;
mod tasks;

use proto_messages::temporal::api::enums::v1::EventType;

pub use self::state::{Carried, StartInfo};
pub(crate) use self::{
    record::{decode, encode},
    request::{Timeouts, is_parent},
};
use super::Component;
use crate::task::TaskType;

pub(super) const COMPONENT: Component = Component {
    events: &[EventType::WorkflowExecutionStarted],
    apply: apply::apply,
    tasks: &[
        TaskType::WorkflowBackoff,
        TaskType::RunTimeout,
        TaskType::ExecutionTimeout,
    ],
    is_pending: tasks::is_pending,
    pending_tasks: tasks::pending_tasks,
    replicate: replica::replicate,
    ..Component::NONE
};
