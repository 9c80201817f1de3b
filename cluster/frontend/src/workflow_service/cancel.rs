//! RequestCancelWorkflowExecution.

use proto_messages::{
    meridian::history::v1 as history,
    temporal::api::workflowservice::v1::{
        RequestCancelWorkflowExecutionRequest, RequestCancelWorkflowExecutionResponse,
    },
};
use tonic::Status;

use crate::{
    edge::{Call, Serve},
    frontend::Host,
    validate,
};

impl Serve for RequestCancelWorkflowExecutionRequest {
    async fn serve(
        mut self,
        host: &Host,
        call: &Call,
    ) -> Result<RequestCancelWorkflowExecutionResponse, Status> {
        let limits = host.limits(call.namespace.name.as_str());
        validate::execution(self.workflow_execution.as_ref(), limits)?;
        validate::run_id(&self.first_execution_run_id)?;
        validate::length("RequestId", &self.request_id, limits)?;
        validate::length("Identity", &self.identity, limits)?;
        validate::length("Reason", &self.reason, limits)?;
        validate::links(&self.links, limits)?;
        if self.request_id.is_empty() {
            self.request_id = host.ids.make();
        }
        let request = history::RequestCancelWorkflowExecutionRequest {
            namespace_id: call.namespace_id(),
            request: Some(self),
            ..Default::default()
        };
        host.history
            .request_cancel_workflow_execution(call.onward(request))
            .await?;
        Ok(RequestCancelWorkflowExecutionResponse {})
    }
}
