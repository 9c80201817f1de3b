//! RespondWorkflowTaskFailed.

use proto_ids::EventId;
use proto_messages::meridian::history::v1::{Empty, RespondWorkflowTaskFailedRequest};
use tonic::Status;

use cluster_core::Request;

use crate::{api, engine::Engine, token};

/// Serves the call.
#[expect(deprecated, reason = "older SDKs still send it")]
pub async fn failed(
    engine: &Engine,
    request: RespondWorkflowTaskFailedRequest,
) -> Result<Empty, Status> {
    let public = api::required(request.request)?;
    let (key, task) = token::read_task(&request.namespace_id, &public.task_token)?;
    let core_request = Request::FailWorkflowTask {
        scheduled_event_id: EventId::new(task.scheduled_event_id),
        started_event_id: EventId::new(task.started_event_id),
        attempt: task.attempt,
        cause: public.cause(),
        failure: public.failure,
        identity: public.identity,
        binary_checksum: public.binary_checksum,
    };
    engine.apply_request(&key, core_request).await?;
    Ok(Empty {})
}
