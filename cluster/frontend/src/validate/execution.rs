//! Names of runs.

use proto_messages::temporal::api::common::v1::WorkflowExecution;
use tonic::Status;

use super::{Checked, identifier, refuse};
use crate::limits::Limits;

/// The run a request is about; its run id may be empty, which means the current one.
pub(crate) fn execution<'a>(
    execution: Option<&'a WorkflowExecution>,
    limits: Limits<'_>,
) -> Result<&'a WorkflowExecution, Status> {
    let Some(execution) = execution else {
        return Err(cluster_rpc::status::invalid_argument(
            "Execution is not set on request.",
        ));
    };
    workflow_id(&execution.workflow_id, limits)?;
    run_id(&execution.run_id)?;
    Ok(execution)
}

pub(crate) fn workflow_id(id: &str, limits: Limits<'_>) -> Checked {
    identifier("WorkflowId", id, limits)
}

pub(crate) fn run_id(id: &str) -> Checked {
    if !id.is_empty() && uuid::Uuid::try_parse(id).is_err() {
        return refuse("Invalid RunId.");
    }
    Ok(())
}
