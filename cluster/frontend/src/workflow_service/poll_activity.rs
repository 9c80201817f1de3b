//! PollActivityTaskQueue. An empty answer is the default message: SDKs compare.

use proto_messages::{
    meridian::matching::v1 as matching,
    temporal::api::{
        enums::v1::TaskQueueType,
        workflowservice::v1::{PollActivityTaskQueueRequest, PollActivityTaskQueueResponse},
    },
};
use tonic::Status;

use crate::{
    edge::{Call, Serve},
    frontend::Host,
    validate,
};

impl Serve for PollActivityTaskQueueRequest {
    #[expect(deprecated, reason = "older SDKs still send it")]
    async fn serve(
        mut self,
        host: &Host,
        call: &Call,
    ) -> Result<PollActivityTaskQueueResponse, Status> {
        let limits = host.limits(call.namespace.name.as_str());
        validate::length("Identity", &self.identity, limits)?;
        validate::task_queue(self.task_queue.as_mut(), limits)?;
        validate::unversioned_worker(
            self.worker_version_capabilities.as_ref(),
            self.deployment_options.as_ref(),
        )?;
        let request = matching::PollActivityTaskQueueRequest {
            namespace_id: call.namespace_id(),
            request: Some(self),
            poller_id: call.poller_id.clone(),
        };
        let answer = host
            .matching
            .poll_activity_task_queue(call.onward(request))
            .await?;
        Ok(match answer.task_token.is_empty() {
            true => PollActivityTaskQueueResponse::default(),
            false => answer,
        })
    }

    async fn end_poll(&self, host: &Host, call: &Call) {
        let request = matching::CancelOutstandingPollRequest {
            namespace_id: call.namespace_id(),
            task_queue: self.task_queue.clone(),
            task_queue_type: TaskQueueType::Activity as i32,
            poller_id: call.poller_id.clone(),
        };
        cancel(host, request).await;
    }
}

/// Asks matching to end a poll; when it cannot, the poll ends at its deadline.
pub(super) async fn cancel(host: &Host, request: matching::CancelOutstandingPollRequest) {
    if let Err(error) = host.matching.cancel_outstanding_poll(request).await {
        tracing::debug!(%error, "a parked poll could not be ended");
    }
}
