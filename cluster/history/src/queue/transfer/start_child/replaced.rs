//! Children of a run that a reset made. The run it replaced may have started a child of the same id after
//! the reset point: that child belongs to a future that does not happen, so it makes room for the new one,
//! whatever the id policies say.

use proto_ids::{RunId, RunKey};
use proto_messages::{
    meridian::history::v1::{DescribeWorkflowExecutionRequest, StartWorkflowExecutionRequest},
    temporal::api::{
        common::v1::WorkflowExecution,
        enums::v1::{WorkflowIdConflictPolicy, WorkflowIdReusePolicy},
        workflowservice::v1 as public,
    },
};
use tonic::{Code, Status};

use cluster_core::MutableState;
use cluster_shard::{Outcome, ReadError, Shard};

use crate::queue::{
    ExecutorDeps,
    outcome::{after_call, after_read},
};

/// Whether the run is one that a reset made: its first history was another's.
pub fn is_reset(ms: &MutableState) -> bool {
    !ms.start.original_run_id.is_empty() && ms.start.original_run_id != ms.key.run_id
}

/// Whether the run that has the child's id was started by a run that `parent` took the place of.
pub async fn is_of_replaced_parent(
    deps: &ExecutorDeps,
    shard: &Shard,
    parent: &RunKey,
    call: &StartWorkflowExecutionRequest,
) -> Result<bool, Outcome> {
    let id = call
        .request
        .as_ref()
        .map(|r| r.workflow_id.as_str())
        .unwrap_or_default();
    let other = match parent_of(deps, &call.namespace_id, id).await {
        Ok(found) => found.unwrap_or_default(),
        Err(error) if error.code() == Code::NotFound => return Ok(false),
        Err(error) => return Err(after_call(&error, parent)),
    };
    if other.workflow_id != parent.workflow_id.as_str() || other.run_id == parent.run_id.as_str() {
        return Ok(false);
    }
    let other = RunKey {
        run_id: RunId::from(other.run_id),
        ..parent.clone()
    };
    let origin = |ms: &MutableState| ms.start.original_run_id.clone();
    let found = shard.read(parent, origin).await.map_err(after_read)?;
    match shard.read(&other, origin).await {
        Ok(of_other) => Ok(of_other == found),
        // A reset keeps the run it began with only as long as retention does.
        Err(ReadError::NotFound) => Ok(other.run_id == found),
        Err(error) => Err(after_read(error)),
    }
}

/// The same start, past the id policies.
pub fn regardless(mut call: StartWorkflowExecutionRequest) -> StartWorkflowExecutionRequest {
    if let Some(request) = &mut call.request {
        request.set_workflow_id_reuse_policy(WorkflowIdReusePolicy::AllowDuplicate);
        request.set_workflow_id_conflict_policy(WorkflowIdConflictPolicy::TerminateExisting);
    }
    call
}

async fn parent_of(
    deps: &ExecutorDeps,
    namespace_id: &str,
    workflow_id: &str,
) -> Result<Option<WorkflowExecution>, Status> {
    let execution = WorkflowExecution {
        workflow_id: workflow_id.to_owned(),
        run_id: String::new(),
    };
    let request = public::DescribeWorkflowExecutionRequest {
        execution: Some(execution),
        ..Default::default()
    };
    let call = DescribeWorkflowExecutionRequest {
        namespace_id: namespace_id.to_owned(),
        request: Some(request),
    };
    let found = deps.history.describe_workflow_execution(call).await?;
    Ok(found
        .workflow_execution_info
        .and_then(|i| i.parent_execution))
}
