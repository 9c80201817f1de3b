//! The tasks that signals to other runs owe.

use crate::{MutableState, component::PendingTasks, task::TaskKind};

pub(super) fn is_pending(ms: &MutableState, kind: &TaskKind) -> bool {
    let TaskKind::SignalExternal { initiated_event_id } = kind else {
        return false;
    };
    ms.is_running() && ms.external_signals.contains_key(initiated_event_id)
}

pub(super) fn pending_tasks(ms: &MutableState, pending: &mut PendingTasks<'_>) {
    if !ms.is_running() {
        return;
    }
    for signal in ms.external_signals.values() {
        let initiated_event_id = signal.initiated_event_id;
        pending.add(
            signal.version,
            None,
            TaskKind::SignalExternal { initiated_event_id },
        );
    }
}
