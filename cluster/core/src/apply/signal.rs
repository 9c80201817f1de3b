//! Signals and the request to cancel.

use proto_messages::temporal::api::history::v1::WorkflowExecutionSignaledEventAttributes;

use super::Scope;
use crate::{Workflow, outcome::ItemKey};

impl Workflow {
    pub(super) fn signaled(
        &mut self,
        a: &WorkflowExecutionSignaledEventAttributes,
        scope: &mut Scope<'_>,
    ) {
        self.hot.signal_count += 1;
        if !a.request_id.is_empty() {
            self.signal_request_ids.insert(a.request_id.clone());
            scope.touch(ItemKey::SignalRequestId(a.request_id.clone()));
        }
    }

    /// The request id is not part of the event; a live request adds it afterwards.
    pub(super) fn cancel_requested(&mut self) {
        self.hot.cancel_request.get_or_insert_default();
    }
}
