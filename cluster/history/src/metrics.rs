//! Metrics of the history service. Successes are counted where calls come in and where commits happen;
//! here only what was refused.

use cluster_runtime::Metrics;
use prometheus::IntCounterVec;
use tonic::Status;

/// The service's meters.
pub struct Meters {
    refusals: IntCounterVec,
}

impl Meters {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            refusals: metrics.counters(
                "history_refusals_total",
                "Calls of the history service that did not succeed, by RPC and gRPC code.",
                &["rpc", "code"],
            ),
        }
    }

    /// Counts a call that was refused.
    pub fn refused(&self, rpc: &str, status: &Status) {
        let code = format!("{:?}", status.code());
        self.refusals.with_label_values(&[rpc, &code]).inc();
    }
}
