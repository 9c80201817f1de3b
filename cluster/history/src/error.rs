//! Errors of the service, and the one place where they become gRPC statuses. SDKs depend on codes,
//! details and texts; all of this service's come from [`status`].

use proto_ids::RunKey;
use proto_messages::temporal::api::enums::v1::{ResourceExhaustedCause, ResourceExhaustedScope};
use tonic::Status;

use cluster_core::Refusal;
use cluster_rpc::status as statuses;
use cluster_shard::{ReadError, ShardError, TxnError, UpdateError};

/// Text of a run that is closed.
pub const COMPLETED: &str = "workflow execution already completed";

const NO_ACTIVITY: &str =
    "invalid activityID or activity already timed out or invoking workflow is completed";

/// The reason why a call was not served.
#[derive(Debug)]
pub enum HistoryError {
    /// The core's rules say no.
    Refused(Refusal),
    /// There is no such run.
    NoRun,
    /// The namespace is not known here.
    NoNamespace(String),
    /// Another cluster may write to the namespace.
    NotActive {
        /// The namespace's name.
        namespace: String,
        /// This cluster.
        current: String,
        /// The cluster that may.
        active: String,
    },
    /// The namespace is on its way to another cluster.
    Handover(String),
    /// The shard cannot serve it.
    Shard(ShardError),
    /// Too much work on one run.
    Busy(String),
    /// Too much work for the process.
    Overloaded(String),
    /// Decided already.
    Status(Status),
}

/// The status a caller gets.
pub fn status(error: HistoryError, key: &RunKey) -> Status {
    if let HistoryError::Refused(Refusal::Corrupt(_))
    | HistoryError::Shard(ShardError::Corrupt(_)) = &error
    {
        tracing::error!(
            namespace = %key.namespace_id, workflow_id = %key.workflow_id, run_id = %key.run_id,
            ?error, "the run's state or history is broken"
        );
    }
    match error {
        HistoryError::Refused(refusal) => refused(refusal),
        HistoryError::NoRun => {
            statuses::not_found(format!("workflow not found for ID: {}", key.workflow_id))
        }
        HistoryError::NoNamespace(id) => statuses::namespace_not_found(&id),
        HistoryError::NotActive {
            namespace,
            current,
            active,
        } => statuses::namespace_not_active(&namespace, &current, &active),
        HistoryError::Handover(namespace) => statuses::namespace_unavailable(&namespace),
        HistoryError::Shard(ShardError::Lost(_)) => statuses::shard_ownership_lost("", ""),
        HistoryError::Shard(ShardError::NotOwner { owner, .. }) => {
            statuses::shard_ownership_lost(owner.as_deref().unwrap_or_default(), "")
        }
        HistoryError::Shard(ShardError::Corrupt(text)) => Status::data_loss(text),
        HistoryError::Shard(ShardError::Rejected(text)) => statuses::invalid_argument(text),
        HistoryError::Shard(error) => statuses::unavailable(error.to_string()),
        HistoryError::Busy(text) => statuses::busy_workflow(text),
        HistoryError::Overloaded(text) => statuses::resource_exhausted(
            ResourceExhaustedCause::SystemOverloaded,
            ResourceExhaustedScope::System,
            text,
        ),
        HistoryError::Status(status) => status,
    }
}

impl From<UpdateError> for HistoryError {
    fn from(error: UpdateError) -> Self {
        match error {
            UpdateError::Refused(refusal) => Self::Refused(refusal),
            UpdateError::NotFound => Self::NoRun,
            UpdateError::NotActive {
                namespace,
                current,
                active,
            } => Self::NotActive {
                namespace: namespace.into(),
                current: current.into(),
                active: active.into(),
            },
            UpdateError::Handover(namespace) => Self::Handover(namespace.into()),
            UpdateError::NamespaceNotFound(id) => Self::NoNamespace(id.into()),
            UpdateError::Busy(text) => Self::Overloaded(text),
            UpdateError::Shard(error) => Self::Shard(error),
        }
    }
}

impl From<ReadError> for HistoryError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::NotFound => Self::NoRun,
            ReadError::Shard(error) => Self::Shard(error),
        }
    }
}

impl From<ShardError> for HistoryError {
    fn from(error: ShardError) -> Self {
        Self::Shard(error)
    }
}

impl From<TxnError<HistoryError>> for HistoryError {
    fn from(error: TxnError<HistoryError>) -> Self {
        match error {
            TxnError::Decided(error) => error,
            TxnError::NotActive {
                namespace,
                current,
                active,
            } => Self::NotActive {
                namespace: namespace.into(),
                current: current.into(),
                active: active.into(),
            },
            TxnError::Handover(namespace) => Self::Handover(namespace.into()),
            TxnError::NamespaceNotFound(id) => Self::NoNamespace(id.into()),
            TxnError::Busy(text) => Self::Overloaded(text),
            TxnError::Shard(error) => Self::Shard(error),
        }
    }
}

fn refused(refusal: Refusal) -> Status {
    match refusal {
        Refusal::Closed(_) => statuses::not_found(COMPLETED),
        Refusal::WorkflowTaskNotFound => statuses::not_found("Workflow task not found."),
        Refusal::ActivityNotFound => statuses::not_found(NO_ACTIVITY),
        Refusal::AlreadyStarted => statuses::not_found("Task already started."),
        Refusal::CancelAlreadyRequested => statuses::cancellation_already_requested(),
        Refusal::NotChild => statuses::not_found("workflow parent does not match"),
        Refusal::FirstRunMismatch => statuses::not_found("workflow execution not found"),
        Refusal::Invalid(text) => statuses::invalid_argument(text),
        Refusal::Limit {
            exhausted: true,
            text,
        } => {
            let cause = ResourceExhaustedCause::BusyWorkflow;
            statuses::resource_exhausted(cause, ResourceExhaustedScope::Namespace, text)
        }
        Refusal::Limit {
            exhausted: false,
            text,
        } => statuses::failed_precondition(text),
        Refusal::NotReady(text) => statuses::unavailable(text),
        Refusal::HistoryLimitExceeded(failure) => statuses::invalid_argument(failure.message),
        Refusal::Corrupt(corrupt) => statuses::internal(corrupt.to_string()),
    }
}
