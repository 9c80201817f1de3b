//! One loaded task queue: waiting pollers, waiting tasks, and the window on its durable backlog.
//!
//! Invariant: a task leaves the queue only into the hands of an [`Assigned`], which gives it back when the
//! poll that took it goes away before the task was started.

mod assigned;
mod meter;
mod pollers;
mod traffic;
mod window;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use cluster_runtime::{Overload, clock::SharedClock, overload::Behind};
use parking_lot::Mutex;
use proto_ids::{RangeId, TaskId, Timestamp};
use proto_messages::temporal::api::taskqueue::v1::{PollerInfo, TaskQueueStats};
use schema_store::task_queue::TaskQueueKey;
use tokio::sync::oneshot;

pub(crate) use assigned::Assigned;
use pollers::Pollers;
use traffic::Traffic;
pub(crate) use traffic::total;
use window::Backlog;

use crate::{
    matcher::{Matcher, Slot, Step},
    task::{Fate, Origin, Waiting},
};

/// Tasks held in memory for a caller at most, before they go to the backlog.
const HELD_LIMIT: usize = 1_024;
/// Sticky tasks kept in memory at most; more go to the worker's normal queue, which has a durable part.
const VOLATILE_LIMIT: usize = 2_000;
/// Backlog tasks kept in memory at most.
pub(crate) const WINDOW: usize = 1_000;
/// A queue whose last poller was longer ago than this holds nothing back for one.
const POLLER_RECENT: Duration = Duration::from_secs(5);
/// A sticky queue without a poller for this long is taken to have lost its worker.
const STICKY_POLLER_RECENT: Duration = Duration::from_secs(10);

/// A waiting poll.
#[derive(Debug)]
pub(crate) struct Poller {
    /// Names the poll for cancellation; may be empty.
    pub(crate) poller_id: String,
    /// The worker process; may be empty.
    pub(crate) worker_key: String,
    hand: oneshot::Sender<Assigned>,
}

/// One task queue.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) key: TaskQueueKey,
    pub(crate) sticky: bool,
    clock: SharedClock,
    behind: Option<Behind>,
    state: Mutex<State>,
    reading: AtomicBool,
}

/// The right to read the backlog; one at a time.
pub(crate) struct Reading(Arc<Queue>);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.reading.store(false, Ordering::Release);
    }
}

#[derive(Debug)]
struct State {
    matcher: Matcher<Poller, Waiting>,
    held: usize,
    last_poll: Timestamp,
    seen: Pollers,
    backlog: Backlog,
    traffic: Traffic,
    closed: bool,
    /// When the next pair is tried, while a rate makes both sides wait.
    pumps_at: Option<Timestamp>,
}

/// Task ids a range may give before the queue has to be acquired anew.
const RANGE_BITS: u32 = 24;

impl Queue {
    /// `begins_as` names the queue on which the work begins that waits here: its own name, or the one that a sticky
    /// queue's worker polls beside it; empty when that is not known.
    pub(crate) fn new(
        key: TaskQueueKey,
        sticky: bool,
        clock: SharedClock,
        overload: &Overload,
        begins_as: &str,
        (range, ack): (RangeId, TaskId),
    ) -> Self {
        let owner = key.namespace_id.as_str();
        let behind = (!begins_as.is_empty()).then(|| overload.queue(owner, begins_as));
        let first = TaskId::new((range.get() << RANGE_BITS) + 1);
        Self {
            key,
            sticky,
            clock,
            behind,
            state: Mutex::new(State {
                matcher: Matcher::default(),
                held: 0,
                last_poll: Timestamp::ZERO,
                seen: Pollers::default(),
                backlog: Backlog {
                    range,
                    next_id: first,
                    read: ack,
                    // What an earlier owner left is unknown: the reader finds out.
                    durable: TaskId::new(first.get() - 1),
                    open: BTreeSet::new(),
                    acked: ack,
                },
                traffic: Traffic::default(),
                closed: false,
                pumps_at: None,
            }),
            reading: AtomicBool::new(false),
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.clock.now_nanos())
    }

    /// Parks a poll. The receiver gets a task, or an error when the poll is cancelled or the queue unloads.
    pub(crate) fn poll(
        self: &Arc<Self>,
        poller_id: &str,
        worker_key: &str,
        identity: &str,
        limit: Option<f64>,
    ) -> (Slot, oneshot::Receiver<Assigned>) {
        let (hand, task) = oneshot::channel();
        let now = self.now();
        let mut state = self.state.lock();
        if state.closed {
            return (0, task);
        }
        state.last_poll = now;
        if !identity.is_empty() {
            let per_second = limit.unwrap_or(100_000.0);
            state.seen.note(identity, now, per_second);
        }
        if limit.is_some() {
            state.matcher.limit(limit);
        }
        let slot = state.matcher.add_poller(Poller {
            poller_id: poller_id.to_owned(),
            worker_key: worker_key.to_owned(),
            hand,
        });
        self.pump(&mut state, now);
        (slot, task)
    }

    /// Ends a waiting poll whose caller left or whose time is up.
    pub(crate) fn leave(&self, slot: Slot) {
        let now = self.now();
        let mut state = self.state.lock();
        // One that was cancelled is no sign that its worker lives.
        if state.matcher.remove_poller(slot).is_some() {
            state.last_poll = now;
        }
    }

    /// Cancels the waiting polls for which `gone` holds; they end empty. Returns how many.
    pub(crate) fn cancel(&self, gone: impl FnMut(&Poller) -> bool) -> usize {
        self.state.lock().matcher.remove_pollers(gone).len()
    }

    /// Forgets that pollers were here, so that a sticky queue counts as lost at once.
    pub(crate) fn forget_pollers(&self) {
        let mut state = self.state.lock();
        state.last_poll = Timestamp::ZERO;
        state.seen.clear();
    }

    /// Whether a worker polled lately (or waits).
    pub(crate) fn has_worker(&self) -> bool {
        let state = self.state.lock();
        state.matcher.pollers() > 0 || self.now().since(state.last_poll) < STICKY_POLLER_RECENT
    }

    /// Offers a task that its caller holds. The task comes back when no poller is likely to come soon, or
    /// too many are held already: then it belongs in the backlog.
    pub(crate) fn offer(self: &Arc<Self>, task: Waiting) -> Result<(i32, Slot), Box<Waiting>> {
        let now = self.now();
        let mut state = self.state.lock();
        let likely = state.matcher.pollers() > 0 || now.since(state.last_poll) < POLLER_RECENT;
        if state.closed || !likely || state.held >= HELD_LIMIT {
            return Err(Box::new(task));
        }
        state.traffic.added(task.priority(), now);
        state.held += 1;
        let key = state.matcher.add_task(task.priority(), task);
        self.pump(&mut state, now);
        Ok(key)
    }

    /// Takes an offered task back if no poller has it yet.
    pub(crate) fn withdraw(&self, key: (i32, Slot)) -> Option<Waiting> {
        let now = self.now();
        let mut state = self.state.lock();
        let task = state.matcher.remove_task(key)?;
        state.traffic.withdrawn(task.priority(), now);
        if matches!(task.origin, Origin::Held(_)) {
            state.held -= 1;
        }
        Some(task)
    }

    /// Whether no more sticky tasks fit.
    pub(crate) fn is_full(&self) -> bool {
        self.state.lock().matcher.tasks() >= VOLATILE_LIMIT
    }

    /// Offers a sticky task. Returns whether it still waits for a poller.
    pub(crate) fn offer_volatile(self: &Arc<Self>, task: Waiting) -> bool {
        let now = self.now();
        let mut state = self.state.lock();
        state.traffic.added(task.priority(), now);
        let key = state.matcher.add_task(task.priority(), task);
        self.pump(&mut state, now);
        state.matcher.has_task(key)
    }

    /// Offers a query.
    pub(crate) fn offer_query(self: &Arc<Self>, task: Waiting) -> (i32, Slot) {
        let now = self.now();
        let mut state = self.state.lock();
        let key = state.matcher.add_task(0, task);
        self.pump(&mut state, now);
        key
    }

    /// Pairs whatever can be paired, and tells whether that leaves too much.
    fn pump(self: &Arc<Self>, state: &mut State, now: Timestamp) {
        self.pair(state, now);
        self.tell(state, now);
    }

    fn pair(self: &Arc<Self>, state: &mut State, now: Timestamp) {
        loop {
            match state.matcher.step(now, Waiting::is_query) {
                Step::Idle => return,
                Step::Wait(until) => {
                    // One timer does for all who wait.
                    let is_due = state.pumps_at.is_some_and(|at| at <= until);
                    if !state.matcher.is_stopped() && !is_due {
                        state.pumps_at = Some(until);
                        self.pump_at(until, now);
                    }
                    return;
                }
                Step::Pair(poller, task) => {
                    let held = matches!(task.origin, Origin::Held(_));
                    if held {
                        state.held -= 1;
                    }
                    if task.is_dead(now) {
                        // The poller stays first in line for the next one.
                        state.settle(task, Fate::Done);
                        state.matcher.add_poller(poller);
                        continue;
                    }
                    if !task.is_query() {
                        state.traffic.dispatched(task.priority(), now);
                    }
                    let assigned = Assigned {
                        task: Some(task),
                        queue: Arc::downgrade(self),
                    };
                    if let Err(mut back) = poller.hand.send(assigned)
                        && let Some(task) = back.task.take()
                    {
                        state.give_back(task);
                    }
                }
            }
        }
    }

    /// Pumps again after a pause that the rate demands.
    fn pump_at(self: &Arc<Self>, until: Timestamp, now: Timestamp) {
        let pause = until.since(now);
        let queue = Arc::downgrade(self);
        // A timer of the runtime, not a task of its own kind: it holds nothing and ends by itself.
        tokio::spawn(async move {
            tokio::time::sleep(pause.max(Duration::from_millis(1))).await;
            if let Some(queue) = queue.upgrade() {
                let now = queue.now();
                let mut state = queue.state.lock();
                if state.pumps_at == Some(until) {
                    state.pumps_at = None;
                }
                queue.pump(&mut state, now);
            }
        });
    }

    /// Ids for tasks about to be appended; `None` when the range's ids are used up.
    pub(crate) fn take_ids(&self, n: usize) -> Option<(RangeId, TaskId)> {
        let mut state = self.state.lock();
        let backlog = &mut state.backlog;
        let first = backlog.next_id;
        if (first.get() + n as i64) >> RANGE_BITS != backlog.range.get() {
            return None;
        }
        backlog.next_id = TaskId::new(first.get() + n as i64);
        Some((backlog.range, first))
    }

    /// A task became durable. It goes to memory at once when nothing before it is still unread.
    pub(crate) fn appended(self: &Arc<Self>, id: TaskId, task: Waiting) {
        let now = self.now();
        let mut state = self.state.lock();
        state.traffic.added(task.priority(), now);
        let next_in_line = state.backlog.read == state.backlog.durable;
        state.backlog.durable = state.backlog.durable.max(id);
        if next_in_line && state.backlog.open.len() < WINDOW {
            state.backlog.read = id;
            state.backlog.open.insert(id);
            state.matcher.add_task(task.priority(), task);
            self.pump(&mut state, now);
        }
    }

    /// Claims the one reader's place, when there is something to read; dropping the claim frees it.
    pub(crate) fn begin_read(self: &Arc<Self>) -> Option<Reading> {
        self.wants_read()?;
        let free = !self.reading.swap(true, Ordering::AcqRel);
        free.then(|| Reading(self.clone()))
    }

    /// Where the reader should go on, when there may be unread tasks and there is room for them.
    pub(crate) fn wants_read(&self) -> Option<TaskId> {
        let state = self.state.lock();
        let backlog = &state.backlog;
        (!self.sticky
            && !state.closed
            && backlog.read < backlog.durable
            && backlog.open.len() < WINDOW / 2)
            .then_some(backlog.read)
    }

    /// Tasks read from the store after `after`. `at_end` when there were no more.
    pub(crate) fn loaded(
        self: &Arc<Self>,
        after: TaskId,
        tasks: Vec<(TaskId, Waiting)>,
        durable_seen: TaskId,
        at_end: bool,
    ) {
        let now = self.now();
        let mut state = self.state.lock();
        if state.backlog.read != after {
            return;
        }
        for (id, task) in tasks {
            state.backlog.read = id;
            if state.backlog.open.insert(id) {
                state.matcher.add_task(task.priority(), task);
            }
        }
        if at_end {
            // Everything that was durable when the read began has been seen.
            state.backlog.read = state.backlog.read.max(durable_seen);
        }
        self.pump(&mut state, now);
    }

    /// Highest id known to be durable.
    pub(crate) fn durable(&self) -> TaskId {
        self.state.lock().backlog.durable
    }

    /// The position below which everything is settled, when the store has not been told yet.
    pub(crate) fn ack_to_write(&self) -> Option<(RangeId, TaskId)> {
        let state = self.state.lock();
        let backlog = &state.backlog;
        let ack = backlog.settled_below();
        (ack > backlog.acked).then_some((backlog.range, ack))
    }

    /// The store was told.
    pub(crate) fn ack_written(&self, ack: TaskId) {
        self.state.lock().backlog.acked = ack;
    }

    /// Whether it was not used for `idle` and holds nothing.
    pub(crate) fn is_idle(&self, idle: Duration) -> bool {
        let state = self.state.lock();
        state.matcher.pollers() == 0
            && state.matcher.tasks() == 0
            && state.backlog.open.is_empty()
            && state.backlog.read >= state.backlog.durable
            && self.now().since(state.last_poll) > idle
            && self.now().since(state.traffic.added_at) > idle
    }

    /// Unloads: waiting polls end empty, held tasks go back to their callers.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.matcher.remove_pollers(|_| true);
        state.held = 0;
        for task in state.matcher.take_tasks() {
            if let Origin::Held(caller) = task.origin {
                // A caller that left does not need to know.
                let _ = caller.send(Fate::Again("the task queue moved".into()));
            }
        }
    }

    /// The pollers, for describe.
    pub(crate) fn pollers(&self) -> Vec<PollerInfo> {
        let now = self.now();
        self.state.lock().seen.infos(now)
    }

    /// Size, age and rates by priority, for describe. `unread` tasks are in the store alone.
    pub(crate) fn stats_by_priority(&self, unread: i64) -> HashMap<i32, TaskQueueStats> {
        let now = self.now();
        self.state.lock().stats_by_priority(now, unread)
    }

    /// Where the tasks begin that may be in the store alone, if there are any.
    pub(crate) fn unread_after(&self) -> Option<TaskId> {
        let state = self.state.lock();
        let backlog = &state.backlog;
        (!self.sticky && backlog.read < backlog.durable).then_some(backlog.read)
    }

    /// Tasks that wait, durable or held.
    pub(crate) fn backlog_count(&self) -> i64 {
        self.state.lock().backlog_count()
    }

    /// First and last id of the backlog, for describe.
    pub(crate) fn ids(&self) -> (TaskId, TaskId) {
        let state = self.state.lock();
        (state.backlog.settled_below(), state.backlog.durable)
    }
}

impl State {
    fn give_back(&mut self, task: Waiting) {
        if matches!(task.origin, Origin::Held(_)) {
            self.held += 1;
        }
        self.matcher.return_task(task.priority(), task);
    }

    fn settle(&mut self, task: Waiting, fate: Fate) {
        match task.origin {
            Origin::Backlog(id) => {
                self.backlog.open.remove(&id);
            }
            Origin::Held(caller) => {
                // A caller that left does not need to know.
                let _ = caller.send(fate);
            }
            Origin::Volatile | Origin::Query(_) => {}
        }
    }

    /// Tasks that are durable and not in memory.
    fn unread(&self) -> i64 {
        let backlog = &self.backlog;
        if backlog.read >= backlog.durable {
            return 0;
        }
        let range_begins = backlog.range.get() << RANGE_BITS;
        (backlog.durable.get() - backlog.read.get().max(range_begins)).max(0)
    }

    fn backlog_count(&self) -> i64 {
        self.backlog.open.len() as i64 + self.held as i64 + self.unread()
    }
}

#[cfg(test)]
mod tests;
