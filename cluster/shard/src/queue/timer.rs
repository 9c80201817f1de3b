//! The timer queue: one heap for the whole process, of timers within the window, pauses between attempts, waiting
//! tasks, and reads of the next window. No rounding.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use cluster_runtime::CancellationToken;
use parking_lot::Mutex;
use proto_ids::{RunKey, Timestamp};
use tokio::sync::Notify;

use super::{Executable, QueuedTask};
use crate::{host::Host, shard::Shard};

/// Longest sleep: bounds the harm of a wall clock that is set forward.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);

/// What happens when an item of the heap is due.
pub(crate) enum TimerAction {
    /// A task is due.
    Fire(Executable),
    /// A task's pause is over.
    Retry(Executable),
    /// A shard's timer window ends soon.
    LoadWindow(Shard),
    /// A task has waited for a change long enough.
    WaitOver(Shard, RunKey, u64),
}

/// Items whose time has come. Those that a panic keeps from happening are armed again.
struct Due<'a> {
    queue: &'a TimerQueue,
    items: VecDeque<Item>,
}

impl Drop for Due<'_> {
    fn drop(&mut self) {
        for item in self.items.drain(..) {
            self.queue.arm(Timestamp::from_nanos(item.at), item.action);
        }
    }
}

struct Item {
    at: i64,
    seq: u64,
    action: TimerAction,
}

/// The heap.
pub(crate) struct TimerQueue {
    heap: Mutex<(BinaryHeap<Reverse<Item>>, u64)>,
    /// When the first item is due; what is armed earlier wakes the task.
    first: AtomicI64,
    earlier: Notify,
}

impl Default for TimerQueue {
    fn default() -> Self {
        Self {
            heap: Mutex::default(),
            first: AtomicI64::new(i64::MAX),
            earlier: Notify::new(),
        }
    }
}

impl TimerQueue {
    pub(crate) fn arm(&self, at: Timestamp, action: TimerAction) {
        let mut heap = self.heap.lock();
        heap.1 += 1;
        let item = Item {
            at: at.nanos(),
            seq: heap.1,
            action,
        };
        heap.0.push(Reverse(item));
        if at.nanos() < self.first.load(Ordering::Acquire) {
            self.first.store(at.nanos(), Ordering::Release);
            drop(heap);
            self.earlier.notify_one();
        }
    }

    /// Arms a task.
    pub(crate) fn arm_task(&self, at: Timestamp, executable: Executable) {
        self.arm(at, TimerAction::Fire(executable));
    }

    /// Fires armed timers now instead of when they are due; returns how many. For rare occasions: it looks at
    /// all of them.
    pub(crate) fn fire_now(&self, now: Timestamp, which: impl Fn(&QueuedTask) -> bool) -> usize {
        let mut fired = 0;
        let mut heap = self.heap.lock();
        let mut items = std::mem::take(&mut heap.0).into_vec();
        for Reverse(item) in &mut items {
            if let TimerAction::Fire(executable) = &item.action
                && item.at > now.nanos()
                && which(&executable.task)
            {
                item.at = now.nanos();
                fired += 1;
            }
        }
        heap.0 = items.into();
        if fired > 0 {
            self.first.store(now.nanos(), Ordering::Release);
            drop(heap);
            self.earlier.notify_one();
        }
        fired
    }

    pub(crate) fn len(&self) -> usize {
        self.heap.lock().0.len()
    }

    fn due(&self, now: i64) -> Vec<Item> {
        let mut heap = self.heap.lock();
        let mut due = Vec::new();
        while let Some(first) = heap.0.peek_mut() {
            if first.0.at > now {
                break;
            }
            due.push(std::collections::binary_heap::PeekMut::pop(first).0);
        }
        let first = heap.0.peek().map_or(i64::MAX, |item| item.0.at);
        self.first.store(first, Ordering::Release);
        due
    }

    /// Runs the heap until it is stopped.
    pub(crate) async fn run(host: Arc<Host>, stop: CancellationToken) {
        loop {
            let earlier = host.timers.earlier.notified();
            let now = host.now().nanos();
            let mut due = Due {
                queue: &host.timers,
                items: host.timers.due(now).into(),
            };
            while let Some(item) = due.items.pop_front() {
                item.run(&host, now);
            }
            drop(due);
            let first = host.timers.first.load(Ordering::Acquire);
            let sleep = u64::try_from(first.saturating_sub(host.now().nanos())).unwrap_or(0);
            let asleep = async {
                if first == i64::MAX {
                    std::future::pending().await
                } else {
                    tokio::time::sleep(Duration::from_nanos(sleep).min(LONGEST_SLEEP)).await;
                }
            };
            tokio::select! {
                () = asleep => {}
                () = earlier => {}
                () = stop.cancelled() => return,
            }
        }
    }
}

impl Item {
    fn run(self, host: &Host, now: i64) {
        match self.action {
            TimerAction::Fire(executable) => {
                let late = Duration::from_nanos(u64::try_from(now - self.at).unwrap_or(0));
                host.meters.timer_lateness.observe(late.as_secs_f64());
                if !executable.is_obsolete() {
                    executable.dispatch();
                }
            }
            TimerAction::Retry(executable) => {
                if !executable.is_obsolete() {
                    executable.dispatch();
                }
            }
            TimerAction::LoadWindow(shard) => shard.advance_window(),
            TimerAction::WaitOver(shard, run, ticket) => shard.0.wait_list.release(&run, ticket),
        }
    }
}

impl PartialEq for Item {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Item {}

impl PartialOrd for Item {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Item {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.seq).cmp(&(other.at, other.seq))
    }
}
