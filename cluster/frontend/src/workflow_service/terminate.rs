//! TerminateWorkflowExecution.

use proto_messages::{
    meridian::history::v1 as history,
    temporal::api::workflowservice::v1::{
        TerminateWorkflowExecutionRequest, TerminateWorkflowExecutionResponse,
    },
};
use tonic::Status;

use crate::{
    edge::{Call, Serve},
    frontend::Host,
    validate,
};

/// The reason in the event when the caller gave neither reason nor identity.
const REASON: &str = "terminated by user via frontend";
const IDENTITY: &str = "frontend-service";

impl Serve for TerminateWorkflowExecutionRequest {
    async fn serve(
        mut self,
        host: &Host,
        call: &Call,
    ) -> Result<TerminateWorkflowExecutionResponse, Status> {
        let limits = host.limits(call.namespace.name.as_str());
        validate::execution(self.workflow_execution.as_ref(), limits)?;
        validate::run_id(&self.first_execution_run_id)?;
        validate::length("Identity", &self.identity, limits)?;
        validate::length("Reason", &self.reason, limits)?;
        validate::blob(self.details.as_ref(), limits)?;
        validate::links(&self.links, limits)?;
        if self.reason.is_empty() {
            self.reason = REASON.to_owned();
        }
        if self.identity.is_empty() {
            self.identity = IDENTITY.to_owned();
        }
        let request = history::TerminateWorkflowExecutionRequest {
            namespace_id: call.namespace_id(),
            request: Some(self),
            ..Default::default()
        };
        host.history
            .terminate_workflow_execution(call.onward(request))
            .await?;
        Ok(TerminateWorkflowExecutionResponse {})
    }
}
