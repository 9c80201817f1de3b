//! Names of what the kernel counts: Temporal's where it counts the same, `meridian_` before the others.

use std::time::Duration;

use cluster_core::TaskKind;
use cluster_runtime::Metrics;
use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use crate::queue::{ExecutionMode, Outcome};

/// Upper bounds of batch sizes.
const SIZES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// Labels of tasks.
const TASK: &[&str] = &["service_name", "operation"];

/// The kernel's metrics.
pub(crate) struct Meters {
    pub(crate) batches: IntCounterVec,
    pub(crate) updates: IntCounter,
    pub(crate) commit_seconds: Histogram,
    pub(crate) batch_size: Histogram,
    pub(crate) lane_waiting: IntGaugeVec,
    pub(crate) shards_owned: IntGauge,
    pub(crate) queue_waiting: IntGaugeVec,
    task_requests: IntCounterVec,
    task_errors: IntCounterVec,
    task_waits: IntCounterVec,
    task_failures: IntCounterVec,
    task_seconds: HistogramVec,
    pub(crate) timer_lateness: Histogram,
    pub(crate) cache_bytes: IntGauge,
    pub(crate) event_cache_bytes: IntGauge,
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
            shards_owned: m.gauge("numshards_gauge", "Shards this process owns."),
            queue_waiting: m.gauges(
                "meridian_queue_waiting",
                "Tasks that wait in memory.",
                &["queue"],
            ),
            task_requests: m.counters("task_requests", "Executions of tasks.", TASK),
            task_errors: m.counters(
                "task_errors",
                "Executions that failed and are tried again.",
                TASK,
            ),
            task_waits: m.counters(
                "task_dependency_task_not_completed",
                "Executions that found their cause not there yet: a standby's, mostly.",
                TASK,
            ),
            task_failures: m.counters(
                "task_terminal_failures",
                "Tasks that can never be done; each is recorded and dropped.",
                TASK,
            ),
            task_seconds: m.latencies(
                "task_latency_processing",
                "Seconds of one execution of a task.",
                TASK,
            ),
            timer_lateness: m.latency("meridian_timer_lateness_seconds", "How late timers fire."),
            cache_bytes: m.gauge("meridian_workflow_cache_bytes", "Cached workflow state."),
            event_cache_bytes: m.gauge("meridian_history_tail_bytes", "Cached history tails."),
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

impl Meters {
    /// A task was executed.
    pub(crate) fn executed(
        &self,
        kind: &TaskKind,
        mode: ExecutionMode,
        took: Duration,
        outcome: &Outcome,
    ) {
        let labels = ["history", operation(kind, mode)];
        self.task_requests.with_label_values(&labels).inc();
        self.task_seconds
            .with_label_values(&labels)
            .observe(took.as_secs_f64());
        let counter = match outcome {
            Outcome::Done => return,
            Outcome::Retry(_) => &self.task_errors,
            Outcome::Wait => &self.task_waits,
            Outcome::PermanentFailure(_) => &self.task_failures,
        };
        counter.with_label_values(&labels).inc();
    }
}

/// Temporal's name for the execution of such a task.
fn operation(kind: &TaskKind, mode: ExecutionMode) -> &'static str {
    macro_rules! named {
        ($queue:literal, $name:literal) => {
            match mode {
                ExecutionMode::Active => concat!($queue, "ActiveTask", $name),
                ExecutionMode::Standby => concat!($queue, "StandbyTask", $name),
            }
        };
    }
    match kind {
        TaskKind::WorkflowTask { .. } => named!("Transfer", "WorkflowTask"),
        TaskKind::Activity { .. } => named!("Transfer", "Activity"),
        TaskKind::StartChild { .. } => named!("Transfer", "StartChildExecution"),
        TaskKind::SignalExternal { .. } => named!("Transfer", "SignalExecution"),
        TaskKind::CancelExternal { .. } => named!("Transfer", "CancelExecution"),
        TaskKind::Close => named!("Transfer", "CloseExecution"),
        TaskKind::DeleteExecution => named!("Transfer", "DeleteExecution"),
        TaskKind::UserTimer { .. } => named!("Timer", "UserTimer"),
        TaskKind::ActivityTimeout { .. } => named!("Timer", "ActivityTimeout"),
        TaskKind::ActivityRetry { .. } => named!("Timer", "ActivityRetryTimer"),
        TaskKind::WorkflowTaskTimeout { .. } => named!("Timer", "WorkflowTaskTimeout"),
        TaskKind::WorkflowBackoff => named!("Timer", "WorkflowBackoffTimer"),
        TaskKind::RunTimeout => named!("Timer", "WorkflowRunTimeout"),
        TaskKind::ExecutionTimeout => named!("Timer", "WorkflowExecutionTimeout"),
        TaskKind::Retention => named!("Timer", "DeleteHistoryEvent"),
        TaskKind::Visibility => "VisibilityTaskUpsertExecution",
        TaskKind::ReplicateHistory { .. } => "ReplicationTaskHistory",
        TaskKind::SyncActivity { .. } => "ReplicationTaskSyncActivity",
        TaskKind::SyncWorkflowState => "ReplicationTaskSyncWorkflowState",
        TaskKind::ReplicateDelete => "ReplicationTaskDeleteExecution",
    }
}
