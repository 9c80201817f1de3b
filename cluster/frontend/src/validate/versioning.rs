//! Worker versioning, which this server does not route by. Workers and requests that rely on it are refused: a
//! pinned run whose tasks go to any worker breaks the promise that it was pinned for. Build ids and deployments
//! that workers merely state are recorded.

use cluster_rpc::status;
use proto_messages::temporal::api::{
    common::v1::{TimeSkippingConfig, WorkerVersionCapabilities},
    deployment::v1::WorkerDeploymentOptions,
    enums::v1::WorkerVersioningMode,
    workflow::v1::VersioningOverride,
};

use super::{Checked, refuse};

/// Refuses the poll of a worker that takes tasks of its version only. INVALID_ARGUMENT, because SDKs stop a
/// worker for it, and say why; they would repeat UNIMPLEMENTED for ever.
pub(crate) fn unversioned_worker(
    capabilities: Option<&WorkerVersionCapabilities>,
    deployment: Option<&WorkerDeploymentOptions>,
) -> Checked {
    let by_build = capabilities.is_some_and(|c| c.use_versioning);
    let by_deployment =
        deployment.is_some_and(|d| d.worker_versioning_mode() == WorkerVersioningMode::Versioned);
    if by_build || by_deployment {
        return refuse(
            "this server does not support worker versioning: poll with deployment_options in \
             WORKER_VERSIONING_MODE_UNVERSIONED and without use_versioning",
        );
    }
    Ok(())
}

/// Refuses to start a run on a version of its own choice.
pub(crate) fn no_override(wanted: Option<&VersioningOverride>) -> Checked {
    match wanted {
        None => Ok(()),
        Some(_) => Err(status::unimplemented(
            "versioning_override is not supported by this server",
        )),
    }
}

/// Refuses a run whose clock is to be moved on.
pub(crate) fn no_time_skipping(wanted: Option<&TimeSkippingConfig>) -> Checked {
    match wanted {
        None => Ok(()),
        // The text is Temporal's, where the feature is off by default.
        Some(_) => Err(status::unimplemented(
            "The Time-Skipping feature is not enabled for namespace.",
        )),
    }
}
