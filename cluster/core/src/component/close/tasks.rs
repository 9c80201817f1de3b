//! The tasks that a closed run owes.

use crate::{
    Limits, MutableState,
    component::PendingTasks,
    task::{Task, TaskKind},
};

pub(super) fn is_pending(ms: &MutableState, _: &TaskKind) -> bool {
    !ms.is_running()
}

pub(super) fn pending_tasks(ms: &MutableState, pending: &mut PendingTasks<'_>) {
    if ms.is_running() {
        return;
    }
    pending.add(pending.last_version, None, TaskKind::Close);
    pending.tasks.push(retention(ms, pending.limits));
}

/// The task that removes the closed run in the end.
pub(crate) fn retention(ms: &MutableState, limits: &Limits) -> Task {
    let at = ms.execution_info.close_time.plus(limits.retention);
    Task {
        version: ms.last_version(),
        fire_at: Some(at),
        kind: TaskKind::Retention,
    }
}
