//! Applying the events of signals and attached starts.

use proto_messages::temporal::api::history::v1::{
    HistoryEvent, WorkflowExecutionOptionsUpdatedEventAttributes,
    WorkflowExecutionSignaledEventAttributes,
};

use super::{KIND, attach::attached_key};
use crate::{
    MutableState,
    apply::Scope,
    event::Attributes,
    transition::{Corrupt, ItemKey},
};

pub(super) fn apply(
    ms: &mut MutableState,
    _: &HistoryEvent,
    attributes: &Attributes,
    scope: &mut Scope<'_>,
) -> Result<(), Corrupt> {
    use Attributes as A;
    match attributes {
        A::WorkflowExecutionSignaledEventAttributes(a) => ms.signaled(a, scope),
        A::WorkflowExecutionOptionsUpdatedEventAttributes(a) => ms.options_updated(a, scope),
        _ => {}
    }
    Ok(())
}

impl MutableState {
    fn signaled(&mut self, a: &WorkflowExecutionSignaledEventAttributes, scope: &mut Scope<'_>) {
        self.execution_info.signal_count += 1;
        if !a.request_id.is_empty() {
            self.remember_request(a.request_id.clone(), scope);
        }
    }

    fn options_updated(
        &mut self,
        a: &WorkflowExecutionOptionsUpdatedEventAttributes,
        scope: &mut Scope<'_>,
    ) {
        if !a.attached_request_id.is_empty() {
            self.remember_request(attached_key(&a.attached_request_id), scope);
        }
    }

    fn remember_request(&mut self, id: String, scope: &mut Scope<'_>) {
        self.signal_request_ids.0.insert(id.clone());
        scope.touch(ItemKey::text(KIND, id));
    }
}
