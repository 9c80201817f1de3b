//! RequestCancelActivityTask: an activity that is not started is cancelled at once.

use proto_ids::EventId;
use proto_messages::temporal::api::{
    command::v1::RequestCancelActivityTaskCommandAttributes,
    common::v1::{Payload, Payloads},
    enums::v1::WorkflowTaskFailedCause as Cause,
    history::v1::{
        ActivityTaskCancelRequestedEventAttributes, ActivityTaskCanceledEventAttributes,
        HistoryEvent,
    },
};

use crate::{
    Refusal,
    command::{Check, CommandError, Write},
    event::Attributes,
};

const BAD: Cause = Cause::BadRequestCancelActivityAttributes;

pub(super) fn check<'a>(
    a: &'a RequestCancelActivityTaskCommandAttributes,
    cx: &mut Check<'a>,
) -> Result<(), CommandError> {
    let id = a.scheduled_event_id;
    if id <= 0 {
        return Err(CommandError::new(
            BAD,
            "ScheduledEventId is not set on RequestCancelActivityTaskCommand.",
        ));
    }
    let known = match cx.ms.activities.get(&EventId::new(id)) {
        Some(activity) => activity.cancel_requested_event_id == EventId::default(),
        // It may be scheduled by an earlier command, or its result may wait in the buffer.
        None => {
            cx.activity.events.contains(&id) || cx.ms.buffered.iter().any(|e| is_result_of(e, id))
        }
    };
    if !known || cx.activity.cancelled.contains(&id) {
        let text =
            format!("activity with scheduled event ID {id} is not pending or already canceled.");
        return Err(CommandError::new(BAD, text));
    }
    cx.activity.cancelled.push(id);
    Ok(())
}

fn is_result_of(event: &HistoryEvent, scheduled_event_id: i64) -> bool {
    use Attributes as A;
    match &event.attributes {
        Some(A::ActivityTaskCompletedEventAttributes(a)) => {
            a.scheduled_event_id == scheduled_event_id
        }
        Some(A::ActivityTaskFailedEventAttributes(a)) => a.scheduled_event_id == scheduled_event_id,
        Some(A::ActivityTaskTimedOutEventAttributes(a)) => {
            a.scheduled_event_id == scheduled_event_id
        }
        Some(A::ActivityTaskCanceledEventAttributes(a)) => {
            a.scheduled_event_id == scheduled_event_id
        }
        _ => false,
    }
}

/// The event of an activity that was cancelled before a worker took it.
fn not_started() -> Payloads {
    let payload = Payload {
        metadata: [("encoding".to_owned(), "json/plain".into())].into(),
        data: "\"ACTIVITY_ID_NOT_STARTED\"".into(),
        ..Default::default()
    };
    Payloads {
        payloads: vec![payload],
    }
}

pub(super) fn write(
    a: RequestCancelActivityTaskCommandAttributes,
    cx: &mut Write<'_, '_>,
) -> Result<(), Refusal> {
    let requested = cx.write(Attributes::ActivityTaskCancelRequestedEventAttributes(
        ActivityTaskCancelRequestedEventAttributes {
            scheduled_event_id: a.scheduled_event_id,
            workflow_task_completed_event_id: cx.completed,
        },
    ))?;
    let waits = cx
        .decision
        .ms
        .activities
        .get(&EventId::new(a.scheduled_event_id))
        .is_some_and(|activity| !activity.is_started());
    if !waits {
        return Ok(());
    }
    // After the events of all commands, whose ids the worker counts on.
    cx.decision
        .buffer(Attributes::ActivityTaskCanceledEventAttributes(
            ActivityTaskCanceledEventAttributes {
                details: Some(not_started()),
                latest_cancel_requested_event_id: requested.get(),
                scheduled_event_id: a.scheduled_event_id,
                identity: cx.identity.to_owned(),
                ..Default::default()
            },
        ))?;
    cx.done.needs_workflow_task = true;
    Ok(())
}
