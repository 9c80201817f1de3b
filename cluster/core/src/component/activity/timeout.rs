//! Timer tasks of activities that are due. Each checks state again: what no longer applies changes nothing.

use proto_ids::{EventId, Timestamp};
use proto_messages::temporal::api::{
    enums::v1::{RetryState, TimeoutType},
    failure::v1::{Failure, TimeoutFailureInfo, failure::FailureInfo},
    history::v1::ActivityTaskTimedOutEventAttributes,
};

use super::{item_key, request};
use crate::{
    Refusal,
    decision::Decision,
    event::Attributes,
    retry::timeout_name,
    task::{TaskKind, Timeout},
};

/// The back-off of an attempt is over.
pub(crate) fn fire_retry(decision: &mut Decision<'_>, scheduled_event_id: EventId, attempt: i32) {
    let kind = TaskKind::Activity {
        scheduled_event_id,
        attempt,
    };
    if decision.ms.is_pending(&kind) {
        decision.add_task(None, kind);
    }
}

/// Some timeouts may be due.
pub(crate) fn fire_timeouts(decision: &mut Decision<'_>) -> Result<(), Refusal> {
    let now = decision.now();
    let mut due: Vec<(Timestamp, EventId, Timeout)> = Vec::new();
    let mut rearm: Vec<EventId> = Vec::new();
    for activity in decision.ms.activities.values() {
        match activity.deadlines().first() {
            Some((at, timeout)) if *at <= now => {
                due.push((*at, activity.scheduled_event_id, *timeout));
            }
            Some(_) if activity.armed.heartbeat && activity.armed.heartbeat_at <= now => {
                rearm.push(activity.scheduled_event_id);
            }
            _ => {}
        }
    }
    for id in rearm {
        let Some(activity) = decision.ms.activities.0.get_mut(&id) else {
            continue;
        };
        activity.armed.clear_fired(now);
        if let Some((at, kind)) = activity.arm() {
            decision.add_task(Some(at), kind);
        }
        decision.touch(item_key(&id));
    }
    due.sort_unstable();
    let mut ended = false;
    for (_, id, timeout) in due {
        ended |= timed_out(decision, id, timeout)?;
    }
    if ended {
        decision.schedule_workflow_task()
    } else {
        Ok(())
    }
}

/// Why an activity that could be tried again is not.
const NO_TIME_LEFT: &str = "Not enough time to schedule next retry before activity ScheduleToClose timeout, giving up retrying";

/// Retries the activity, or writes that it timed out and returns true.
fn timed_out(decision: &mut Decision<'_>, id: EventId, timeout: Timeout) -> Result<bool, Refusal> {
    let mut failure = timeout_failure(timeout_type(timeout));
    let retry_state = match request::retry(decision, id, Some(&failure), None) {
        Ok(()) => return Ok(false),
        Err(state) => state,
    };
    let Some(activity) = decision.ms.activities.get(&id) else {
        return Ok(false);
    };
    if retry_state == RetryState::Timeout && timeout != Timeout::ScheduleToStart {
        // There is no room for another attempt: it is the deadline over all attempts that ends it.
        failure = timeout_failure(TimeoutType::ScheduleToClose);
        failure.message = NO_TIME_LEFT.to_owned();
    }
    if let Some(FailureInfo::TimeoutFailureInfo(info)) = &mut failure.failure_info {
        info.last_heartbeat_details = activity.heartbeat_details.clone();
    }
    failure.cause = activity.last_failure.clone().map(Box::new);
    let started_event_id = if activity.is_started() {
        request::write_started(decision, id, "")?
    } else {
        0
    };
    decision.record(Attributes::ActivityTaskTimedOutEventAttributes(
        ActivityTaskTimedOutEventAttributes {
            failure: Some(failure),
            scheduled_event_id: id.get(),
            started_event_id,
            retry_state: retry_state.into(),
        },
    ))?;
    Ok(true)
}

fn timeout_type(timeout: Timeout) -> TimeoutType {
    match timeout {
        Timeout::ScheduleToStart => TimeoutType::ScheduleToStart,
        Timeout::StartToClose => TimeoutType::StartToClose,
        Timeout::ScheduleToClose => TimeoutType::ScheduleToClose,
        Timeout::Heartbeat => TimeoutType::Heartbeat,
    }
}

fn timeout_failure(kind: TimeoutType) -> Failure {
    Failure {
        message: format!("activity {} timeout", timeout_name(kind)),
        source: "Server".to_owned(),
        failure_info: Some(FailureInfo::TimeoutFailureInfo(TimeoutFailureInfo {
            timeout_type: kind.into(),
            last_heartbeat_details: None,
        })),
        ..Default::default()
    }
}
