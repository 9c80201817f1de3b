//! Names of what replication counts: Temporal's where it counts the same, `meridian_` before the others. Labels are
//! clusters only.

use cluster_runtime::Metrics;
use prometheus::{GaugeVec, HistogramVec, IntCounterVec, IntGaugeVec};

/// The label of what comes from a cluster.
const FROM: &[&str] = &["source_cluster"];

/// The metrics of the receiving side.
#[derive(Clone)]
pub(crate) struct Received {
    pub(crate) received: IntCounterVec,
    pub(crate) applied: IntCounterVec,
    pub(crate) duplicate: IntCounterVec,
    pub(crate) skipped: IntCounterVec,
    pub(crate) dead: IntCounterVec,
    pub(crate) latency: HistogramVec,
    pub(crate) streams: IntGaugeVec,
    pub(crate) pending: IntGaugeVec,
    pub(crate) reconnects: IntCounterVec,
    pub(crate) letters: IntGaugeVec,
    pub(crate) letters_written: IntCounterVec,
}

/// The metrics of the sending and applying side.
#[derive(Clone)]
pub(crate) struct Sent {
    pub(crate) lag: GaugeVec,
    pub(crate) pending: IntGaugeVec,
}

/// The metrics of streams to other clusters.
#[derive(Clone)]
pub(crate) struct Sending {
    pub(crate) refused_acks: IntCounterVec,
    pub(crate) unsent_rows: IntGaugeVec,
    pub(crate) skipped: IntCounterVec,
}

impl Sending {
    pub(crate) fn new(m: &Metrics) -> Self {
        Self {
            refused_acks: m.counters(
                "meridian_replication_refused_acknowledgements_total",
                "Acknowledgements that could not be true: beyond what was sent, or of another store.",
                &["remote_cluster"],
            ),
            skipped: m.counters(
                "replication_task_send_skipped",
                "Times a replication task could not be sent and was set aside.",
                &["remote_cluster"],
            ),
            unsent_rows: m.gauges(
                "meridian_replication_set_aside_tasks",
                "Tasks that could not be sent to a remote cluster, which lacks them; -1 when not known.",
                &["remote_cluster"],
            ),
        }
    }
}

impl Received {
    pub(crate) fn new(m: &Metrics) -> Self {
        Self {
            received: m.counters(
                "replication_tasks_recv",
                "Replication tasks received from a remote cluster.",
                FROM,
            ),
            applied: m.counters(
                "replication_tasks_applied",
                "Replication tasks whose effect is durable here.",
                FROM,
            ),
            duplicate: m.counters(
                "replication_duplicated_task",
                "Replication tasks whose effect was here already.",
                FROM,
            ),
            skipped: m.counters(
                "replication_tasks_skipped",
                "Replication tasks that do not concern this cluster.",
                FROM,
            ),
            dead: m.counters(
                "replication_tasks_failed",
                "Replication tasks that could not be applied and became dead letters.",
                FROM,
            ),
            latency: m.latencies(
                "replication_latency",
                "Seconds from a task's creation at its source until its effect was durable here, by both clocks.",
                FROM,
            ),
            streams: m.gauges(
                "meridian_replication_streams_open",
                "Streams from a remote cluster over which messages came.",
                &["remote_cluster"],
            ),
            pending: m.gauges(
                "meridian_replication_received_pending",
                "Tasks received that are waiting or being applied.",
                &["remote_cluster"],
            ),
            letters_written: m.counters(
                "dlq_writes",
                "Replication tasks that became dead letters.",
                &["task_category", "source_cluster"],
            ),
            letters: m.gauges(
                "dlq_message_count",
                "Dead letters in the store, by the clusters between which they are.",
                &["task_category", "source_cluster", "target_cluster"],
            ),
            reconnects: m.counters(
                "meridian_replication_reconnects_total",
                "Streams from a remote cluster that were opened anew: the shard moved, the connection ended, or it was refused.",
                &["remote_cluster", "reason"],
            ),
        }
    }
}

impl Sent {
    pub(crate) fn new(m: &Metrics) -> Self {
        Self {
            lag: m.float_gauges(
                "meridian_replication_lag_seconds",
                "Age of the oldest task a remote cluster has not acknowledged, over this host's shards.",
                &["remote_cluster"],
            ),
            pending: m.gauges(
                "meridian_replication_unacknowledged_tasks",
                "Tasks a remote cluster has not acknowledged, over this host's shards.",
                &["remote_cluster"],
            ),
        }
    }
}
