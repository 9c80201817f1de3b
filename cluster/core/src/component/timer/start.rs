//! StartTimer. A timer of no length fires at once.

use proto_messages::{
    temporal::api::{
        command::v1::StartTimerCommandAttributes, enums::v1::WorkflowTaskFailedCause as Cause,
        history::v1::TimerStartedEventAttributes,
    },
    time::cap_duration,
};

use super::cancel;
use crate::{
    Refusal,
    command::{Check, CommandError, Write, check_durations},
    event::Attributes,
};

const BAD: Cause = Cause::BadStartTimerAttributes;

pub(super) fn check<'a>(
    a: &'a StartTimerCommandAttributes,
    cx: &mut Check<'a>,
) -> Result<(), CommandError> {
    if a.timer_id.is_empty() {
        return Err(CommandError::new(
            BAD,
            "TimerId is not set on StartTimerCommand.",
        ));
    }
    cx.length(BAD, "TimerId", &a.timer_id)?;
    let timeout = [("StartToFireTimeout", &a.start_to_fire_timeout)];
    check_durations(BAD, timeout, |what, fault| {
        format!(
            "An invalid {what} is set on StartTimerCommand: {fault}. TimerId={}",
            a.timer_id
        )
    })?;
    // An earlier timer of this id whose firing waits in the buffer is still running as far as history tells.
    let touched = cx.timer.timers.iter().any(|(id, _)| *id == a.timer_id);
    let waits = !touched && cancel::fired(&cx.ms.buffered, &a.timer_id).is_some();
    if waits || has_timer(cx, &a.timer_id) {
        return Err(CommandError::new(Cause::StartTimerDuplicateId, ""));
    }
    cx.timer.timers.push((&a.timer_id, true));
    Ok(())
}

/// Whether a timer runs, after the commands so far.
pub(super) fn has_timer(cx: &Check<'_>, timer_id: &str) -> bool {
    let mut earlier = cx.timer.timers.iter().rev();
    match earlier.find(|(id, _)| *id == timer_id) {
        Some((_, running)) => *running,
        None => cx.ms.timers.contains_key(timer_id),
    }
}

pub(super) fn write(
    mut a: StartTimerCommandAttributes,
    cx: &mut Write<'_, '_>,
) -> Result<(), Refusal> {
    cap_duration(a.start_to_fire_timeout.as_mut());
    cx.write(Attributes::TimerStartedEventAttributes(
        TimerStartedEventAttributes {
            timer_id: a.timer_id,
            start_to_fire_timeout: a.start_to_fire_timeout,
            workflow_task_completed_event_id: cx.completed,
        },
    ))
    .map(|_| ())
}
