//! Pollers against tasks, pure: who gets what, in which order, and how fast. Pollers are served in the
//! order they came; tasks by priority, then in the order they came. No clock of its own, no waiting.

use std::collections::{BTreeMap, VecDeque};

use proto_ids::Timestamp;

/// Names a waiting poller or task within one matcher.
pub type Slot = u64;

/// A match that can be made now.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<P, T> {
    /// This poller gets this task.
    Pair(P, T),
    /// Both sides wait, but the rate allows the next pair only then.
    Wait(Timestamp),
    /// One side is empty.
    Idle,
}

/// Waiting pollers and waiting tasks of one queue.
#[derive(Debug)]
pub struct Matcher<P, T> {
    pollers: VecDeque<(Slot, P)>,
    tasks: BTreeMap<(i32, Slot), T>,
    next_slot: Slot,
    /// Slots given to tasks that go to the front; they fall.
    front_slot: Slot,
    /// Nanoseconds between tasks; `None` for no limit.
    interval: Option<i64>,
    next_allowed: Timestamp,
}

/// Slots of ordinary arrivals begin here, so that returned tasks can go before them.
const FIRST_SLOT: Slot = 1 << 40;

impl<P, T> Default for Matcher<P, T> {
    fn default() -> Self {
        Self {
            pollers: VecDeque::new(),
            tasks: BTreeMap::new(),
            next_slot: FIRST_SLOT,
            front_slot: FIRST_SLOT,
            interval: None,
            next_allowed: Timestamp::ZERO,
        }
    }
}

impl<P, T> Matcher<P, T> {
    /// Parks a poller at the end of the line.
    pub fn add_poller(&mut self, poller: P) -> Slot {
        let slot = self.slot();
        self.pollers.push_back((slot, poller));
        slot
    }

    /// Takes a waiting poller out; `None` when it was served.
    pub fn remove_poller(&mut self, slot: Slot) -> Option<P> {
        let at = self.pollers.iter().position(|(s, _)| *s == slot)?;
        self.pollers.remove(at).map(|(_, p)| p)
    }

    /// Takes out all pollers for which `gone` holds.
    pub fn remove_pollers(&mut self, mut gone: impl FnMut(&P) -> bool) -> Vec<P> {
        let mut taken = Vec::new();
        let mut kept = VecDeque::with_capacity(self.pollers.len());
        for (slot, poller) in self.pollers.drain(..) {
            if gone(&poller) {
                taken.push(poller);
            } else {
                kept.push_back((slot, poller));
            }
        }
        self.pollers = kept;
        taken
    }

    /// Adds a task; lower priority numbers go first.
    pub fn add_task(&mut self, priority: i32, task: T) -> (i32, Slot) {
        let key = (priority, self.slot());
        self.tasks.insert(key, task);
        key
    }

    /// Gives a task back: it goes before others of its priority.
    pub fn return_task(&mut self, priority: i32, task: T) -> (i32, Slot) {
        self.front_slot -= 1;
        let key = (priority, self.front_slot);
        self.tasks.insert(key, task);
        key
    }

    /// Takes a waiting task out; `None` when it was served.
    pub fn remove_task(&mut self, key: (i32, Slot)) -> Option<T> {
        self.tasks.remove(&key)
    }

    /// Whether a task still waits.
    pub fn has_task(&self, key: (i32, Slot)) -> bool {
        self.tasks.contains_key(&key)
    }

    /// Takes out all tasks.
    pub fn take_tasks(&mut self) -> Vec<T> {
        std::mem::take(&mut self.tasks).into_values().collect()
    }

    /// Limits pairs to `per_second`; `None` lifts the limit. Zero stops the queue.
    pub fn limit(&mut self, per_second: Option<f64>) {
        self.interval = per_second.map(|r| if r > 0.0 { (1e9 / r) as i64 } else { i64::MAX });
    }

    /// The next pair, when there is one and the rate allows it. `unlimited` tells which tasks (queries)
    /// neither wait for the rate nor count against it.
    pub fn step(&mut self, now: Timestamp, unlimited: impl Fn(&T) -> bool) -> Step<P, T> {
        let Some((key, first)) = self.tasks.first_key_value() else {
            return Step::Idle;
        };
        if self.pollers.is_empty() {
            return Step::Idle;
        }
        let key = *key;
        if let (Some(interval), false) = (self.interval, unlimited(first)) {
            if interval == i64::MAX || self.next_allowed > now {
                return Step::Wait(self.next_allowed.max(now));
            }
            self.next_allowed = Timestamp::from_nanos(now.nanos().saturating_add(interval));
        }
        match (self.pollers.pop_front(), self.tasks.remove(&key)) {
            (Some((_, poller)), Some(task)) => Step::Pair(poller, task),
            _ => Step::Idle,
        }
    }

    /// Parked pollers.
    pub fn pollers(&self) -> usize {
        self.pollers.len()
    }

    /// Waiting tasks, in the order in which they go.
    pub fn waiting(&self) -> impl Iterator<Item = &T> {
        self.tasks.values()
    }

    /// Waiting tasks.
    pub fn tasks(&self) -> usize {
        self.tasks.len()
    }

    /// Whether a rate is set.
    pub fn is_limited(&self) -> bool {
        self.interval.is_some()
    }

    /// Whether a rate is set to nothing at all.
    pub fn is_stopped(&self) -> bool {
        self.interval == Some(i64::MAX)
    }

    fn slot(&mut self) -> Slot {
        self.next_slot += 1;
        self.next_slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Timestamp = Timestamp::from_millis(1_000);

    #[test]
    fn order_is_priority_then_arrival_and_returned_tasks_go_first() {
        let mut m = Matcher::default();
        for (priority, task) in [(3, "a"), (3, "b"), (1, "urgent")] {
            m.add_task(priority, task);
        }
        m.return_task(3, "returned");
        for poller in 0..5 {
            m.add_poller(poller);
        }
        let mut served = Vec::new();
        while let Step::Pair(p, t) = m.step(T0, |_| false) {
            served.push((p, t));
        }
        assert_eq!(served, [(0, "urgent"), (1, "returned"), (2, "a"), (3, "b")]);
        assert_eq!((m.pollers(), m.tasks()), (1, 0));
    }

    #[test]
    fn a_rate_spaces_tasks_but_not_queries() {
        let mut m = Matcher::default();
        m.limit(Some(10.0));
        m.add_task(3, "first");
        m.add_task(3, "second");
        for poller in 0..3 {
            m.add_poller(poller);
        }
        assert_eq!(m.step(T0, |_| false), Step::Pair(0, "first"));
        let due = Timestamp::from_millis(1_100);
        assert_eq!(m.step(T0, |_| false), Step::Wait(due));
        m.add_task(0, "query");
        assert_eq!(m.step(T0, |t| *t == "query"), Step::Pair(1, "query"));
        assert_eq!(m.step(due, |_| false), Step::Pair(2, "second"));
    }

    #[test]
    fn a_poller_that_left_is_not_served() {
        let mut m = Matcher::default();
        let left = m.add_poller("left");
        m.add_poller("stays");
        assert_eq!(m.remove_poller(left), Some("left"));
        m.add_task(3, ());
        assert_eq!(m.step(T0, |()| false), Step::Pair("stays", ()));
        assert_eq!(m.remove_poller(left), None);
    }
}
