//! State of the run that no event tells, as another cluster tells it. That of an activity stands with activities.

use std::collections::BTreeSet;

use proto_ids::RunId;

use crate::{MutableState, transition::Delta};

/// State of a run that no event records. Each part is valid on every branch of the run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NonHistoryState {
    /// Request id of the call that started it; empty when unknown.
    pub create_request_id: String,
    /// Request id of the call that asked to cancel it; empty for none, or unknown.
    pub cancel_request_id: String,
    /// The run that a reset put in its place; empty for none.
    pub reset_run_id: RunId,
    /// Events of losing branches and runs that it was given: (run, event id, version).
    pub reapplied: BTreeSet<(RunId, i64, i64)>,
}

impl MutableState {
    /// Takes over state that no event records; what is known here already stays. `None` when nothing
    /// changed.
    pub fn sync_non_history(&mut self, non_history: NonHistoryState) -> Option<Delta> {
        let mut delta = Delta::default();
        let mut changed = false;
        if self.start.request_id.is_empty() && !non_history.create_request_id.is_empty() {
            self.start.request_id = non_history.create_request_id;
            delta.start = true;
        }
        // Only where the request itself is part of the history.
        if let Some(known) = &mut self.execution_info.cancel_request
            && known.is_empty()
            && !non_history.cancel_request_id.is_empty()
        {
            *known = non_history.cancel_request_id;
            changed = true;
        }
        if !non_history.reset_run_id.is_empty()
            && non_history.reset_run_id != self.execution_info.reset_run_id
        {
            self.execution_info.reset_run_id = non_history.reset_run_id;
            changed = true;
        }
        let before = self.execution_info.reapplied.len();
        self.execution_info.reapplied.extend(non_history.reapplied);
        changed |= self.execution_info.reapplied.len() != before;
        (changed || delta.start).then_some(delta)
    }

    /// Takes over what belongs to the run whatever its branch, from the state that another branch of it led to.
    pub fn carry_over(&mut self, other: MutableState) {
        let count = other.execution_info.state_transition_count + 1;
        let info = &mut self.execution_info;
        info.zombie = other.execution_info.zombie;
        info.state_transition_count = info.state_transition_count.max(count);
        self.sync_non_history(NonHistoryState {
            create_request_id: other.start.request_id,
            cancel_request_id: other.execution_info.cancel_request.unwrap_or_default(),
            reset_run_id: other.execution_info.reset_run_id,
            reapplied: other.execution_info.reapplied,
        });
    }

    /// Makes an open run a zombie: another run of its workflow id has its place. False when nothing changed.
    pub fn suppress(&mut self) -> bool {
        self.is_running() && !std::mem::replace(&mut self.execution_info.zombie, true)
    }

    /// Lets a zombie live again, with everything that is pending. False when it was none.
    pub fn revive(&mut self) -> bool {
        std::mem::take(&mut self.execution_info.zombie)
    }
}
