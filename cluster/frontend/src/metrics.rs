//! The metrics of the frontend. Operations are the names of RPCs, namespaces and clusters those that exist: all
//! bounded.

use cluster_rpc::service_metrics::{ServiceMetrics, Serving, error_type};
use cluster_runtime::Metrics;
use prometheus::IntCounterVec;
use tonic::Status;

pub(crate) struct FrontendMetrics {
    service: ServiceMetrics,
    redirected: IntCounterVec,
    redirected_errors: IntCounterVec,
}

impl FrontendMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        Self {
            service: ServiceMetrics::new("frontend", metrics),
            redirected: metrics.counters(
                "client_redirection_requests",
                "Calls passed on to another cluster.",
                &["operation", "target_cluster"],
            ),
            redirected_errors: metrics.counters(
                "client_redirection_errors",
                "Calls passed on to another cluster that failed, by the kind of error.",
                &["operation", "target_cluster", "error_type"],
            ),
        }
    }

    pub(crate) fn begin(&self, operation: &'static str) -> Serving<'_> {
        self.service.begin(operation)
    }

    pub(crate) fn forwarded<T>(
        &self,
        operation: &'static str,
        target: &str,
        result: &Result<T, Status>,
    ) {
        let labels = [operation, target];
        self.redirected.with_label_values(&labels).inc();
        if let Err(status) = result {
            let labels = [operation, target, error_type(status.code())];
            self.redirected_errors.with_label_values(&labels).inc();
        }
    }
}
