//! Metric names of matching.

use cluster_runtime::telemetry::Metrics;

/// Counters of this crate.
#[derive(Clone)]
pub(crate) struct MatchingMetrics {
    /// Tasks a waiting poller took without a write.
    pub(crate) sync_matched: prometheus::IntCounter,
    /// Tasks that went to the durable backlog.
    pub(crate) spilled: prometheus::IntCounter,
    /// Polls that ended empty.
    pub(crate) empty_polls: prometheus::IntCounter,
}

impl MatchingMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        Self {
            sync_matched: metrics.counter(
                "meridian_matching_sync_matched_total",
                "Tasks taken by a waiting poller without a write",
            ),
            spilled: metrics.counter(
                "meridian_matching_backlog_appends_total",
                "Tasks written to the durable backlog because no poller took them in time",
            ),
            empty_polls: metrics.counter(
                "meridian_matching_empty_polls_total",
                "Polls that ended without a task",
            ),
        }
    }
}
