//! RespondWorkflowTaskCompleted and RespondWorkflowTaskFailed.

use proto_messages::{
    meridian::history::v1 as history,
    temporal::api::workflowservice::v1::{
        RespondWorkflowTaskCompletedRequest, RespondWorkflowTaskCompletedResponse,
        RespondWorkflowTaskFailedRequest, RespondWorkflowTaskFailedResponse,
    },
};
use tonic::Status;

use crate::{
    edge::{Call, Serve},
    frontend::Host,
    validate,
};

impl Serve for RespondWorkflowTaskCompletedRequest {
    async fn serve(
        mut self,
        host: &Host,
        call: &Call,
    ) -> Result<RespondWorkflowTaskCompletedResponse, Status> {
        let limits = host.limits(call.namespace.name.as_str());
        validate::length("Identity", &self.identity, limits)?;
        if let Some(sticky) = &self.sticky_attributes {
            let queue = sticky.worker_task_queue.as_ref();
            validate::length("TaskQueue", queue.map_or("", |q| &q.name), limits)?;
        }
        validate::commands(&mut self.commands);
        for result in self.query_results.values_mut() {
            validate::failure(result.failure.as_mut());
        }
        let request = history::RespondWorkflowTaskCompletedRequest {
            namespace_id: call.namespace_id(),
            request: Some(self),
        };
        host.history
            .respond_workflow_task_completed(call.onward(request))
            .await
    }
}

impl Serve for RespondWorkflowTaskFailedRequest {
    async fn serve(
        self,
        host: &Host,
        call: &Call,
    ) -> Result<RespondWorkflowTaskFailedResponse, Status> {
        let limits = host.limits(call.namespace.name.as_str());
        validate::length("Identity", &self.identity, limits)?;
        let mut this = self;
        validate::failure(this.failure.as_mut());
        if !validate::fits(this.failure.as_ref(), limits) {
            let whole = this.failure.take();
            this.failure = whole.map(super::respond_activity::cut);
        }
        let request = history::RespondWorkflowTaskFailedRequest {
            namespace_id: call.namespace_id(),
            request: Some(this),
        };
        host.history
            .respond_workflow_task_failed(call.onward(request))
            .await?;
        Ok(RespondWorkflowTaskFailedResponse {})
    }
}
