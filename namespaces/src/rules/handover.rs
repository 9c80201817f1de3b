//! Holding writes back for a planned failover.

use proto_messages::temporal::api::enums::v1::NamespaceState;

use crate::{error::Refusal, namespace::Namespace};

/// Whether the namespace may enter the handover state.
pub(super) fn check(namespace: &Namespace) -> Result<(), Refusal> {
    if !namespace.is_global {
        return Err(Refusal::Invalid(format!(
            "namespace: {} is not a global namespace, cannot update replication state to handover",
            namespace.name
        )));
    }
    if namespace.state != NamespaceState::Registered as i32 {
        return Err(Refusal::Invalid(format!(
            "namespace: {} is not in registered state, cannot update replication state to handover",
            namespace.name
        )));
    }
    if namespace.clusters.len() < 2 {
        return Err(Refusal::Invalid(format!(
            "namespace: {} must have at least two replicated clusters to update replication state to \
             handover",
            namespace.name
        )));
    }
    Ok(())
}
