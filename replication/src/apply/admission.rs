//! Whether a task is for this cluster, by its namespace. One that is not known here, or known in a version
//! below the task's, is fetched from the source first: the namespace queue and the streams are separate, and
//! either may be ahead.

use std::sync::Arc;

use namespaces::Namespace;
use proto_ids::{ClusterName, FailoverVersion, NamespaceId};
use tonic::Status;

use super::Applier;
use crate::namespaces::Refreshed;

/// The answer.
pub(super) enum Admission {
    /// Apply it.
    Admit(Arc<Namespace>),
    /// Skip it, for this reason.
    Skip(&'static str),
}

impl Applier {
    /// Looks at the namespace of a task of this version.
    pub(super) async fn admit(
        &self,
        source: &ClusterName,
        id: &NamespaceId,
        version: FailoverVersion,
    ) -> Result<Admission, Status> {
        let registry = &self.deps().registry;
        let mut known = registry.by_id(id);
        let is_enough = |namespace: &Arc<Namespace>| namespace.failover_version >= version;
        if !known.as_ref().is_some_and(is_enough) {
            match self.deps().refresher.refresh(source, id).await {
                Ok(Refreshed::Known) => {
                    known = registry
                        .resolve_id(id)
                        .await
                        .map_err(|e| Status::unavailable(e.to_string()))?;
                }
                Ok(Refreshed::NotOurs) => {}
                // One that is only old still says where its events belong.
                Err(error) if known.is_some() => {
                    tracing::warn!(
                        remote_cluster = %source,
                        namespace_id = %id,
                        %error,
                        "the namespace could not be fetched; the known version is used"
                    );
                }
                Err(error) => return Err(error),
            }
        }
        let Some(namespace) = known else {
            return Ok(Admission::Skip("the namespace is not known here"));
        };
        if namespace.is_deleted() {
            return Ok(Admission::Skip("the namespace is deleted"));
        }
        if !namespace.lives_in(&self.deps().clusters.current_name()) {
            return Ok(Admission::Skip("the namespace does not live here"));
        }
        Ok(Admission::Admit(namespace))
    }
}
