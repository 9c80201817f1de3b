//! Metrics of the history service.

use cluster_rpc::service_metrics::{ServiceMetrics, Serving};
use cluster_runtime::Metrics;

/// The service's meters.
pub struct Meters {
    service: ServiceMetrics,
}

impl Meters {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            service: ServiceMetrics::new("history", metrics),
        }
    }

    /// A call begins.
    pub fn begin(&self, rpc: &'static str) -> Serving<'_> {
        self.service.begin(rpc)
    }
}
