//! The tasks that the workflow task owes.

use proto_ids::{EventId, Timestamp};

use crate::{
    MutableState,
    component::PendingTasks,
    task::{TaskKind, Timeout},
};

pub(super) fn is_pending(ms: &MutableState, kind: &TaskKind) -> bool {
    match *kind {
        TaskKind::WorkflowTask {
            scheduled_event_id,
            attempt,
        } => ms.has_attempt(scheduled_event_id, attempt, false),
        TaskKind::WorkflowTaskTimeout {
            scheduled_event_id,
            attempt,
            timeout,
        } => ms.has_attempt(
            scheduled_event_id,
            attempt,
            timeout == Timeout::StartToClose,
        ),
        _ => false,
    }
}

pub(super) fn pending_tasks(ms: &MutableState, pending: &mut PendingTasks<'_>) {
    let Some(task) = ms
        .execution_info
        .workflow_task
        .as_ref()
        .filter(|_| ms.is_running())
    else {
        return;
    };
    let (scheduled_event_id, attempt) = (task.scheduled_event_id, task.attempt);
    if task.started_event_id != EventId::default() {
        let timeout = Timeout::StartToClose;
        let at = task.started_time.plus(task.timeout);
        let kind = TaskKind::WorkflowTaskTimeout {
            scheduled_event_id,
            attempt,
            timeout,
        };
        pending.add(task.version, Some(at), kind);
        return;
    }
    let kind = TaskKind::WorkflowTask {
        scheduled_event_id,
        attempt,
    };
    pending.add(task.version, None, kind);
    if let Some(at) = ms.sticky_deadline() {
        let timeout = Timeout::ScheduleToStart;
        let kind = TaskKind::WorkflowTaskTimeout {
            scheduled_event_id,
            attempt,
            timeout,
        };
        pending.add(task.version, Some(at), kind);
    }
}

impl MutableState {
    /// Whether this attempt of the workflow task is the pending one, started or not as told.
    fn has_attempt(&self, scheduled_event_id: EventId, attempt: i32, started: bool) -> bool {
        self.execution_info.workflow_task.as_ref().is_some_and(|t| {
            t.scheduled_event_id == scheduled_event_id
                && t.attempt == attempt
                && started == (t.started_event_id != EventId::default())
        })
    }

    /// Until when a workflow task on the sticky queue may wait there.
    pub(super) fn sticky_deadline(&self) -> Option<Timestamp> {
        let task = self
            .execution_info
            .workflow_task
            .as_ref()
            .filter(|t| t.sticky)?;
        let sticky = self.execution_info.sticky.as_ref()?;
        (!sticky.schedule_to_start_timeout.is_zero())
            .then(|| task.scheduled_time.plus(sticky.schedule_to_start_timeout))
    }
}
