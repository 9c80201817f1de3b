//! SignalWorkflowExecution, from clients and from other runs.

use proto_messages::meridian::history::v1::{Empty, SignalWorkflowExecutionRequest};
use tonic::Status;

use cluster_core::{Request, request::Signal};

use crate::{api, engine::Engine};

/// Serves the call.
pub async fn signal(
    engine: &Engine,
    request: SignalWorkflowExecutionRequest,
) -> Result<Empty, Status> {
    let public = api::required(request.request)?;
    let key = api::run_key(&request.namespace_id, public.workflow_execution.as_ref())?;
    let only_from_parent = request
        .child_workflow_only
        .then(|| request.external_execution.clone())
        .flatten();
    let signal = Signal {
        name: public.signal_name,
        input: public.input,
        header: public.header,
        identity: public.identity,
        request_id: public.request_id,
        external: request.external_execution,
        skip_workflow_task: false,
        links: public.links,
    };
    engine
        .apply_request(
            &key,
            Request::Signal {
                signal,
                only_from_parent,
            },
        )
        .await?;
    Ok(Empty {})
}
