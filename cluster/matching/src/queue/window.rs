//! The window on a queue's durable backlog: what was read, what is still open, what may go.

use std::collections::BTreeSet;

use proto_ids::{RangeId, TaskId};

/// The durable backlog as this process sees it.
#[derive(Debug)]
pub(super) struct Backlog {
    pub(super) range: RangeId,
    /// Next id to give.
    pub(super) next_id: TaskId,
    /// Tasks up to here were read or pushed into memory.
    pub(super) read: TaskId,
    /// Highest id that is durable.
    pub(super) durable: TaskId,
    /// Read and not settled.
    pub(super) open: BTreeSet<TaskId>,
    /// The level that was stored last.
    pub(super) acked: TaskId,
}

impl Backlog {
    pub(super) fn settled_below(&self) -> TaskId {
        match self.open.first() {
            Some(first) => TaskId::new(first.get() - 1),
            None => self.read,
        }
    }
}
