//! Signals to other runs as other clusters and tools see them.

use proto_messages::temporal::server::api::persistence::v1 as wire;

use crate::MutableState;

pub(super) fn replicate(ms: &MutableState, to: &mut wire::WorkflowMutableState) {
    let infos = ms.external_signals.iter().map(|(id, signal)| {
        let info = wire::SignalInfo {
            version: signal.version.get(),
            initiated_event_batch_id: signal.initiated_batch_id.get(),
            request_id: signal.request_id.clone(),
            initiated_event_id: signal.initiated_event_id.get(),
            ..wire::SignalInfo::default()
        };
        (id.get(), info)
    });
    to.signal_infos = infos.collect();
}
