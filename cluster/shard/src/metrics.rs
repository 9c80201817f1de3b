//! Names of what the kernel counts.

use cluster_runtime::Metrics;
use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

/// Upper bounds of batch sizes.
const SIZES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// The kernel's metrics.
pub(crate) struct Meters {
    pub(crate) batches: IntCounterVec,
    pub(crate) updates: IntCounter,
    pub(crate) commit_seconds: Histogram,
    pub(crate) batch_size: Histogram,
    pub(crate) lane_waiting: IntGaugeVec,
    pub(crate) shards_owned: IntGauge,
    pub(crate) queue_waiting: IntGaugeVec,
    pub(crate) tasks: IntCounterVec,
    pub(crate) task_seconds: HistogramVec,
    pub(crate) timer_lateness: Histogram,
    pub(crate) cache_bytes: IntGauge,
    pub(crate) tail_bytes: IntGauge,
    pub(crate) loads: IntCounter,
    pub(crate) visibility_writes: IntCounter,
    pub(crate) dropped: IntCounterVec,
    pub(crate) dlq_writes: IntCounterVec,
}

impl Meters {
    pub(crate) fn new(m: &Metrics) -> Self {
        Self {
            batches: m.counters(
                "meridian_commit_batches_total",
                "Commit batches by how they ended.",
                &["outcome"],
            ),
            updates: m.counter(
                "meridian_commit_updates_total",
                "Workflow transactions committed.",
            ),
            commit_seconds: m.latency("meridian_commit_seconds", "Time of a commit in the store."),
            batch_size: m
                .histograms(
                    "meridian_commit_batch_updates",
                    "Updates in a batch.",
                    SIZES,
                    &[],
                )
                .with_label_values::<&str>(&[]),
            lane_waiting: m.gauges(
                "meridian_commit_lane_waiting",
                "Writes that wait for a lane.",
                &["lane"],
            ),
            shards_owned: m.gauge("meridian_shards_owned", "Shards this process owns."),
            queue_waiting: m.gauges(
                "meridian_queue_waiting",
                "Tasks that wait in memory.",
                &["queue"],
            ),
            tasks: m.counters(
                "meridian_queue_tasks_total",
                "Task executions by queue and verdict.",
                &["queue", "verdict"],
            ),
            task_seconds: m.latencies(
                "meridian_queue_task_seconds",
                "Time of one execution of a task.",
                &["queue"],
            ),
            timer_lateness: m.latency("meridian_timer_lateness_seconds", "How late timers fire."),
            cache_bytes: m.gauge("meridian_workflow_cache_bytes", "Cached workflow state."),
            tail_bytes: m.gauge("meridian_history_tail_bytes", "Cached history tails."),
            loads: m.counter("meridian_workflow_loads_total", "Runs read from the store."),
            visibility_writes: m.counter(
                "meridian_visibility_writes_total",
                "Visibility rows written.",
            ),
            dropped: m.counters(
                "meridian_commit_dropped_total",
                "Writes dropped before they were durable.",
                &["reason"],
            ),
            dlq_writes: m.counters(
                "meridian_task_dlq_writes_total",
                "Tasks that cannot be done and were set aside, by what they are.",
                &["kind"],
            ),
        }
    }
}
