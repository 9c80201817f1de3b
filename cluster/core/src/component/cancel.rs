//! The request to cancel the run. The workflow decides what becomes of it.

mod request;

use proto_messages::temporal::{
    api::{enums::v1::EventType, history::v1::HistoryEvent},
    server::api::persistence::v1::WorkflowMutableState,
};

pub(crate) use self::request::{Cancel, cancel};
use super::Component;
use crate::{MutableState, apply::Scope, event::Attributes, transition::Corrupt};

pub(super) const COMPONENT: Component = Component {
    events: &[EventType::WorkflowExecutionCancelRequested],
    apply,
    replicate,
    ..Component::NONE
};

/// The request id is not part of the event; a live request adds it afterwards.
fn apply(
    ms: &mut MutableState,
    _: &HistoryEvent,
    _: &Attributes,
    _: &mut Scope<'_>,
) -> Result<(), Corrupt> {
    ms.execution_info.cancel_request.get_or_insert_default();
    Ok(())
}

fn replicate(ms: &MutableState, to: &mut WorkflowMutableState) {
    let info = to.execution_info.get_or_insert_default();
    info.cancel_requested = ms.execution_info.cancel_request.is_some();
    info.cancel_request_id = ms.execution_info.cancel_request.clone().unwrap_or_default();
}
