//! Statuses for refusals of the namespace manager, the directory and the store.

use cluster_rpc::status;
use namespaces::{MessageError, Refusal};
use proto_ids::NamespaceName;
use schema_store::StoreError;
use tonic::Status;

pub(crate) fn of_change(refusal: Refusal) -> Status {
    let text = refusal.to_string();
    match refusal {
        Refusal::Invalid(_) => status::invalid_argument(text),
        Refusal::NamespaceNotFound(name) => status::namespace_not_found(&name),
        Refusal::NamespaceExists => status::namespace_already_exists(text),
        Refusal::ClusterNotFound(_) => status::not_found(text),
        Refusal::Precondition(_) | Refusal::NotShared { .. } => status::failed_precondition(text),
        Refusal::Collision { .. } => status::invalid_argument(text),
        Refusal::Contended => status::unavailable(text),
        Refusal::Store(error) => of_store(error),
    }
}

pub(crate) fn of_store(error: StoreError) -> Status {
    let text = error.to_string();
    match error {
        StoreError::Unavailable(_)
        | StoreError::Conflict(_)
        | StoreError::Fenced(_)
        | StoreError::Unknown(_) => status::unavailable(text),
        StoreError::NotFound(_) => status::not_found(text),
        StoreError::Invalid(text) => status::invalid_argument(text),
        StoreError::Corrupt(_) => status::internal(text),
    }
}

pub(crate) fn of_queue(error: MessageError) -> Status {
    match error {
        MessageError::Store(error) => of_store(error),
        MessageError::Corrupt { .. } => status::internal(error.to_string()),
        MessageError::Refused(text) => status::invalid_argument(text),
    }
}

pub(crate) fn not_found(name: &NamespaceName) -> Status {
    status::namespace_not_found(name.as_str())
}
