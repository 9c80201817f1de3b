//! Applying the events of cancels of other runs.

use proto_ids::{EventId, FailoverVersion};
use proto_messages::temporal::api::history::v1::{
    HistoryEvent, RequestCancelExternalWorkflowExecutionInitiatedEventAttributes,
};

use super::{RequestCancelInfo, item_key};
use crate::{
    MutableState,
    apply::Scope,
    event::{Attributes, corrupt, request_id_of},
    task::TaskKind,
    transition::Corrupt,
};

pub(super) fn apply(
    ms: &mut MutableState,
    event: &HistoryEvent,
    attributes: &Attributes,
    scope: &mut Scope<'_>,
) -> Result<(), Corrupt> {
    use Attributes as A;
    match attributes {
        A::RequestCancelExternalWorkflowExecutionInitiatedEventAttributes(a) => {
            ms.external_cancel_initiated(event, a, scope)
        }
        A::RequestCancelExternalWorkflowExecutionFailedEventAttributes(a) => {
            ms.external_cancel_ended(event, a.initiated_event_id, scope)?
        }
        A::ExternalWorkflowExecutionCancelRequestedEventAttributes(a) => {
            ms.external_cancel_ended(event, a.initiated_event_id, scope)?
        }
        _ => {}
    }
    Ok(())
}

impl MutableState {
    fn external_cancel_initiated(
        &mut self,
        event: &HistoryEvent,
        a: &RequestCancelExternalWorkflowExecutionInitiatedEventAttributes,
        scope: &mut Scope<'_>,
    ) {
        let id = EventId::new(event.event_id);
        let cancel = RequestCancelInfo {
            version: FailoverVersion::new(event.version),
            initiated_event_id: id,
            initiated_batch_id: scope.batch_first,
            namespace: a.namespace.clone(),
            namespace_id: a.namespace_id.clone(),
            target: a.workflow_execution.clone().unwrap_or_default(),
            request_id: request_id_of(&self.key, event),
        };
        self.external_cancels.0.insert(id, cancel);
        scope.now(
            event,
            TaskKind::CancelExternal {
                initiated_event_id: id,
            },
        );
        scope.touch(item_key(&id));
    }

    fn external_cancel_ended(
        &mut self,
        event: &HistoryEvent,
        initiated_event_id: i64,
        scope: &mut Scope<'_>,
    ) -> Result<(), Corrupt> {
        let id = EventId::new(initiated_event_id);
        if self.external_cancels.0.remove(&id).is_none() {
            return Err(corrupt(event, "its cancel request is not pending"));
        }
        scope.touch(item_key(&id));
        Ok(())
    }
}
