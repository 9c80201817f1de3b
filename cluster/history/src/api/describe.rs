//! DescribeWorkflowExecution: a run's state as the public API tells it.

use cluster_core::MutableState;
use proto_ids::EventId;
use proto_messages::{
    meridian::history::v1::DescribeWorkflowExecutionRequest,
    temporal::api::workflowservice::v1::DescribeWorkflowExecutionResponse,
};
use tonic::Status;

use crate::{api, engine::Engine, error, events};

/// Serves the call.
pub async fn describe(
    engine: &Engine,
    request: DescribeWorkflowExecutionRequest,
) -> Result<DescribeWorkflowExecutionResponse, Status> {
    let public = api::required(request.request)?;
    let key = api::run_key(&request.namespace_id, public.execution.as_ref())?;
    let shard = engine.shard_of(&key).await?;
    let now = engine.now();
    let look = |ms: &MutableState| {
        let branch = ms.versions.current().branch.clone();
        let reset = is_reset(ms).then(|| (ms.key.clone(), branch));
        (ms.describe(now), reset)
    };
    let (mut response, reset) = shard
        .read(&key, look)
        .await
        .map_err(|e| error::status(e.into(), &key))?;
    if let Some((key, branch)) = reset
        && let Some(extended) = &mut response.workflow_extended_info
    {
        // A run made by reset begins with the events of another one; its own start is the reset.
        let (first, second) = (EventId::new(1), EventId::new(2));
        let batches = events::all(&shard, &key, &branch, first, second).await?;
        let first = batches.into_iter().flatten().next();
        extended.last_reset_time = extended.original_start_time;
        extended.original_start_time = first.and_then(|e| e.event_time);
    }
    Ok(response)
}

/// Whether a reset made the run.
fn is_reset(ms: &MutableState) -> bool {
    !ms.start.original_run_id.is_empty() && ms.start.original_run_id != ms.key.run_id
}
