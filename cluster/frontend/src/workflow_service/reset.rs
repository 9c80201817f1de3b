//! ResetWorkflowExecution.

use proto_messages::{
    meridian::history::v1 as history,
    temporal::api::{
        workflow::v1::post_reset_operation::Variant,
        workflowservice::v1::{ResetWorkflowExecutionRequest, ResetWorkflowExecutionResponse},
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
        for operation in &self.post_reset_operations {
            if let Some(Variant::SignalWorkflow(signal)) = &operation.variant {
                validate::identifier("SignalName", &signal.signal_name, limits)?;
                validate::blob(signal.input.as_ref(), limits)?;
                validate::blob(signal.header.as_ref(), limits)?;
                validate::links(&signal.links, limits)?;
            }
        }
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
