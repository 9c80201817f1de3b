//! Metrics of served calls that every service has, under the names that Temporal's dashboards use.
//! Operations are names of RPCs and namespaces those that exist, so both are bounded.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use cluster_runtime::Metrics;
use parking_lot::RwLock;
use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use proto_ids::NamespaceName;
use tonic::{Code, Status};

/// The namespace of a call that names none, or one that does not exist.
pub const UNKNOWN: &str = "_unknown_";

/// The counts of one service.
pub struct ServiceMetrics {
    service: &'static str,
    requests: IntCounterVec,
    errors: IntCounterVec,
    by_type: IntCounterVec,
    exhausted: IntCounterVec,
    latency: HistogramVec,
    pending: IntGaugeVec,
    /// Those in use, so that a call looks up a name instead of a set of labels for each meter.
    operations: RwLock<HashMap<&'static str, Arc<Operation>>>,
}

struct Operation {
    name: String,
    pending: IntGauge,
    namespaces: RwLock<HashMap<NamespaceName, Meters>>,
}

/// Those of one operation in one namespace.
#[derive(Clone)]
struct Meters {
    requests: IntCounter,
    errors: IntCounter,
    latency: Histogram,
}

/// A call that is being served. One that is dropped was cancelled by its caller.
pub struct Serving<'a> {
    metrics: &'a ServiceMetrics,
    operation: Arc<Operation>,
    namespace: Option<NamespaceName>,
    began: Instant,
    open: bool,
}

impl ServiceMetrics {
    /// Registers them for the service with this name: `frontend`, `history` or `matching`.
    pub fn new(service: &'static str, metrics: &Metrics) -> Self {
        const LABELS: &[&str] = &["service_name", "operation", "namespace"];
        const TYPED: &[&str] = &["service_name", "operation", "namespace", "error_type"];
        Self {
            service,
            requests: metrics.counters("service_requests", "Calls that ended.", LABELS),
            errors: metrics.counters(
                "service_errors",
                "Calls that failed for a reason that is not the caller's.",
                LABELS,
            ),
            by_type: metrics.counters(
                "service_error_with_type",
                "Calls that failed, by the kind of error.",
                TYPED,
            ),
            exhausted: metrics.counters(
                "service_errors_resource_exhausted",
                "Calls refused because a limit was reached.",
                LABELS,
            ),
            latency: metrics.latencies(
                "service_latency",
                "Seconds that calls took, long polls included.",
                LABELS,
            ),
            pending: metrics.gauges(
                "service_pending_requests",
                "Calls that are being served.",
                &["service_name", "operation"],
            ),
            operations: RwLock::default(),
        }
    }

    /// A call begins. The operation is the RPC's name, in the API's spelling or in Rust's.
    pub fn begin(&self, operation: &'static str) -> Serving<'_> {
        let operation = self.operation(operation);
        operation.pending.inc();
        Serving {
            metrics: self,
            operation,
            namespace: None,
            began: Instant::now(),
            open: true,
        }
    }

    fn operation(&self, name: &'static str) -> Arc<Operation> {
        if let Some(known) = self.operations.read().get(name) {
            return known.clone();
        }
        let spelled = camel(name);
        let pending = [self.service, &spelled];
        let made = Arc::new(Operation {
            pending: self.pending.with_label_values(&pending),
            name: spelled,
            namespaces: RwLock::default(),
        });
        self.operations.write().entry(name).or_insert(made).clone()
    }

    fn count(&self, operation: &Operation, namespace: &NamespaceName, code: Code, took: Duration) {
        let meters = self.meters(operation, namespace);
        meters.requests.inc();
        meters.latency.observe(took.as_secs_f64());
        if code == Code::Ok {
            return;
        }
        let (name, namespace) = (operation.name.as_str(), namespace.as_str());
        self.by_type
            .with_label_values(&[self.service, name, namespace, error_type(code)])
            .inc();
        if code == Code::ResourceExhausted {
            let labels = [self.service, name, namespace];
            self.exhausted.with_label_values(&labels).inc();
        }
        if !is_the_callers(code) {
            meters.errors.inc();
        }
    }

    fn meters(&self, operation: &Operation, namespace: &NamespaceName) -> Meters {
        if let Some(known) = operation.namespaces.read().get(namespace) {
            return known.clone();
        }
        let labels = [self.service, &operation.name, namespace.as_str()];
        let meters = Meters {
            requests: self.requests.with_label_values(&labels),
            errors: self.errors.with_label_values(&labels),
            latency: self.latency.with_label_values(&labels),
        };
        let mut namespaces = operation.namespaces.write();
        namespaces.insert(namespace.clone(), meters.clone());
        meters
    }
}

impl Serving<'_> {
    /// The namespace the call is about. Only one that exists, since the name becomes a label.
    pub fn in_namespace(&mut self, name: &NamespaceName) {
        self.namespace = Some(name.clone());
    }

    /// The call ended so.
    pub fn end<T>(mut self, result: &Result<T, Status>) {
        self.count(result.as_ref().map_or_else(Status::code, |_| Code::Ok));
    }

    fn count(&mut self, code: Code) {
        self.open = false;
        self.operation.pending.dec();
        let namespace = self.namespace.take().unwrap_or_else(|| UNKNOWN.into());
        self.metrics
            .count(&self.operation, &namespace, code, self.began.elapsed());
    }
}

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        if self.open {
            self.count(Code::Cancelled);
        }
    }
}

/// `start_workflow_execution` as the API spells it; a name without underscores is taken as it is.
fn camel(name: &str) -> String {
    if name.starts_with(char::is_uppercase) {
        return name.to_owned();
    }
    let mut spelled = String::with_capacity(name.len());
    for word in name.split('_') {
        let mut letters = word.chars();
        spelled.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        spelled.push_str(letters.as_str());
    }
    spelled
}

/// Whether an error says something about the request rather than about the server.
fn is_the_callers(code: Code) -> bool {
    matches!(
        code,
        Code::Cancelled
            | Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unauthenticated
            // The limit is counted by itself.
            | Code::ResourceExhausted
    )
}

/// A gRPC code as Temporal's errors are called.
pub fn error_type(code: Code) -> &'static str {
    match code {
        Code::Ok => "",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_operation_namespace_and_outcome() {
        let metrics = Metrics::new();
        let service = ServiceMetrics::new("frontend", &metrics);
        let in_orders = |result: Result<(), Status>| {
            let mut call = service.begin("StartWorkflowExecution");
            call.in_namespace(&"orders".into());
            call.end(&result);
        };
        in_orders(Ok(()));
        in_orders(Err(Status::not_found("x")));
        in_orders(Err(Status::resource_exhausted("x")));
        in_orders(Err(Status::unavailable("x")));
        drop(service.begin("poll_workflow_task_queue"));
        let _open = service.begin("PollWorkflowTaskQueue");

        let text = metrics.text();
        let start =
            "namespace=\"orders\",operation=\"StartWorkflowExecution\",service_name=\"frontend\"";
        let poll =
            "namespace=\"_unknown_\",operation=\"PollWorkflowTaskQueue\",service_name=\"frontend\"";
        let typed = "error_type=\"NotFound\",namespace=\"orders\"";
        for line in [
            format!("service_requests{{{start}}} 4"),
            format!("service_errors{{{start}}} 1"),
            format!("service_errors_resource_exhausted{{{start}}} 1"),
            format!("service_latency_count{{{start}}} 4"),
            format!("service_error_with_type{{{typed}"),
            format!("service_requests{{{poll}}} 1"),
            "service_pending_requests{operation=\"PollWorkflowTaskQueue\",service_name=\"frontend\"} 1".into(),
        ] {
            assert!(text.contains(&line), "{line} is missing:\n{text}");
        }
    }
}
