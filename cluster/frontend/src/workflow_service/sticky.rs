//! ResetStickyTaskQueue.

use proto_messages::{
    meridian::history::v1 as history,
    temporal::api::workflowservice::v1::{
        ResetStickyTaskQueueRequest, ResetStickyTaskQueueResponse,
    },
};
use tonic::Status;

use crate::{
    edge::{Call, Serve},
    frontend::Host,
    validate,
};

impl Serve for ResetStickyTaskQueueRequest {
    async fn serve(self, host: &Host, call: &Call) -> Result<ResetStickyTaskQueueResponse, Status> {
        let limits = host.limits(call.namespace.name.as_str());
        validate::execution(self.execution.as_ref(), limits)?;
        let request = history::ResetStickyTaskQueueRequest {
            namespace_id: call.namespace_id(),
            execution: self.execution,
        };
        host.history
            .reset_sticky_task_queue(call.onward(request))
            .await?;
        Ok(ResetStickyTaskQueueResponse {})
    }
}
