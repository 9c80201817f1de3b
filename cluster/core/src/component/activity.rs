//! Activities. History tells when one was scheduled and how it closed; what happens between (attempts, back-off,
//! heartbeats) is state that changes without events, and travels to other clusters by itself.

mod apply;
mod describe;
mod record;
mod replica;
mod request;
mod request_cancel;
mod schedule;
mod state;
mod sync;
mod tasks;
mod timeout;

use std::collections::HashSet;

use proto_ids::EventId;
use proto_messages::temporal::api::enums::v1::{EventType, WorkflowTaskFailedCause as Cause};

pub use self::state::{ActivityInfo, Armed};
pub(crate) use self::{
    apply::{fail_started, restart_clocks},
    request::{begin_attempt, cancel, complete, fail, heartbeat, start},
    timeout::{fire_retry, fire_timeouts},
};
use super::{Component, items};
use crate::{MutableState, command::command, invariants::is_written, task::TaskType};

pub(super) const COMPONENT: Component = Component {
    events: &[
        EventType::ActivityTaskScheduled,
        EventType::ActivityTaskStarted,
        EventType::ActivityTaskCancelRequested,
        EventType::ActivityTaskCompleted,
        EventType::ActivityTaskFailed,
        EventType::ActivityTaskTimedOut,
        EventType::ActivityTaskCanceled,
    ],
    apply: apply::apply,
    results: &[
        EventType::ActivityTaskCompleted,
        EventType::ActivityTaskFailed,
        EventType::ActivityTaskTimedOut,
        EventType::ActivityTaskCanceled,
    ],
    place: apply::place,
    commands: &[
        command!(
            ScheduleActivityTask,
            ScheduleActivityTaskCommandAttributes,
            schedule,
            Cause::BadScheduleActivityAttributes
        ),
        command!(
            RequestCancelActivityTask,
            RequestCancelActivityTaskCommandAttributes,
            request_cancel,
            Cause::BadRequestCancelActivityAttributes
        ),
    ],
    tasks: &[
        TaskType::Activity,
        TaskType::ActivityRetry,
        TaskType::ActivityTimeout,
        TaskType::SyncActivity,
    ],
    is_pending: tasks::is_pending,
    pending_tasks: tasks::pending_tasks,
    rows: Some(ROWS),
    broken,
    replicate: replica::replicate,
    describe: describe::describe,
};

items! {
    /// Pending activities, by scheduled event.
    Activities: EventId => ActivityInfo, by |activity| activity.scheduled_event_id;
    stored as 1 in activities by record
}

/// The effects of earlier commands of a completion on activities.
#[derive(Default)]
pub(crate) struct Earlier<'a> {
    /// Ids of the activities they schedule.
    added: Vec<&'a str>,
    /// Ids of all pending activities, once there are too many to look through for every command.
    ids: Option<HashSet<&'a str>>,
    cancelled: Vec<i64>,
    /// The event each activity gets that they schedule. Workers count along, and may name them.
    events: Vec<i64>,
}

fn broken(ms: &MutableState) -> Option<&'static str> {
    let wrong = |(id, a): (&EventId, &ActivityInfo)| {
        *id != a.scheduled_event_id
            || !is_written(ms, *id)
            || a.attempt < 1
            || (a.started_event_id != EventId::default() && !a.is_started())
    };
    let any = ms.activities.iter().any(wrong);
    any.then_some("a pending activity was scheduled, and is started when history says so")
}
