//! Statuses of refusals for clients.

use cluster_runtime::overload::Refused;
use proto_messages::temporal::api::{
    common::v1::WorkflowExecution,
    enums::v1::{NamespaceState, ResourceExhaustedCause, ResourceExhaustedScope},
    errordetails::v1 as detail,
    failure::v1::Failure,
};
use tonic::{Code, Status, metadata::MetadataValue};

use super::with_detail;

/// Response header that names a throttle's cause.
pub const RESOURCE_EXHAUSTED_CAUSE: &str = "x-resource-exhausted-cause";
/// Response header that names what a throttle protects.
pub const RESOURCE_EXHAUSTED_SCOPE: &str = "x-resource-exhausted-scope";

/// A request that cannot be understood or is not allowed to be so.
pub fn invalid_argument(text: impl Into<String>) -> Status {
    Status::invalid_argument(text)
}

/// Something of the server's is not as it must be. The text reaches clients only unmasked.
pub fn internal(text: impl Into<String>) -> Status {
    Status::internal(text)
}

/// The server cannot do it now; clients try again.
pub fn unavailable(text: impl Into<String>) -> Status {
    Status::unavailable(text)
}

/// The request is fine, the state is not.
pub fn failed_precondition(text: impl Into<String>) -> Status {
    Status::failed_precondition(text)
}

/// Not built, or switched off.
pub fn unimplemented(text: impl Into<String>) -> Status {
    Status::unimplemented(text)
}

/// A run, task, activity or schedule that is not there.
pub fn not_found(text: impl Into<String>) -> Status {
    with_detail(Code::NotFound, text, &detail::NotFoundFailure::default())
}

/// Not there, though perhaps in the namespace's active cluster.
pub fn not_found_in(
    text: impl Into<String>,
    current_cluster: &str,
    active_cluster: &str,
) -> Status {
    let failure = detail::NotFoundFailure {
        current_cluster: current_cluster.to_owned(),
        active_cluster: active_cluster.to_owned(),
    };
    with_detail(Code::NotFound, text, &failure)
}

/// The namespace is not registered.
pub fn namespace_not_found(namespace: &str) -> Status {
    let failure = detail::NamespaceNotFoundFailure {
        namespace: namespace.to_owned(),
    };
    with_detail(
        Code::NotFound,
        format!("Namespace {namespace} is not found."),
        &failure,
    )
}

/// A start that the id policies refuse.
pub fn already_started(
    text: impl Into<String>,
    start_request_id: &str,
    run_id: &str,
    first_execution_run_id: &str,
) -> Status {
    let failure = detail::WorkflowExecutionAlreadyStartedFailure {
        start_request_id: start_request_id.to_owned(),
        run_id: run_id.to_owned(),
        first_execution_run_id: first_execution_run_id.to_owned(),
    };
    with_detail(Code::AlreadyExists, text, &failure)
}

/// A standalone activity with this id exists.
pub fn activity_already_started(
    text: impl Into<String>,
    start_request_id: &str,
    run_id: &str,
) -> Status {
    let failure = detail::ActivityExecutionAlreadyStartedFailure {
        start_request_id: start_request_id.to_owned(),
        run_id: run_id.to_owned(),
    };
    with_detail(Code::AlreadyExists, text, &failure)
}

/// Cancellation was asked for before, under another request id.
pub fn cancellation_already_requested() -> Status {
    with_detail(
        Code::AlreadyExists,
        "cancellation already requested for this workflow execution",
        &detail::CancellationAlreadyRequestedFailure {},
    )
}

/// The namespace's name is taken.
pub fn namespace_already_exists(text: impl Into<String>) -> Status {
    with_detail(
        Code::AlreadyExists,
        text,
        &detail::NamespaceAlreadyExistsFailure {},
    )
}

/// A write to a namespace that is active in another cluster. SDKs do not retry this.
pub fn namespace_not_active(
    namespace: &str,
    current_cluster: &str,
    active_cluster: &str,
) -> Status {
    let failure = detail::NamespaceNotActiveFailure {
        namespace: namespace.to_owned(),
        current_cluster: current_cluster.to_owned(),
        active_cluster: active_cluster.to_owned(),
    };
    let text = format!(
        "Namespace: {namespace} is active in cluster: {active_cluster}, while current cluster \
         {current_cluster} is a standby cluster."
    );
    with_detail(Code::FailedPrecondition, text, &failure)
}

/// The namespace is not in a state that allows the call.
pub fn namespace_invalid_state(
    namespace: &str,
    state: NamespaceState,
    allowed: &[NamespaceState],
) -> Status {
    let failure = detail::NamespaceInvalidStateFailure {
        namespace: namespace.to_owned(),
        state: state as i32,
        allowed_states: allowed.iter().map(|s| *s as i32).collect(),
    };
    let name = |s: NamespaceState| camel(s.as_str_name(), "NAMESPACE_STATE_");
    let allowed: Vec<_> = allowed.iter().map(|s| name(*s)).collect();
    let text = format!(
        "Namespace has invalid state: {}. Must be {}.",
        name(state),
        allowed.join(" or ")
    );
    with_detail(Code::FailedPrecondition, text, &failure)
}

/// The namespace is being handed over to another cluster; clients try again.
pub fn namespace_unavailable(namespace: &str) -> Status {
    let failure = detail::NamespaceUnavailableFailure {
        namespace: namespace.to_owned(),
    };
    let text = format!("Namespace unavailable: \"{namespace}\". Please try again later.");
    with_detail(Code::Unavailable, text, &failure)
}

/// The client is too old or unknown.
pub fn client_version_not_supported(name: &str, version: &str, supported: &str) -> Status {
    let failure = detail::ClientVersionNotSupportedFailure {
        client_version: version.to_owned(),
        client_name: name.to_owned(),
        supported_versions: supported.to_owned(),
    };
    let text = format!(
        "Client version {version} is not supported. Server supports {name} versions: {supported}"
    );
    with_detail(Code::FailedPrecondition, text, &failure)
}

/// The client asks for another server.
pub fn server_version_not_supported(version: &str, client_supports: &str) -> Status {
    let failure = detail::ServerVersionNotSupportedFailure {
        server_version: version.to_owned(),
        client_supported_server_versions: client_supports.to_owned(),
    };
    let text = format!(
        "Server version {version} is not supported by client that supports versions: {client_supports}"
    );
    with_detail(Code::FailedPrecondition, text, &failure)
}

/// The run cannot take a query or update now, because its workflow task keeps failing or never ran.
pub fn workflow_not_ready(text: impl Into<String>) -> Status {
    with_detail(
        Code::FailedPrecondition,
        text,
        &detail::WorkflowNotReadyFailure {},
    )
}

/// The worker's query handler failed.
pub fn query_failed(text: impl Into<String>, failure: Option<Failure>) -> Status {
    with_detail(
        Code::InvalidArgument,
        text,
        &detail::QueryFailedFailure { failure },
    )
}

/// The caller may not do this.
pub fn permission_denied(reason: &str) -> Status {
    let failure = detail::PermissionDeniedFailure {
        reason: reason.to_owned(),
    };
    with_detail(Code::PermissionDenied, "Request unauthorized.", &failure)
}

/// A throttle. Cause and scope also go into the response's headers.
pub fn resource_exhausted(
    cause: ResourceExhaustedCause,
    scope: ResourceExhaustedScope,
    text: impl Into<String>,
) -> Status {
    let failure = detail::ResourceExhaustedFailure {
        cause: cause as i32,
        scope: scope as i32,
    };
    let mut status = with_detail(Code::ResourceExhausted, text, &failure);
    let headers = [
        (
            RESOURCE_EXHAUSTED_CAUSE,
            camel(cause.as_str_name(), "RESOURCE_EXHAUSTED_CAUSE_"),
        ),
        (
            RESOURCE_EXHAUSTED_SCOPE,
            camel(scope.as_str_name(), "RESOURCE_EXHAUSTED_SCOPE_"),
        ),
    ];
    for (name, value) in headers {
        if let Ok(value) = MetadataValue::try_from(value) {
            status.metadata_mut().insert(name, value);
        }
    }
    status
}

/// The status of a call that an overloaded process refuses.
pub fn overloaded(why: Refused) -> Status {
    let (cause, text) = match why {
        Refused::Overloaded => (
            ResourceExhaustedCause::SystemOverloaded,
            "the server is overloaded; try again later",
        ),
        Refused::InFlight => (
            ResourceExhaustedCause::ConcurrentLimit,
            "too many calls are in flight on this host (system.maxInFlightRequests); try again later",
        ),
        Refused::Behind => (
            ResourceExhaustedCause::SystemOverloaded,
            "the server is overloaded and the task queue has too much waiting; try again later",
        ),
        Refused::Deadline => (
            ResourceExhaustedCause::SystemOverloaded,
            "the server is overloaded: the call would wait longer than its deadline",
        ),
    };
    resource_exhausted(cause, ResourceExhaustedScope::System, text)
}

/// The run is locked by too much work at once.
pub fn busy_workflow(text: impl Into<String>) -> Status {
    let (cause, scope) = (
        ResourceExhaustedCause::BusyWorkflow,
        ResourceExhaustedScope::Namespace,
    );
    resource_exhausted(cause, scope, text)
}

/// A system workflow is broken.
pub fn system_workflow(execution: WorkflowExecution, error: &str) -> Status {
    let text = format!(
        "System Workflow with WorkflowId {} and RunId {} returned an error: {error}",
        execution.workflow_id, execution.run_id
    );
    let failure = detail::SystemWorkflowFailure {
        workflow_execution: Some(execution),
        workflow_error: error.to_owned(),
    };
    with_detail(Code::Internal, text, &failure)
}

/// A newer build is the default of the task queue; the polling worker is too old.
pub fn newer_build_exists(default_build_id: &str) -> Status {
    let failure = detail::NewerBuildExistsFailure {
        default_build_id: default_build_id.to_owned(),
    };
    let text = format!("Task queue has a newer compatible build: \"{default_build_id}\"");
    with_detail(Code::OutOfRange, text, &failure)
}

/// The pages of a workflow task completion sent so far are gone; the worker starts over.
pub fn workflow_task_completion_buffer_lost(text: impl Into<String>) -> Status {
    with_detail(
        Code::Aborted,
        text,
        &detail::WorkflowTaskCompletionBufferLostFailure {},
    )
}

/// `RPS_LIMIT` as `RpsLimit`, the form in which Go servers print their enums.
fn camel(name: &str, prefix: &str) -> String {
    let words = name.strip_prefix(prefix).unwrap_or(name).split('_');
    words
        .flat_map(|word| {
            let mut letters = word.chars();
            let first = letters.next();
            first
                .into_iter()
                .chain(letters.map(|c| c.to_ascii_lowercase()))
        })
        .collect()
}
