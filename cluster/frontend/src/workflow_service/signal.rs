//! SignalWorkflowExecution.

use proto_messages::{
    meridian::history::v1 as history,
    temporal::api::workflowservice::v1::{
        SignalWorkflowExecutionRequest, SignalWorkflowExecutionResponse,
    },
};
use tonic::Status;

use crate::{
    edge::{Call, Serve},
    frontend::Host,
    validate,
};

impl Serve for SignalWorkflowExecutionRequest {
    async fn serve(
        mut self,
        host: &Host,
        call: &Call,
    ) -> Result<SignalWorkflowExecutionResponse, Status> {
        let limits = host.limits(call.namespace.name.as_str());
        validate::execution(self.workflow_execution.as_ref(), limits)?;
        validate::identifier("SignalName", &self.signal_name, limits)?;
        validate::length("RequestId", &self.request_id, limits)?;
        validate::length("Identity", &self.identity, limits)?;
        validate::blob(self.input.as_ref(), limits)?;
        validate::blob(self.header.as_ref(), limits)?;
        validate::links(&self.links, limits)?;
        if self.request_id.is_empty() {
            self.request_id = host.ids.make();
        }
        let request = history::SignalWorkflowExecutionRequest {
            namespace_id: call.namespace_id(),
            request: Some(self),
            ..Default::default()
        };
        host.history
            .signal_workflow_execution(call.onward(request))
            .await?;
        Ok(SignalWorkflowExecutionResponse::default())
    }
}
