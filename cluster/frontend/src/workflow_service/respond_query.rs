//! RespondQueryTaskCompleted: the answer goes to the matching host that waits for it.

use proto_messages::{
    meridian::matching::v1 as matching,
    temporal::api::{
        enums::v1::QueryResultType,
        taskqueue::v1::TaskQueue,
        workflowservice::v1::{
            RespondQueryTaskCompletedRequest, RespondQueryTaskCompletedResponse,
        },
    },
};
use tonic::Status;

use crate::{
    edge::{Call, Serve},
    frontend::Host,
    token, validate,
};

impl Serve for RespondQueryTaskCompletedRequest {
    async fn serve(
        mut self,
        host: &Host,
        call: &Call,
    ) -> Result<RespondQueryTaskCompletedResponse, Status> {
        let limits = host.limits(call.namespace.name.as_str());
        let token = token::query(&self.task_token)?;
        validate::failure(self.failure.as_mut());
        if !validate::fits(self.query_result.as_ref(), limits) {
            self.query_result = None;
            self.completed_type = QueryResultType::Failed as i32;
            self.error_message = "Blob data size exceeds limit.".to_owned();
        }
        let request = matching::RespondQueryTaskCompletedRequest {
            namespace_id: call.namespace_id(),
            task_queue: Some(TaskQueue {
                name: token.task_queue,
                ..Default::default()
            }),
            task_id: token.task_id,
            request: Some(self),
        };
        host.matching
            .respond_query_task_completed(call.onward(request))
            .await?;
        Ok(RespondQueryTaskCompletedResponse {})
    }
}
