//! Signals and cancel requests to other runs.

use proto_ids::{EventId, FailoverVersion, RunKey};
use proto_messages::temporal::api::history::v1::{
    HistoryEvent, RequestCancelExternalWorkflowExecutionInitiatedEventAttributes,
    SignalExternalWorkflowExecutionInitiatedEventAttributes,
};

use super::Scope;
use crate::{
    MutableState,
    event::corrupt,
    mutable_state::{RequestCancelInfo, SignalInfo},
    task::TaskKind,
    transition::{Corrupt, ItemKey},
};

impl MutableState {
    pub(super) fn external_cancel_initiated(
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
        self.external_cancels.insert(id, cancel);
        scope.now(
            event,
            TaskKind::CancelExternal {
                initiated_event_id: id,
            },
        );
        scope.touch(ItemKey::ExternalCancel(id));
    }

    pub(super) fn external_cancel_ended(
        &mut self,
        event: &HistoryEvent,
        initiated_event_id: i64,
        scope: &mut Scope<'_>,
    ) -> Result<(), Corrupt> {
        let id = EventId::new(initiated_event_id);
        if self.external_cancels.remove(&id).is_none() {
            return Err(corrupt(event, "its cancel request is not pending"));
        }
        scope.touch(ItemKey::ExternalCancel(id));
        Ok(())
    }

    #[expect(deprecated, reason = "older SDKs match results by it")]
    pub(super) fn external_signal_initiated(
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
        self.external_signals.insert(id, signal);
        scope.now(
            event,
            TaskKind::SignalExternal {
                initiated_event_id: id,
            },
        );
        scope.touch(ItemKey::ExternalSignal(id));
    }

    pub(super) fn external_signal_ended(
        &mut self,
        event: &HistoryEvent,
        initiated_event_id: i64,
        scope: &mut Scope<'_>,
    ) -> Result<(), Corrupt> {
        let id = EventId::new(initiated_event_id);
        if self.external_signals.remove(&id).is_none() {
            return Err(corrupt(event, "its signal is not pending"));
        }
        scope.touch(ItemKey::ExternalSignal(id));
        Ok(())
    }
}

/// The request id used towards another run: derived from the event, so that the same event carried out
/// again, by this cluster or after a failover by another one, is recognised by the target.
pub(super) fn request_id_of(key: &RunKey, event: &HistoryEvent) -> String {
    format!("{}-{}-{}", key.run_id, event.event_id, event.version)
}
