//! TerminateWorkflowExecution, from clients and parent-close policies.

use proto_ids::{RunId, RunKey};
use proto_messages::meridian::history::v1::{Empty, TerminateWorkflowExecutionRequest};
use tonic::Status;

use cluster_core::Request;

use crate::{api, engine::Engine};

/// Serves the call.
pub async fn terminate(
    engine: &Engine,
    request: TerminateWorkflowExecutionRequest,
) -> Result<Empty, Status> {
    let public = api::required(request.request)?;
    let key = api::run_key(&request.namespace_id, public.workflow_execution.as_ref())?;
    let key = api::in_chain(key, &public.first_execution_run_id);
    let only_from_parent = request
        .child_workflow_only
        .then_some(request.external_execution)
        .flatten();
    let core_request = Request::Terminate {
        reason: public.reason,
        details: public.details,
        identity: public.identity,
        only_from_parent,
        first_execution_run_id: RunId::from(public.first_execution_run_id),
        links: public.links,
    };
    let ended = engine.apply_request(&key, core_request).await?;
    engine.queries.unblock(&RunKey {
        run_id: ended.run_id,
        ..key
    });
    Ok(Empty {})
}
