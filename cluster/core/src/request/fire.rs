//! Timer tasks that are due. Each checks state again: what no longer applies changes nothing.

use proto_ids::{EventId, Timestamp};
use proto_messages::temporal::api::{
    enums::v1::{RetryState, TimeoutType, WorkflowTaskFailedCause},
    failure::v1::{Failure, TimeoutFailureInfo, failure::FailureInfo},
    history::v1::{
        ActivityTaskTimedOutEventAttributes, TimerFiredEventAttributes,
        WorkflowExecutionTimedOutEventAttributes,
    },
};

use super::{Fire, activity, workflow_task};
use crate::{
    Refusal,
    decision::Decision,
    event::Attributes,
    next_run,
    retry::timeout_name,
    task::{TaskKind, Timeout},
    transition::ItemKey,
};

pub(super) fn fire(decision: &mut Decision<'_>, fire: Fire) -> Result<(), Refusal> {
    match fire {
        Fire::UserTimers => user_timers(decision),
        Fire::ActivityTimeouts => activity_timeouts(decision),
        Fire::ActivityRetry {
            scheduled_event_id,
            attempt,
        } => {
            activity_retry(decision, scheduled_event_id, attempt);
            Ok(())
        }
        Fire::WorkflowTaskTimeout {
            scheduled_event_id,
            attempt,
            timeout,
        } => workflow_task::time_out(decision, scheduled_event_id, attempt, timeout),
        Fire::WorkflowBackoff => workflow_task::end_backoff(decision),
        Fire::RunTimeout | Fire::ExecutionTimeout => run_timeout(decision),
    }
}

fn user_timers(decision: &mut Decision<'_>) -> Result<(), Refusal> {
    let now = decision.now();
    let mut due: Vec<(Timestamp, EventId, String)> = decision
        .ms
        .timers
        .values()
        .filter(|t| t.expiry <= now)
        .map(|t| (t.expiry, t.started_event_id, t.timer_id.clone()))
        .collect();
    due.sort_unstable();
    if due.is_empty() {
        return Ok(());
    }
    for (_, started, timer_id) in due {
        decision.record(Attributes::TimerFiredEventAttributes(
            TimerFiredEventAttributes {
                timer_id,
                started_event_id: started.get(),
            },
        ))?;
    }
    decision.schedule_workflow_task()
}

fn activity_retry(decision: &mut Decision<'_>, scheduled_event_id: EventId, attempt: i32) {
    let kind = TaskKind::Activity {
        scheduled_event_id,
        attempt,
    };
    if decision.ms.is_pending(&kind) {
        decision.add_task(None, kind);
    }
}

fn activity_timeouts(decision: &mut Decision<'_>) -> Result<(), Refusal> {
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
        let Some(activity) = decision.ms.activities.get_mut(&id) else {
            continue;
        };
        activity.armed.clear_fired(now);
        if let Some((at, kind)) = activity.arm() {
            decision.add_task(Some(at), kind);
        }
        decision.touch(ItemKey::Activity(id));
    }
    due.sort_unstable();
    let mut ended = false;
    for (_, id, timeout) in due {
        ended |= activity_timed_out(decision, id, timeout)?;
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
fn activity_timed_out(
    decision: &mut Decision<'_>,
    id: EventId,
    timeout: Timeout,
) -> Result<bool, Refusal> {
    let mut failure = timeout_failure(timeout_type(timeout));
    let retry_state = match activity::retry(decision, id, Some(&failure), None) {
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
        activity::write_started(decision, id, "")?
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

/// The run, or the whole chain of runs, took too long.
fn run_timeout(decision: &mut Decision<'_>) -> Result<(), Refusal> {
    if decision
        .ms
        .run_deadline()
        .is_none_or(|(at, _)| at > decision.now())
    {
        return Ok(());
    }
    workflow_task::fail_in_flight(decision, WorkflowTaskFailedCause::ForceCloseCommand)?;
    decision.flush_buffered_events();
    let failure = Failure {
        message: "workflow timeout".to_owned(),
        source: "Server".to_owned(),
        failure_info: Some(FailureInfo::TimeoutFailureInfo(TimeoutFailureInfo {
            timeout_type: TimeoutType::StartToClose.into(),
            last_heartbeat_details: None,
        })),
        ..Default::default()
    };
    let (retry_state, next) = next_run::after_failure(decision, &failure);
    let new_execution_run_id = next_run::run_id_of(next.as_ref());
    decision.write(Attributes::WorkflowExecutionTimedOutEventAttributes(
        WorkflowExecutionTimedOutEventAttributes {
            retry_state: retry_state.into(),
            new_execution_run_id,
        },
    ))?;
    next_run::start(decision, next)
}
