//! The tasks that the run as a whole owes while it is open.

use proto_ids::Timestamp;

use crate::{MutableState, component::PendingTasks, task::TaskKind};

pub(super) fn is_pending(ms: &MutableState, kind: &TaskKind) -> bool {
    let waits = || !ms.execution_info.first_workflow_task_scheduled;
    ms.is_running() && (*kind != TaskKind::WorkflowBackoff || waits())
}

pub(super) fn pending_tasks(ms: &MutableState, pending: &mut PendingTasks<'_>) {
    if !ms.is_running() {
        return;
    }
    let version = pending.last_version;
    if let Some((at, kind)) = ms.run_deadline() {
        pending.add(version, Some(at), kind);
    }
    let start = &ms.start;
    if !ms.execution_info.first_workflow_task_scheduled && start.execution_time > start.start_time {
        pending.add(
            version,
            Some(start.execution_time),
            TaskKind::WorkflowBackoff,
        );
    }
}

impl MutableState {
    /// The earlier of the run timeout and the timeout over the whole chain.
    pub(crate) fn run_deadline(&self) -> Option<(Timestamp, TaskKind)> {
        let chain = self.start.execution_expiration;
        if self.start.run_timeout.is_zero() {
            return (!chain.is_zero()).then_some((chain, TaskKind::ExecutionTimeout));
        }
        let run = self.start.execution_time.plus(self.start.run_timeout);
        if !chain.is_zero() && chain <= run {
            return Some((chain, TaskKind::ExecutionTimeout));
        }
        Some((run, TaskKind::RunTimeout))
    }
}
