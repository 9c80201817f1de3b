//! The rules that always hold of a run between two decisions, and that a refused request left no trace. Debug builds look at
//! both ends of each path: before a request is decided and after, after a batch was applied. A broken rule shows
//! where it broke then, not in what was built on it.

use std::hash::{DefaultHasher, Hash, Hasher};

use proto_ids::EventId;

use crate::{MutableState, component, transition::Delta};

impl MutableState {
    /// The first rule that does not hold, in words; `None` for a run that is as it should be.
    pub fn broken_invariant(&self) -> Option<&'static str> {
        if self.versions.histories.is_empty() {
            return Some("a run has a history");
        }
        let last = self.versions.current().last();
        if last.is_some_and(|last| last.event_id.next() != self.execution_info.next_event_id) {
            return Some("the current branch ends with the last event");
        }
        component::all()
            .iter()
            .find_map(|component| (component.broken)(self))
    }

    /// Panics in debug builds when a rule does not hold.
    pub(crate) fn assert_invariants(&self, when: &str) {
        debug_assert!(
            self.broken_invariant().is_none(),
            "{when}, {} is not as it should be: {}",
            self.key,
            self.broken_invariant().unwrap_or_default(),
        );
    }

    /// A digest of the whole state, to tell whether anything changed. It holds within one process only.
    pub fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.encode_execution_info().hash(&mut hasher);
        self.encode_start().hash(&mut hasher);
        let all = Delta {
            replaced: true,
            ..Delta::default()
        };
        for row in self.encode_items(&all) {
            (row.kind, row.id, row.value).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// The digest where debug builds will want to compare it, else nothing.
    pub(crate) fn mark(&self) -> Option<u64> {
        cfg!(debug_assertions).then(|| self.digest())
    }

    /// Panics in debug builds when the state is not the one that was marked.
    pub(crate) fn assert_unchanged(&self, mark: Option<u64>, by: &str) {
        debug_assert!(
            mark.is_none_or(|before| before == self.digest()),
            "{by} left a trace in {}",
            self.key,
        );
    }
}

/// Whether an event id is one that history holds, or that is unset.
pub(crate) fn is_written(ms: &MutableState, id: EventId) -> bool {
    id < ms.execution_info.next_event_id
}
