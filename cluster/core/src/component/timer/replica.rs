//! Timers as other clusters and tools see them.

use proto_messages::temporal::server::api::persistence::v1 as wire;

use crate::{MutableState, replica::at};

pub(super) fn replicate(ms: &MutableState, to: &mut wire::WorkflowMutableState) {
    let infos = ms.timers.iter().map(|(id, timer)| {
        let info = wire::TimerInfo {
            version: timer.version.get(),
            started_event_id: timer.started_event_id.get(),
            expiry_time: at(timer.expiry),
            timer_id: timer.timer_id.clone(),
            ..wire::TimerInfo::default()
        };
        (id.clone(), info)
    });
    to.timer_infos = infos.collect();
}
