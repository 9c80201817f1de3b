//! Statistics of a queue's traffic for describe, as a whole and by priority.

use std::collections::{BTreeMap, HashMap};

use proto_ids::Timestamp;
use proto_messages::{temporal::api::taskqueue::v1::TaskQueueStats, time::duration_to_proto};

use super::{POLLER_RECENT, Queue, State, meter::RateMeter};
use crate::task::{DEFAULT_PRIORITY, Waiting};

/// Rates by priority. Few priorities are in use at a time.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    added: BTreeMap<i32, RateMeter>,
    dispatched: BTreeMap<i32, RateMeter>,
    /// The last arrival of any priority.
    pub(super) added_at: Timestamp,
}

/// Tasks that wait, and since when the oldest does.
#[derive(Clone, Copy, Debug, Default)]
struct Waits {
    count: i64,
    since: Option<Timestamp>,
}

impl Traffic {
    pub(super) fn added(&mut self, priority: i32, now: Timestamp) {
        self.added_at = now;
        self.added.entry(priority).or_default().note(now);
    }

    /// A task that was offered goes to the backlog, where it counts as added once more.
    pub(super) fn withdrawn(&mut self, priority: i32, now: Timestamp) {
        self.added.entry(priority).or_default().forget(now);
    }

    pub(super) fn dispatched(&mut self, priority: i32, now: Timestamp) {
        self.dispatched.entry(priority).or_default().note(now);
    }

    /// Tasks taken in a second lately.
    fn per_second(&mut self, now: Timestamp) -> f64 {
        let rates = self.dispatched.values_mut();
        rates.map(|meter| f64::from(meter.read(now))).sum()
    }
}

impl Waits {
    fn add(&mut self, created: Timestamp) {
        self.count += 1;
        if !created.is_zero() {
            self.since = Some(self.since.map_or(created, |since| since.min(created)));
        }
    }
}

impl Queue {
    /// Looks again whether it is behind: workers that left say nothing.
    pub(crate) fn look(&self) {
        let now = self.now();
        self.tell(&mut self.state.lock(), now);
    }

    /// Tasks that nobody polls for wait for a worker, not for this process.
    pub(super) fn tell(&self, state: &mut State, now: Timestamp) {
        let Some(behind) = &self.behind else { return };
        let is_polled = state.matcher.pollers() > 0 || now.since(state.last_poll) < POLLER_RECENT;
        let waiting = match is_polled {
            true => state.matcher.tasks(),
            false => 0,
        };
        behind.tell(waiting, state.traffic.per_second(now));
    }
}

impl State {
    /// Size, age and rates by priority, when so many more are in the store alone.
    pub(super) fn stats_by_priority(
        &mut self,
        now: Timestamp,
        unread: i64,
    ) -> HashMap<i32, TaskQueueStats> {
        let mut waits: BTreeMap<i32, Waits> = BTreeMap::new();
        for task in self.matcher.waiting().filter(|task| !task.is_query()) {
            let of_priority = waits.entry(task.priority()).or_default();
            of_priority.add(created(task));
        }
        if unread > 0 {
            // Their priorities are not known before they are read.
            waits.entry(DEFAULT_PRIORITY).or_default().count += unread;
        }
        let mut rates: BTreeMap<i32, (f32, f32)> = BTreeMap::new();
        for (priority, meter) in &mut self.traffic.added {
            rates.entry(*priority).or_default().0 = meter.read(now);
        }
        for (priority, meter) in &mut self.traffic.dispatched {
            rates.entry(*priority).or_default().1 = meter.read(now);
        }
        let limited = self.matcher.is_limited();
        let priorities = waits.keys().chain(rates.keys()).chain([&DEFAULT_PRIORITY]);
        priorities
            .map(|priority| {
                let waits = waits.get(priority).copied().unwrap_or_default();
                let (added, dispatched) = rates.get(priority).copied().unwrap_or_default();
                let age = waits.since.map(|since| now.since(since));
                let stats = TaskQueueStats {
                    approximate_backlog_count: waits.count,
                    approximate_backlog_age: Some(duration_to_proto(age.unwrap_or_default())),
                    tasks_add_rate: added,
                    tasks_dispatch_rate: dispatched,
                    rate_limiting_active: limited,
                };
                (*priority, stats)
            })
            .collect()
    }
}

/// All priorities as one.
pub(crate) fn total<'a>(parts: impl IntoIterator<Item = &'a TaskQueueStats>) -> TaskQueueStats {
    let age = |d: &Option<prost_types::Duration>| d.map_or((0, 0), |d| (d.seconds, d.nanos));
    let mut total = TaskQueueStats {
        approximate_backlog_age: Some(prost_types::Duration::default()),
        ..Default::default()
    };
    for part in parts {
        total.approximate_backlog_count += part.approximate_backlog_count;
        total.tasks_add_rate += part.tasks_add_rate;
        total.tasks_dispatch_rate += part.tasks_dispatch_rate;
        total.rate_limiting_active |= part.rate_limiting_active;
        if age(&part.approximate_backlog_age) > age(&total.approximate_backlog_age) {
            total.approximate_backlog_age = part.approximate_backlog_age;
        }
    }
    total
}

fn created(task: &Waiting) -> Timestamp {
    let created = task.request.created_time.as_ref();
    created.map_or(Timestamp::ZERO, proto_messages::time::from_proto)
}
