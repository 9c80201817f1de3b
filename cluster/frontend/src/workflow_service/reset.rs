//! ResetWorkflowExecution.

use proto_messages::{
    meridian::history::v1 as history,
    temporal::api::workflowservice::v1::{
        ResetWorkflowExecutionRequest, ResetWorkflowExecutionResponse,
    },
};
use tonic::Status;

use crate::{
    edge::{Call, Serve},
    frontend::Host,
    validate,
};

impl Serve for ResetWorkflowExecutionRequest {
    async fn serve(
        mut self,
        host: &Host,
        call: &Call,
    ) -> Result<ResetWorkflowExecutionResponse, Status> {
        let limits = host.limits(call.namespace.name.as_str());
        validate::execution(self.workflow_execution.as_ref(), limits)?;
        validate::length("RequestId", &self.request_id, limits)?;
        validate::length("Identity", &self.identity, limits)?;
        validate::length("Reason", &self.reason, limits)?;
        if self.request_id.is_empty() {
            self.request_id = host.ids.make();
        }
        let request = history::ResetWorkflowExecutionRequest {
            namespace_id: call.namespace_id(),
            request: Some(self),
        };
        host.history
            .reset_workflow_execution(call.onward(request))
            .await
    }
}
