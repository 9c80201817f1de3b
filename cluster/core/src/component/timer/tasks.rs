//! The tasks that timers owe.

use crate::{MutableState, component::PendingTasks, task::TaskKind};

/// One task fires all timers that are due, so any is good while the run is open.
pub(super) fn is_pending(ms: &MutableState, _: &TaskKind) -> bool {
    ms.is_running()
}

pub(super) fn pending_tasks(ms: &MutableState, pending: &mut PendingTasks<'_>) {
    if !ms.is_running() {
        return;
    }
    for timer in ms.timers.values() {
        let kind = TaskKind::UserTimer {
            started_event_id: timer.started_event_id,
        };
        pending.add(timer.version, Some(timer.expiry), kind);
    }
}
