//! DeleteWorkflowExecution.

use proto_messages::{
    meridian::history::v1 as history,
    temporal::api::workflowservice::v1::{
        DeleteWorkflowExecutionRequest, DeleteWorkflowExecutionResponse,
    },
};
use tonic::Status;

use crate::{
    edge::{Call, Serve},
    frontend::Host,
    validate,
};

impl Serve for DeleteWorkflowExecutionRequest {
    async fn serve(
        self,
        host: &Host,
        call: &Call,
    ) -> Result<DeleteWorkflowExecutionResponse, Status> {
        let limits = host.limits(call.namespace.name.as_str());
        validate::execution(self.workflow_execution.as_ref(), limits)?;
        let request = history::DeleteWorkflowExecutionRequest {
            namespace_id: call.namespace_id(),
            execution: self.workflow_execution,
            ..Default::default()
        };
        host.history
            .delete_workflow_execution(call.onward(request))
            .await?;
        Ok(DeleteWorkflowExecutionResponse {})
    }
}
