//! Applying the events of signals to other runs.

use proto_ids::{EventId, FailoverVersion};
use proto_messages::temporal::api::history::v1::{
    HistoryEvent, SignalExternalWorkflowExecutionInitiatedEventAttributes,
};

use super::{SignalInfo, item_key};
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
        A::SignalExternalWorkflowExecutionInitiatedEventAttributes(a) => {
            ms.external_signal_initiated(event, a, scope)
        }
        A::SignalExternalWorkflowExecutionFailedEventAttributes(a) => {
            ms.external_signal_ended(event, a.initiated_event_id, scope)?
        }
        A::ExternalWorkflowExecutionSignaledEventAttributes(a) => {
            ms.external_signal_ended(event, a.initiated_event_id, scope)?
        }
        _ => {}
    }
    Ok(())
}

impl MutableState {
    #[expect(deprecated, reason = "older SDKs match results by it")]
    fn external_signal_initiated(
        &mut self,
        event: &HistoryEvent,
        a: &SignalExternalWorkflowExecutionInitiatedEventAttributes,
        scope: &mut Scope<'_>,
    ) {
        let id = EventId::new(event.event_id);
        let signal = SignalInfo {
            version: FailoverVersion::new(event.version),
            initiated_event_id: id,
            initiated_batch_id: scope.batch_first,
            namespace: a.namespace.clone(),
            namespace_id: a.namespace_id.clone(),
            target: a.workflow_execution.clone().unwrap_or_default(),
            control: a.control.clone(),
            request_id: request_id_of(&self.key, event),
        };
        self.external_signals.0.insert(id, signal);
        scope.now(
            event,
            TaskKind::SignalExternal {
                initiated_event_id: id,
            },
        );
        scope.touch(item_key(&id));
    }

    fn external_signal_ended(
        &mut self,
        event: &HistoryEvent,
        initiated_event_id: i64,
        scope: &mut Scope<'_>,
    ) -> Result<(), Corrupt> {
        let id = EventId::new(initiated_event_id);
        if self.external_signals.0.remove(&id).is_none() {
            return Err(corrupt(event, "its signal is not pending"));
        }
        scope.touch(item_key(&id));
        Ok(())
    }
}
