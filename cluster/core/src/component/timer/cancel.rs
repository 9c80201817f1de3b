//! CancelTimer: a timer that fired into the buffer is cancelled all the same, and its event taken back.

use proto_messages::temporal::api::{
    command::v1::CancelTimerCommandAttributes,
    enums::v1::WorkflowTaskFailedCause as Cause,
    history::v1::{HistoryEvent, TimerCanceledEventAttributes},
};

use super::start::has_timer;
use crate::{
    Refusal,
    command::{Check, CommandError, Write},
    component::buffer,
    event::Attributes,
};

const BAD: Cause = Cause::BadCancelTimerAttributes;

pub(super) fn check<'a>(
    a: &'a CancelTimerCommandAttributes,
    cx: &mut Check<'a>,
) -> Result<(), CommandError> {
    if a.timer_id.is_empty() {
        return Err(CommandError::new(
            BAD,
            "TimerId is not set on CancelTimerCommand.",
        ));
    }
    cx.length(BAD, "TimerId", &a.timer_id)?;
    if !has_timer(cx, &a.timer_id) {
        let touched = cx.timer.timers.iter().any(|(id, _)| *id == a.timer_id);
        if touched || fired(&cx.ms.buffered, &a.timer_id).is_none() {
            return Err(CommandError::new(
                BAD,
                format!("timer {} is not running.", a.timer_id),
            ));
        }
        cx.buffered_taken += 1;
    }
    cx.timer.timers.push((&a.timer_id, false));
    Ok(())
}

/// Where in the buffer a timer's firing waits.
pub(super) fn fired(buffered: &[HistoryEvent], timer_id: &str) -> Option<usize> {
    buffered.iter().position(|e| {
        matches!(&e.attributes,
            Some(Attributes::TimerFiredEventAttributes(a)) if a.timer_id == timer_id)
    })
}

pub(super) fn write(
    a: CancelTimerCommandAttributes,
    cx: &mut Write<'_, '_>,
) -> Result<(), Refusal> {
    let ms = &mut *cx.decision.ms;
    let started_event_id = match ms.timers.get(&a.timer_id) {
        Some(timer) => timer.started_event_id.get(),
        None => {
            let taken = fired(&ms.buffered, &a.timer_id).map(|i| ms.buffered.take_back(i));
            cx.decision.touch(buffer::item_key());
            match taken.and_then(|e| e.attributes) {
                Some(Attributes::TimerFiredEventAttributes(a)) => a.started_event_id,
                _ => 0,
            }
        }
    };
    cx.write(Attributes::TimerCanceledEventAttributes(
        TimerCanceledEventAttributes {
            timer_id: a.timer_id,
            started_event_id,
            workflow_task_completed_event_id: cx.completed,
            identity: String::new(),
        },
    ))
    .map(|_| ())
}
