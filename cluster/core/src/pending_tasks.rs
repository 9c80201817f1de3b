//! The pending tasks of a run, generated from its mutable state alone. The applier asks the same questions to
//! drop tasks whose reason has gone, so a task is either pending here or not worth storing. Each component
//! answers for its own.

use crate::{
    Limits, MutableState,
    component::{self, PendingTasks, close},
    task::{Task, TaskKind},
};

impl MutableState {
    /// Generates every pending task from mutable state: after reset, import, a change of shard owner or a lost outbox.
    pub fn pending_tasks(&self, limits: &Limits) -> Vec<Task> {
        if self.execution_info.zombie {
            // A zombie run is kept, but has no pending tasks until it wins, or its retention has passed.
            return match self.is_running() {
                true => Vec::new(),
                false => vec![close::retention(self, limits)],
            };
        }
        let mut pending = PendingTasks {
            limits,
            last_version: self.last_version(),
            tasks: Vec::new(),
        };
        pending.add(pending.last_version, None, TaskKind::Visibility);
        for component in component::all() {
            (component.pending_tasks)(self, &mut pending);
        }
        pending.tasks
    }

    /// Whether a task is still pending: the reason for it still stands.
    pub fn is_pending(&self, kind: &TaskKind) -> bool {
        // What needs no reason in the state (visibility, replication, deletion) is owed whenever it is made.
        component::of_task(kind.task_type())
            .is_none_or(|component| (component.is_pending)(self, kind))
    }
}
