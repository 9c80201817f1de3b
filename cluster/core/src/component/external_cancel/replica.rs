//! Cancels of other runs as other clusters and tools see them.

use proto_messages::temporal::server::api::persistence::v1 as wire;

use crate::MutableState;

pub(super) fn replicate(ms: &MutableState, to: &mut wire::WorkflowMutableState) {
    let infos = ms.external_cancels.iter().map(|(id, cancel)| {
        let info = wire::RequestCancelInfo {
            version: cancel.version.get(),
            initiated_event_batch_id: cancel.initiated_batch_id.get(),
            cancel_request_id: cancel.request_id.clone(),
            initiated_event_id: cancel.initiated_event_id.get(),
            ..wire::RequestCancelInfo::default()
        };
        (id.get(), info)
    });
    to.request_cancel_infos = infos.collect();
}
