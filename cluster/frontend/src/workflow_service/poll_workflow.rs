//! PollWorkflowTaskQueue. An empty answer is the default message: SDKs compare.

use proto_messages::{
    meridian::matching::v1 as matching,
    temporal::api::{
        enums::v1::TaskQueueType,
        workflowservice::v1::{PollWorkflowTaskQueueRequest, PollWorkflowTaskQueueResponse},
    },
};
use tonic::Status;

use crate::{
    edge::{Call, Serve},
    frontend::Host,
    validate,
};

impl Serve for PollWorkflowTaskQueueRequest {
    #[expect(deprecated, reason = "older SDKs still send it")]
    async fn serve(
        mut self,
        host: &Host,
        call: &Call,
    ) -> Result<PollWorkflowTaskQueueResponse, Status> {
        let limits = host.limits(call.namespace.name.as_str());
        validate::length("Identity", &self.identity, limits)?;
        validate::task_queue(self.task_queue.as_mut(), limits)?;
        validate::unversioned_worker(
            self.worker_version_capabilities.as_ref(),
            self.deployment_options.as_ref(),
        )?;
        let bad_binaries = &call.namespace.bad_binaries;
        if bad_binaries.contains_key(&self.binary_checksum) {
            return Err(cluster_rpc::status::invalid_argument(format!(
                "Binary {} already marked as bad deployment.",
                self.binary_checksum
            )));
        }
        let request = matching::PollWorkflowTaskQueueRequest {
            namespace_id: call.namespace_id(),
            request: Some(self),
            poller_id: call.poller_id.clone(),
        };
        let answer = host
            .matching
            .poll_workflow_task_queue(call.onward(request))
            .await?;
        Ok(match answer.task_token.is_empty() {
            true => PollWorkflowTaskQueueResponse::default(),
            false => answer,
        })
    }

    async fn end_poll(&self, host: &Host, call: &Call) {
        let request = matching::CancelOutstandingPollRequest {
            namespace_id: call.namespace_id(),
            task_queue: self.task_queue.clone(),
            task_queue_type: TaskQueueType::Workflow as i32,
            poller_id: call.poller_id.clone(),
        };
        super::poll_activity::cancel(host, request).await;
    }
}
