//! RequestCancelWorkflowExecution, from clients, other runs and parent-close policies.

use proto_ids::EventId;
use proto_messages::meridian::history::v1::{Empty, RequestCancelWorkflowExecutionRequest};
use tonic::Status;

use cluster_core::{Refusal, Request};

use crate::{api, engine::Engine};

/// Serves the call. A run that is closed, or was asked before, is a success: what was wanted holds.
pub async fn cancel(
    engine: &Engine,
    request: RequestCancelWorkflowExecutionRequest,
) -> Result<Empty, Status> {
    let public = api::required(request.request)?;
    let key = api::run_key(&request.namespace_id, public.workflow_execution.as_ref())?;
    let key = api::in_chain(key, &public.first_execution_run_id);
    let shard = engine.shard_of(&key).await?;
    let initiated = EventId::new(request.external_initiated_event_id);
    let core_request = Request::Cancel {
        reason: public.reason,
        identity: public.identity,
        request_id: public.request_id,
        external: request
            .external_execution
            .map(|execution| (execution, initiated)),
        child_only: request.child_workflow_only,
        links: public.links,
    };
    let chain = public.first_execution_run_id;
    let decided = engine.update(&shard, &key, |ms, ctx| {
        let is_other = !chain.is_empty() && ms.start.first_run_id.as_str() != chain;
        if is_other && ms.is_running() {
            return Err(Refusal::FirstRunMismatch);
        }
        match ms.handle(core_request, ctx) {
            Ok(transition) => Ok((transition, ())),
            Err(Refusal::Closed(_) | Refusal::CancelAlreadyRequested) => Ok((api::unchanged(), ())),
            Err(refusal) => Err(refusal),
        }
    });
    decided.await?;
    Ok(Empty {})
}
