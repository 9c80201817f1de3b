//! RespondWorkflowTaskFailed.

use proto_ids::EventId;
use proto_messages::{
    meridian::history::v1::{Empty, RespondWorkflowTaskFailedRequest},
    temporal::api::enums::v1::WorkflowTaskFailedCause,
};
use tonic::Status;

use cluster_core::{Given, Outcome, Refusal, Request, Workflow};

use crate::{api, change, engine::Engine, token};

/// Serves the call.
pub async fn failed(
    engine: &Engine,
    request: RespondWorkflowTaskFailedRequest,
) -> Result<Empty, Status> {
    let public = api::required(request.request)?;
    let (key, task) = token::read_task(&request.namespace_id, &public.task_token)?;
    let shard = engine.shard_of(&key).await?;
    let cause = public.cause();
    let ask = Request::FailWorkflowTask {
        scheduled_event_id: EventId::new(task.scheduled_event_id),
        started_event_id: EventId::new(task.started_event_id),
        attempt: task.attempt,
        cause,
        failure: public.failure,
        identity: public.identity,
        binary_checksum: public.binary_checksum,
    };
    let updated = engine.update(&shard, &key, |wf, given| {
        let failed = wf.handle(ask, given)?;
        // A worker that cannot even send its answer never will: trying again would only loop.
        if cause == WorkflowTaskFailedCause::GrpcMessageTooLarge {
            return Ok((then_terminate(wf, given, failed, cause)?, ()));
        }
        Ok((failed, ()))
    });
    updated.await?;
    Ok(Empty {})
}

fn then_terminate(
    wf: &mut Workflow,
    given: &Given<'_>,
    failed: Outcome,
    cause: WorkflowTaskFailedCause,
) -> Result<Outcome, Refusal> {
    let name = cause
        .as_str_name()
        .trim_start_matches("WORKFLOW_TASK_FAILED_CAUSE_");
    let terminated = wf.handle(change::terminate(name.to_owned()), given)?;
    Ok(api::both(failed, terminated))
}
