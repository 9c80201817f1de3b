//! What the frontend counts. Operations are the names of RPCs and codes those of gRPC: both bounded.

use std::time::Instant;

use cluster_runtime::Metrics;
use prometheus::{HistogramVec, IntCounterVec, IntGaugeVec};
use tonic::{Code, Status};

#[derive(Clone)]
pub(crate) struct FrontendMetrics {
    requests: IntCounterVec,
    seconds: HistogramVec,
    parked: IntGaugeVec,
    forwarded: IntCounterVec,
}

/// One running call.
pub(crate) struct Running<'a> {
    metrics: &'a FrontendMetrics,
    operation: &'static str,
    began: Instant,
    /// Set until the call ends; a call whose future is dropped counts as cancelled.
    open: bool,
}

impl FrontendMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        Self {
            requests: metrics.counters(
                "frontend_requests_total",
                "Calls by operation and gRPC code.",
                &["operation", "code"],
            ),
            seconds: metrics.latencies(
                "frontend_request_seconds",
                "How long calls took, long polls included.",
                &["operation"],
            ),
            parked: metrics.gauges(
                "frontend_running_calls",
                "Calls that are being served, by operation.",
                &["operation"],
            ),
            forwarded: metrics.counters(
                "frontend_forwarded_total",
                "Calls passed on to another cluster, by operation and gRPC code.",
                &["operation", "code"],
            ),
        }
    }

    pub(crate) fn begin(&self, operation: &'static str) -> Running<'_> {
        self.parked.with_label_values(&[operation]).inc();
        Running {
            metrics: self,
            operation,
            began: Instant::now(),
            open: true,
        }
    }

    pub(crate) fn forwarded<T>(&self, operation: &'static str, result: &Result<T, Status>) {
        let code = name_of(code_of(result));
        self.forwarded.with_label_values(&[operation, code]).inc();
    }
}

impl Running<'_> {
    pub(crate) fn end<T>(mut self, result: &Result<T, Status>) {
        self.open = false;
        self.count(code_of(result));
    }

    fn count(&self, code: Code) {
        let labels = [self.operation, name_of(code)];
        self.metrics.requests.with_label_values(&labels).inc();
        let seconds = self.began.elapsed().as_secs_f64();
        self.metrics
            .seconds
            .with_label_values(&[self.operation])
            .observe(seconds);
        self.metrics
            .parked
            .with_label_values(&[self.operation])
            .dec();
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if self.open {
            self.count(Code::Cancelled);
        }
    }
}

fn code_of<T>(result: &Result<T, Status>) -> Code {
    result.as_ref().map_or_else(Status::code, |_| Code::Ok)
}

fn name_of(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
