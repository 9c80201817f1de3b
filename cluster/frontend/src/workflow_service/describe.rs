//! DescribeWorkflowExecution.

use proto_messages::{
    meridian::history::v1 as history,
    temporal::api::workflowservice::v1::{
        DescribeWorkflowExecutionRequest, DescribeWorkflowExecutionResponse,
    },
};
use tonic::Status;

use crate::{
    edge::{Call, Serve},
    frontend::Host,
    validate,
};

impl Serve for DescribeWorkflowExecutionRequest {
    async fn serve(
        self,
        host: &Host,
        call: &Call,
    ) -> Result<DescribeWorkflowExecutionResponse, Status> {
        let limits = host.limits(call.namespace.name.as_str());
        validate::execution(self.execution.as_ref(), limits)?;
        let request = history::DescribeWorkflowExecutionRequest {
            namespace_id: call.namespace_id(),
            request: Some(self),
        };
        host.history
            .describe_workflow_execution(call.onward(request))
            .await
    }
}
