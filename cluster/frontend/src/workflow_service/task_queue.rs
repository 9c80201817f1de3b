//! DescribeTaskQueue and ListTaskQueuePartitions.

use proto_messages::{
    meridian::matching::v1 as matching,
    temporal::api::{
        enums::v1::TaskQueueType,
        workflowservice::v1::{
            DescribeTaskQueueRequest, DescribeTaskQueueResponse, ListTaskQueuePartitionsRequest,
            ListTaskQueuePartitionsResponse,
        },
    },
};
use tonic::Status;

use crate::{
    edge::{Call, Serve},
    frontend::Host,
    validate,
};

impl Serve for DescribeTaskQueueRequest {
    async fn serve(
        mut self,
        host: &Host,
        call: &Call,
    ) -> Result<DescribeTaskQueueResponse, Status> {
        let limits = host.limits(call.namespace.name.as_str());
        validate::task_queue(self.task_queue.as_mut(), limits)?;
        if self.task_queue_type == TaskQueueType::Unspecified as i32 {
            self.task_queue_type = TaskQueueType::Workflow as i32;
        }
        let request = matching::DescribeTaskQueueRequest {
            namespace_id: call.namespace_id(),
            request: Some(self),
        };
        host.matching
            .describe_task_queue(call.onward(request))
            .await
    }
}

impl Serve for ListTaskQueuePartitionsRequest {
    async fn serve(
        mut self,
        host: &Host,
        call: &Call,
    ) -> Result<ListTaskQueuePartitionsResponse, Status> {
        let limits = host.limits(call.namespace.name.as_str());
        validate::task_queue(self.task_queue.as_mut(), limits)?;
        let request = matching::ListTaskQueuePartitionsRequest {
            namespace_id: call.namespace_id(),
            request: Some(self),
        };
        host.matching
            .list_task_queue_partitions(call.onward(request))
            .await
    }
}
