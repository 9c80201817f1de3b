//! Metric names of matching: Temporal's where it counts the same, `meridian_` before the others. Task queues are named
//! by users: only so many are distinguished, and sticky ones, of which every worker has its own, share a name.

use std::time::Duration;

use cluster_runtime::telemetry::{Bounded, Metrics};
use namespaces::Registry;
use prometheus::{HistogramVec, IntCounterVec, IntGaugeVec};
use proto_ids::Timestamp;
use proto_messages::{
    meridian::matching::v1::AddTaskRequest, temporal::api::enums::v1::TaskQueueType,
};

use crate::queue::Queue;

/// Task queues that have a label of their own.
const QUEUES_TOLD_APART: usize = 200;
/// The name of all sticky queues.
const STICKY: &str = "__sticky__";
/// The namespace of a queue whose namespace is gone.
const UNKNOWN: &str = "_unknown_";

/// Counters of this crate.
pub(crate) struct MatchingMetrics {
    registry: Registry,
    told_apart: Bounded,
    polls: IntCounterVec,
    polls_sync: IntCounterVec,
    polls_empty: IntCounterVec,
    spilled: IntCounterVec,
    waited: HistogramVec,
    backlog: IntGaugeVec,
}

impl MatchingMetrics {
    pub(crate) fn new(metrics: &Metrics, registry: Registry) -> Self {
        const QUEUE: &[&str] = &["service_name", "namespace", "taskqueue", "task_type"];
        Self {
            registry,
            told_apart: Bounded::new(QUEUES_TOLD_APART),
            polls: metrics.counters("poll_success", "Polls that got a task.", QUEUE),
            polls_sync: metrics.counters(
                "poll_success_sync",
                "Tasks that a waiting poller took without a write.",
                QUEUE,
            ),
            polls_empty: metrics.counters(
                "poll_timeouts",
                "Polls that ended without a task.",
                QUEUE,
            ),
            spilled: metrics.counters(
                "meridian_matching_backlog_appends_total",
                "Tasks written to the durable backlog because no poller took them in time.",
                QUEUE,
            ),
            waited: metrics.latencies(
                "task_schedule_to_start_latency",
                "Seconds from a task's scheduling until a worker got it.",
                QUEUE,
            ),
            backlog: metrics.gauges(
                "approximate_backlog_count",
                "Tasks that wait in a task queue.",
                QUEUE,
            ),
        }
    }

    /// A poll got this task.
    pub(crate) fn polled(&self, queue: &Queue, task: &AddTaskRequest, now: Timestamp) {
        self.with(queue, |labels| {
            self.polls.with_label_values(labels).inc();
            if let Some(created) = &task.created_time {
                let waited: Duration = now.since(proto_messages::time::from_proto(created));
                self.waited
                    .with_label_values(labels)
                    .observe(waited.as_secs_f64());
            }
        });
    }

    /// A task was taken by a poller that waited for it.
    pub(crate) fn sync_matched(&self, queue: &Queue) {
        self.with(queue, |labels| {
            self.polls_sync.with_label_values(labels).inc()
        });
    }

    /// A poll ended empty.
    pub(crate) fn empty(&self, queue: &Queue) {
        self.with(queue, |labels| {
            self.polls_empty.with_label_values(labels).inc()
        });
    }

    /// A task went to the backlog.
    pub(crate) fn spilled(&self, queue: &Queue) {
        self.with(queue, |labels| self.spilled.with_label_values(labels).inc());
    }

    /// How many tasks wait in each of these queues. Those that share a label are added up.
    pub(crate) fn backlogs<'a>(&self, queues: impl IntoIterator<Item = &'a Queue>) {
        self.backlog.reset();
        for queue in queues {
            let waiting = queue.backlog_count();
            self.with(queue, |labels| {
                self.backlog.with_label_values(labels).add(waiting)
            });
        }
    }

    fn with(&self, queue: &Queue, count: impl FnOnce(&[&str])) {
        let namespace = self.registry.by_id(&queue.key.namespace_id);
        let namespace = namespace.as_ref().map_or(UNKNOWN, |n| n.name.as_str());
        let name = match queue.sticky {
            true => STICKY,
            false => self.told_apart.label(&queue.key.name),
        };
        let kind = match queue.key.kind {
            k if k == TaskQueueType::Workflow as i32 => "Workflow",
            _ => "Activity",
        };
        count(&["matching", namespace, name, kind]);
    }
}
