//! Signals, the request to cancel, and starts that attached themselves.

use proto_messages::temporal::api::history::v1::{
    WorkflowExecutionOptionsUpdatedEventAttributes, WorkflowExecutionSignaledEventAttributes,
};

use super::Scope;
use crate::{MutableState, request::attached_key, transition::ItemKey};

impl MutableState {
    pub(super) fn signaled(
        &mut self,
        a: &WorkflowExecutionSignaledEventAttributes,
        scope: &mut Scope<'_>,
    ) {
        self.execution_info.signal_count += 1;
        if !a.request_id.is_empty() {
            self.remember_request(a.request_id.clone(), scope);
        }
    }

    pub(super) fn options_updated(
        &mut self,
        a: &WorkflowExecutionOptionsUpdatedEventAttributes,
        scope: &mut Scope<'_>,
    ) {
        if !a.attached_request_id.is_empty() {
            self.remember_request(attached_key(&a.attached_request_id), scope);
        }
    }

    fn remember_request(&mut self, id: String, scope: &mut Scope<'_>) {
        self.signal_request_ids.insert(id.clone());
        scope.touch(ItemKey::SignalRequestId(id));
    }

    /// The request id is not part of the event; a live request adds it afterwards.
    pub(super) fn cancel_requested(&mut self) {
        self.execution_info.cancel_request.get_or_insert_default();
    }
}
