//! Signals and cancel requests that a losing branch of history held are delivered again here.

use proto_ids::RunId;
use proto_messages::temporal::api::history::v1::{
    HistoryEvent, WorkflowExecutionTerminatedEventAttributes,
};

use super::terminate;
use crate::{Refusal, Reply, event::Attributes, limits::SERVER, turn::Turn};

pub(super) fn reapply(
    turn: &mut Turn<'_>,
    run_id: &RunId,
    events: Vec<HistoryEvent>,
) -> Result<(), Refusal> {
    let mut applied = false;
    for mut event in events {
        if !turn.wf.is_running() {
            break;
        }
        let key = (run_id.clone(), event.event_id, event.version);
        if turn.wf.hot.reapplied.contains(&key) {
            continue;
        }
        let delivered = match event.attributes.take() {
            Some(Attributes::WorkflowExecutionTerminatedEventAttributes(a)) => {
                terminate_again(turn, a)?
            }
            attributes => deliver_again(
                turn,
                HistoryEvent {
                    attributes,
                    ..event
                },
            )?,
        };
        if delivered {
            turn.wf.hot.reapplied.insert(key);
            turn.change();
            applied = true;
        }
    }
    if !applied {
        turn.reply = Reply::Duplicate;
        return Ok(());
    }
    turn.schedule()
}

/// A termination somebody asked for holds on this branch as well; one by the server itself does not.
fn terminate_again(
    turn: &mut Turn<'_>,
    a: WorkflowExecutionTerminatedEventAttributes,
) -> Result<bool, Refusal> {
    if a.identity == SERVER {
        return Ok(false);
    }
    terminate::terminate(turn, a.reason, a.details, a.identity)?;
    Ok(true)
}

/// Records an event of another branch as if it arrived now. Returns whether it is one that can be.
pub(crate) fn deliver_again(turn: &mut Turn<'_>, event: HistoryEvent) -> Result<bool, Refusal> {
    match event.attributes {
        Some(attributes @ Attributes::WorkflowExecutionSignaledEventAttributes(_)) => {
            if let Attributes::WorkflowExecutionSignaledEventAttributes(a) = &attributes
                && !a.request_id.is_empty()
                && turn.wf.signal_request_ids.contains(&a.request_id)
            {
                return Ok(false);
            }
            let mut again = turn.event(attributes);
            again.links = event.links;
            again.user_metadata = event.user_metadata;
            turn.record_event(again)?;
            Ok(true)
        }
        Some(attributes @ Attributes::WorkflowExecutionCancelRequestedEventAttributes(_))
            if turn.wf.hot.cancel_request.is_none() =>
        {
            turn.record(attributes)?;
            Ok(true)
        }
        _ => Ok(false),
    }
}
