//! The tasks that cancels of other runs owe.

use crate::{MutableState, component::PendingTasks, task::TaskKind};

pub(super) fn is_pending(ms: &MutableState, kind: &TaskKind) -> bool {
    let TaskKind::CancelExternal { initiated_event_id } = kind else {
        return false;
    };
    ms.is_running() && ms.external_cancels.contains_key(initiated_event_id)
}

pub(super) fn pending_tasks(ms: &MutableState, pending: &mut PendingTasks<'_>) {
    if !ms.is_running() {
        return;
    }
    for cancel in ms.external_cancels.values() {
        let initiated_event_id = cancel.initiated_event_id;
        pending.add(
            cancel.version,
            None,
            TaskKind::CancelExternal { initiated_event_id },
        );
    }
}
