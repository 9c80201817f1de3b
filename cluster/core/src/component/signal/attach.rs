//! A start that found the run open attaches itself: its request id, so that its repetition is recognised, and
//! its links. It needs no workflow task.

use proto_messages::temporal::api::{
    common::v1::Link, history::v1::WorkflowExecutionOptionsUpdatedEventAttributes,
};

use crate::{MutableState, Refusal, Reply, decision::Decision, event::Attributes};

/// Attached ids are kept with those of signals, in a namespace of their own: signal-with-start signals under
/// the id that it starts with.
const PREFIX: &str = "start:";

/// The key under which an attached request id is kept.
pub(super) fn attached_key(request_id: &str) -> String {
    format!("{PREFIX}{request_id}")
}

impl MutableState {
    /// Whether a start with this request id has attached itself to the run.
    pub fn has_attached(&self, request_id: &str) -> bool {
        !request_id.is_empty() && self.signal_request_ids.contains(&attached_key(request_id))
    }
}

pub(crate) fn attach(
    decision: &mut Decision<'_>,
    request_id: String,
    links: Vec<Link>,
) -> Result<(), Refusal> {
    if decision.ms.has_attached(&request_id) {
        decision.reply = Reply::Duplicate;
        return Ok(());
    }
    decision.ms.check_room(decision.ctx.limits)?;
    record_attached(decision, request_id, links)
}

/// The same, for a run that takes the place of the one to which it was attached.
pub(crate) fn record_attached(
    decision: &mut Decision<'_>,
    request_id: String,
    links: Vec<Link>,
) -> Result<(), Refusal> {
    let is_nothing = request_id.is_empty() && links.is_empty();
    if is_nothing || decision.ms.has_attached(&request_id) {
        return Ok(());
    }
    let mut event = decision.event(Attributes::WorkflowExecutionOptionsUpdatedEventAttributes(
        WorkflowExecutionOptionsUpdatedEventAttributes {
            attached_request_id: request_id,
            ..Default::default()
        },
    ));
    event.links = links;
    decision.record_event(event)
}
