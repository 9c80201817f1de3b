//! Why a call was not served, and the one place where that becomes a gRPC status. SDKs depend on codes,
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

/// Why a call was not served.
#[derive(Debug)]
pub enum Fault {
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
pub fn status(fault: Fault, key: &RunKey) -> Status {
    if let Fault::Refused(Refusal::Corrupt(_)) | Fault::Shard(ShardError::Corrupt(_)) = &fault {
        tracing::error!(
            namespace = %key.namespace_id, workflow_id = %key.workflow_id, run_id = %key.run_id,
            ?fault, "the run's state or history is broken"
        );
    }
    match fault {
        Fault::Refused(refusal) => refused(refusal),
        Fault::NoRun => {
            statuses::not_found(format!("workflow not found for ID: {}", key.workflow_id))
        }
        Fault::NoNamespace(id) => statuses::namespace_not_found(&id),
        Fault::NotActive {
            namespace,
            current,
            active,
        } => statuses::namespace_not_active(&namespace, &current, &active),
        Fault::Handover(namespace) => statuses::namespace_unavailable(&namespace),
        Fault::Shard(ShardError::Lost(_)) => statuses::shard_ownership_lost("", ""),
        Fault::Shard(ShardError::NotOwner { owner, .. }) => {
            statuses::shard_ownership_lost(owner.as_deref().unwrap_or_default(), "")
        }
        Fault::Shard(ShardError::Corrupt(text)) => Status::data_loss(text),
        Fault::Shard(ShardError::Rejected(text)) => statuses::invalid_argument(text),
        Fault::Shard(error) => statuses::unavailable(error.to_string()),
        Fault::Busy(text) => statuses::busy_workflow(text),
        Fault::Overloaded(text) => statuses::resource_exhausted(
            ResourceExhaustedCause::SystemOverloaded,
            ResourceExhaustedScope::System,
            text,
        ),
        Fault::Status(status) => status,
    }
}

impl From<UpdateError> for Fault {
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

impl From<ReadError> for Fault {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::NotFound => Self::NoRun,
            ReadError::Shard(error) => Self::Shard(error),
        }
    }
}

impl From<ShardError> for Fault {
    fn from(error: ShardError) -> Self {
        Self::Shard(error)
    }
}

impl From<TxnError<Fault>> for Fault {
    fn from(error: TxnError<Fault>) -> Self {
        match error {
            TxnError::Decided(fault) => fault,
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
