//! Timers that the workflow started.

mod apply;
mod cancel;
mod fire;
mod record;
mod replica;
mod start;
mod state;
mod tasks;

use proto_messages::temporal::api::enums::v1::{EventType, WorkflowTaskFailedCause as Cause};

pub(crate) use self::fire::fire;
pub use self::state::TimerInfo;
use super::{Component, items};
use crate::{MutableState, command::command, invariants::is_written, task::TaskType};

pub(super) const COMPONENT: Component = Component {
    events: &[
        EventType::TimerStarted,
        EventType::TimerFired,
        EventType::TimerCanceled,
    ],
    apply: apply::apply,
    commands: &[
        command!(
            StartTimer,
            StartTimerCommandAttributes,
            start,
            Cause::BadStartTimerAttributes
        ),
        command!(
            CancelTimer,
            CancelTimerCommandAttributes,
            cancel,
            Cause::BadCancelTimerAttributes
        ),
    ],
    tasks: &[TaskType::UserTimer],
    is_pending: tasks::is_pending,
    pending_tasks: tasks::pending_tasks,
    rows: Some(ROWS),
    broken,
    replicate: replica::replicate,
    ..Component::NONE
};

items! {
    /// Pending timers, by timer id.
    UserTimers: String => TimerInfo, by |timer| timer.timer_id.clone();
    stored as 2 in timers by record
}

/// The effects of earlier commands of a completion on timers.
#[derive(Default)]
pub(crate) struct Earlier<'a> {
    /// Timers started (true) or cancelled (false).
    timers: Vec<(&'a str, bool)>,
}

fn broken(ms: &MutableState) -> Option<&'static str> {
    let wrong =
        |(id, t): (&String, &TimerInfo)| *id != t.timer_id || !is_written(ms, t.started_event_id);
    let any = ms.timers.iter().any(wrong);
    any.then_some("a pending timer was started")
}
