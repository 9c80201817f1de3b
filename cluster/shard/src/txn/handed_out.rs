//! Runs that a transaction changed in memory and did not stage: nothing of a decision that was given up half-way may
//! be seen by the next one.

use cluster_core::MutableState;
use proto_ids::RunId;

/// A run as it was when it was handed out to be changed. What is compared in production costs nothing; debug
/// builds compare the whole state.
pub(super) struct HandedOut {
    pub(super) run_id: RunId,
    marks: [i64; 6],
    #[cfg(debug_assertions)]
    before: MutableState,
}

impl HandedOut {
    pub(super) fn new(ms: &MutableState) -> Self {
        Self {
            run_id: ms.key.run_id.clone(),
            marks: marks(ms),
            #[cfg(debug_assertions)]
            before: ms.clone(),
        }
    }

    pub(super) fn is_changed(&self, ms: &MutableState) -> bool {
        #[cfg(debug_assertions)]
        if self.before != *ms {
            return true;
        }
        self.marks != marks(ms)
    }
}

/// Numbers that a change of a run moves.
fn marks(ms: &MutableState) -> [i64; 6] {
    let pending = ms.activities.len()
        + ms.timers.len()
        + ms.children.len()
        + ms.external_cancels.len()
        + ms.external_signals.len();
    let execution_info = &ms.execution_info;
    [
        execution_info.next_event_id.get(),
        execution_info.history_size,
        execution_info.state_transition_count,
        execution_info.signal_count,
        ms.buffered.len() as i64,
        pending as i64,
    ]
}
