//! Reapplication of events of a losing branch: signals, cancel requests, and terminations that the server did not
//! decide on by itself.

use proto_ids::RunId;
use proto_messages::temporal::api::history::v1::{
    HistoryEvent, WorkflowExecutionTerminatedEventAttributes,
};

use crate::{
    Refusal, Reply,
    component::close,
    decision::Decision,
    event::Attributes,
    limits::{RESETTER, SERVER},
};

/// Whether an event survives the loss of its branch: it came from outside and was acknowledged to its caller.
/// Everything else on a losing branch is work that the winner does in its own way; so is the end of a run
/// that the server or a reset terminated.
pub fn is_reappliable(event: &HistoryEvent) -> bool {
    match &event.attributes {
        Some(
            Attributes::WorkflowExecutionSignaledEventAttributes(_)
            | Attributes::WorkflowExecutionCancelRequestedEventAttributes(_),
        ) => true,
        Some(Attributes::WorkflowExecutionTerminatedEventAttributes(a)) => {
            a.identity != SERVER && a.identity != RESETTER
        }
        _ => false,
    }
}

pub(super) fn reapply(
    decision: &mut Decision<'_>,
    run_id: &RunId,
    events: Vec<HistoryEvent>,
) -> Result<(), Refusal> {
    let mut applied = false;
    for event in events {
        if !decision.ms.is_running() {
            break;
        }
        let key = (run_id.clone(), event.event_id, event.version);
        if !is_reappliable(&event) || decision.ms.execution_info.reapplied.contains(&key) {
            continue;
        }
        applied |= match event.attributes {
            Some(Attributes::WorkflowExecutionTerminatedEventAttributes(a)) => {
                let WorkflowExecutionTerminatedEventAttributes {
                    reason,
                    details,
                    identity,
                } = a;
                close::terminate_linked(decision, reason, details, identity, event.links)?;
                true
            }
            attributes => reapply_event(
                decision,
                HistoryEvent {
                    attributes,
                    ..event
                },
            )?,
        };
        // What is here already (a signal by its request id, a request to cancel) is settled as well: it must
        // not reach a later run instead.
        decision.ms.execution_info.reapplied.insert(key);
        decision.change();
    }
    if !applied {
        decision.reply = Reply::Duplicate;
        return Ok(());
    }
    decision.schedule_workflow_task()
}

/// Records an event of another branch as if it arrived now. Returns whether it is one that can be.
pub(crate) fn reapply_event(
    decision: &mut Decision<'_>,
    event: HistoryEvent,
) -> Result<bool, Refusal> {
    let attributes = match event.attributes {
        Some(Attributes::WorkflowExecutionSignaledEventAttributes(a)) => {
            if !a.request_id.is_empty() && decision.ms.signal_request_ids.contains(&a.request_id) {
                return Ok(false);
            }
            Attributes::WorkflowExecutionSignaledEventAttributes(a)
        }
        Some(a @ Attributes::WorkflowExecutionCancelRequestedEventAttributes(_))
            if decision.ms.execution_info.cancel_request.is_none() =>
        {
            a
        }
        _ => return Ok(false),
    };
    let mut again = decision.event(attributes);
    again.links = event.links;
    again.user_metadata = event.user_metadata;
    decision.record_event(again)?;
    Ok(true)
}
