//! What a transaction changed in memory and did not stage: nothing of a decision that was given up half-way may
//! be seen by the next one.

use cluster_core::Workflow;
use proto_ids::RunId;

/// A run as it was when it was handed out to be changed. What is compared in production costs nothing; debug
/// builds compare the whole state.
pub(super) struct HandedOut {
    pub(super) run_id: RunId,
    marks: [i64; 6],
    #[cfg(debug_assertions)]
    before: Workflow,
}

impl HandedOut {
    pub(super) fn new(workflow: &Workflow) -> Self {
        Self {
            run_id: workflow.key.run_id.clone(),
            marks: marks(workflow),
            #[cfg(debug_assertions)]
            before: workflow.clone(),
        }
    }

    pub(super) fn is_changed(&self, workflow: &Workflow) -> bool {
        #[cfg(debug_assertions)]
        if self.before != *workflow {
            return true;
        }
        self.marks != marks(workflow)
    }
}

/// Numbers that a change of a run moves.
fn marks(workflow: &Workflow) -> [i64; 6] {
    let pending = workflow.activities.len()
        + workflow.timers.len()
        + workflow.children.len()
        + workflow.external_cancels.len()
        + workflow.external_signals.len();
    let hot = &workflow.hot;
    [
        hot.next_event_id.get(),
        hot.history_size,
        hot.state_transition_count,
        hot.signal_count,
        workflow.buffered.len() as i64,
        pending as i64,
    ]
}
