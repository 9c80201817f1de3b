//! What runs on different shards tell one another about children.

use proto_ids::EventId;
use proto_messages::meridian::history::v1::{
    Empty, RecordChildExecutionCompletedRequest, ScheduleFirstWorkflowTaskRequest,
};
use tonic::Status;

use cluster_core::Request;

use crate::{api, engine::Engine};

/// A child of one of our runs closed.
pub async fn record_completed(
    engine: &Engine,
    request: RecordChildExecutionCompletedRequest,
) -> Result<Empty, Status> {
    let key = api::run_key(&request.namespace_id, request.parent_execution.as_ref())?;
    let child = api::required(request.child_execution)?;
    let event = api::required(request.completion_event)?;
    let ask = Request::ChildClosed {
        initiated_event_id: EventId::new(request.parent_initiated_event_id),
        child,
        event: Box::new(event),
    };
    engine.ask(&key, ask).await?;
    Ok(Empty {})
}

/// The parent has recorded the start of this run: its first workflow task may go.
pub async fn schedule_first_workflow_task(
    engine: &Engine,
    request: ScheduleFirstWorkflowTaskRequest,
) -> Result<Empty, Status> {
    let key = api::run_key(&request.namespace_id, request.execution.as_ref())?;
    engine.ask(&key, Request::ScheduleFirstWorkflowTask).await?;
    Ok(Empty {})
}
