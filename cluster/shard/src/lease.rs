//! Ownership of a shard as the store knows it, and the task ids that follow from it: the ids of a range
//! begin at `range << 20`, so they rise across owners without being stored. So do the numbers of decisions,
//! which order what is written before it has task ids.

use parking_lot::Mutex;
use proto_ids::{RangeId, TaskId};

/// Task ids one range holds, as a power of two.
const RANGE_BITS: u32 = 20;

/// Decisions one range can number, as a power of two; a range runs out of task ids long before.
const CLOCK_BITS: u32 = 32;

/// Numbers one decision uses: its own, and that of a run that continues the one it decides on.
const CLOCK_STEP: i64 = 2;

/// The range a shard holds and the ids given out of it.
pub(crate) struct Lease(Mutex<State>);

struct State {
    range: RangeId,
    next: i64,
    clock: i64,
}

/// The range's ids are used up: a new range has to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exhausted;

impl Lease {
    pub(crate) fn new(range: RangeId) -> Self {
        Self(Mutex::new(State {
            range,
            next: first(range),
            clock: 0,
        }))
    }

    pub(crate) fn range(&self) -> RangeId {
        self.0.lock().range
    }

    /// `n` ids in a row; the first is returned.
    pub(crate) fn take(&self, n: usize) -> Result<TaskId, Exhausted> {
        let mut state = self.0.lock();
        let n = i64::try_from(n).unwrap_or(i64::MAX);
        if n > first(state.range.next()) - state.next {
            return Err(Exhausted);
        }
        let id = state.next;
        state.next += n;
        Ok(TaskId::new(id))
    }

    /// The id the next task will get, or a lower bound of it.
    pub(crate) fn next(&self) -> TaskId {
        TaskId::new(self.0.lock().next)
    }

    /// The number of the next decision: higher than those of all decisions before, also by other owners.
    pub(crate) fn tick(&self) -> i64 {
        let mut state = self.0.lock();
        state.clock = (state.clock + CLOCK_STEP).max(state.range.get() << CLOCK_BITS);
        state.clock
    }

    /// Goes on with a new range; ids rise.
    pub(crate) fn renew(&self, range: RangeId) {
        let mut state = self.0.lock();
        state.range = range;
        state.next = state.next.max(first(range));
    }
}

fn first(range: RangeId) -> i64 {
    range.get() << RANGE_BITS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_rise_across_ranges_and_end_with_their_range() {
        let lease = Lease::new(RangeId::new(3));
        let first = lease.take(2).unwrap();
        assert_eq!(first.get(), 3 << 20);
        assert_eq!(lease.take((1 << 20) - 2).unwrap().get(), (3 << 20) + 2);
        assert_eq!(lease.take(1), Err(Exhausted));
        lease.renew(RangeId::new(4));
        assert_eq!(lease.take(1).unwrap().get(), 4 << 20);
    }

    #[test]
    fn decisions_are_numbered_upwards_across_ranges_and_owners() {
        let lease = Lease::new(RangeId::new(3));
        let first = lease.tick();
        let second = lease.tick();
        assert!(second > first + 1, "a continued run has a number between");
        lease.renew(RangeId::new(4));
        let third = lease.tick();
        assert!(third > second);
        assert!(Lease::new(RangeId::new(5)).tick() > third + 1);
    }
}
