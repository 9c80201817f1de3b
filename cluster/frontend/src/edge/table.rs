//! The RPCs of the public API that are about a namespace: their answers, traits and where they name it.

use cluster_rpc::INTERNAL_MESSAGE_BYTES_MAX;
use proto_messages::temporal::api::workflowservice::v1::*;
use proto_services::temporal::api::workflowservice::v1::workflow_service_client::WorkflowServiceClient;
use tonic::{Request, Response, Status, codec::CompressionEncoding, transport::Channel};

use super::{Locate, LongPoll, Rpc, RpcTraits};
use crate::{
    quota::{Counts, Priority},
    redirect::Forwarded,
};

fn client(channel: Channel) -> WorkflowServiceClient {
    WorkflowServiceClient::new(channel)
        .accept_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(INTERNAL_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(INTERNAL_MESSAGE_BYTES_MAX)
}

macro_rules! rpcs {
    ($($method:ident($request:ident) -> $answer:ident, $traits:expr, $locate:ident;)*) => {$(
        impl Rpc for $request {
            type Answer = $answer;
            const TRAITS: RpcTraits = $traits;

            fn locate(&self) -> Locate<'_> {
                rpcs!(@$locate self)
            }

            async fn forward(
                to: Channel,
                request: Request<Self>,
            ) -> Result<Response<$answer>, Status> {
                client(to).$method(request).await
            }
        }
    )*};
    (@by_name $r:ident) => { Locate::Name(&$r.namespace) };
    (@by_task $r:ident) => { Locate::Task { name: &$r.namespace, task_token: &$r.task_token } };
    (@by_query $r:ident) => { Locate::Query { name: &$r.namespace, task_token: &$r.task_token } };
}

/// Needed for replay; one that waits for new events can wait for its turn, too.
const HISTORY: RpcTraits = RpcTraits {
    priority: Priority::Event,
    long_poll: LongPoll::Read,
    ..RpcTraits::CALL
};

/// A worker stops where its polls wait, and its shutdown must not fail.
const BEST_EFFORT: RpcTraits = RpcTraits {
    priority: Priority::Low,
    waits_for_handover: false,
    best_effort: true,
    ..RpcTraits::CALL
};

/// Waits for a worker.
const QUERY: RpcTraits = RpcTraits {
    counts: Counts::Long,
    priority: Priority::Status,
    ..RpcTraits::ACT
};

/// Calls of low priority.
const LOW: RpcTraits = RpcTraits {
    priority: Priority::Low,
    ..RpcTraits::CALL
};

const LOCAL: RpcTraits = RpcTraits {
    forwarded: Forwarded::Never,
    waits_for_handover: false,
    ..RpcTraits::CALL
};

rpcs! {
    start_workflow_execution(StartWorkflowExecutionRequest) -> StartWorkflowExecutionResponse, RpcTraits::START, by_name;
    signal_with_start_workflow_execution(SignalWithStartWorkflowExecutionRequest) -> SignalWithStartWorkflowExecutionResponse, RpcTraits::START, by_name;
    signal_workflow_execution(SignalWorkflowExecutionRequest) -> SignalWorkflowExecutionResponse, RpcTraits::ACT, by_name;
    request_cancel_workflow_execution(RequestCancelWorkflowExecutionRequest) -> RequestCancelWorkflowExecutionResponse, RpcTraits::ACT, by_name;
    terminate_workflow_execution(TerminateWorkflowExecutionRequest) -> TerminateWorkflowExecutionResponse, RpcTraits::ACT, by_name;
    delete_workflow_execution(DeleteWorkflowExecutionRequest) -> DeleteWorkflowExecutionResponse, RpcTraits::ACT, by_name;
    reset_workflow_execution(ResetWorkflowExecutionRequest) -> ResetWorkflowExecutionResponse, RpcTraits::ACT, by_name;
    query_workflow(QueryWorkflowRequest) -> QueryWorkflowResponse, QUERY, by_name;
    describe_workflow_execution(DescribeWorkflowExecutionRequest) -> DescribeWorkflowExecutionResponse, RpcTraits::CALL, by_name;
    get_workflow_execution_history(GetWorkflowExecutionHistoryRequest) -> GetWorkflowExecutionHistoryResponse, HISTORY, by_name;
    get_workflow_execution_history_reverse(GetWorkflowExecutionHistoryReverseRequest) -> GetWorkflowExecutionHistoryReverseResponse, LOW, by_name;

    poll_workflow_task_queue(PollWorkflowTaskQueueRequest) -> PollWorkflowTaskQueueResponse, RpcTraits::POLL, by_name;
    respond_workflow_task_completed(RespondWorkflowTaskCompletedRequest) -> RespondWorkflowTaskCompletedResponse, RpcTraits::PROGRESS, by_task;
    respond_workflow_task_failed(RespondWorkflowTaskFailedRequest) -> RespondWorkflowTaskFailedResponse, RpcTraits::CALL, by_task;
    respond_query_task_completed(RespondQueryTaskCompletedRequest) -> RespondQueryTaskCompletedResponse, RpcTraits::PROGRESS, by_query;
    reset_sticky_task_queue(ResetStickyTaskQueueRequest) -> ResetStickyTaskQueueResponse, LOW, by_name;
    shutdown_worker(ShutdownWorkerRequest) -> ShutdownWorkerResponse, BEST_EFFORT, by_name;

    poll_activity_task_queue(PollActivityTaskQueueRequest) -> PollActivityTaskQueueResponse, RpcTraits::POLL, by_name;
    record_activity_task_heartbeat(RecordActivityTaskHeartbeatRequest) -> RecordActivityTaskHeartbeatResponse, RpcTraits::PROGRESS, by_task;
    record_activity_task_heartbeat_by_id(RecordActivityTaskHeartbeatByIdRequest) -> RecordActivityTaskHeartbeatByIdResponse, RpcTraits::PROGRESS, by_name;
    respond_activity_task_completed(RespondActivityTaskCompletedRequest) -> RespondActivityTaskCompletedResponse, RpcTraits::PROGRESS, by_task;
    respond_activity_task_completed_by_id(RespondActivityTaskCompletedByIdRequest) -> RespondActivityTaskCompletedByIdResponse, RpcTraits::PROGRESS, by_name;
    respond_activity_task_failed(RespondActivityTaskFailedRequest) -> RespondActivityTaskFailedResponse, RpcTraits::CALL, by_task;
    respond_activity_task_failed_by_id(RespondActivityTaskFailedByIdRequest) -> RespondActivityTaskFailedByIdResponse, RpcTraits::CALL, by_name;
    respond_activity_task_canceled(RespondActivityTaskCanceledRequest) -> RespondActivityTaskCanceledResponse, RpcTraits::CALL, by_task;
    respond_activity_task_canceled_by_id(RespondActivityTaskCanceledByIdRequest) -> RespondActivityTaskCanceledByIdResponse, RpcTraits::CALL, by_name;

    describe_task_queue(DescribeTaskQueueRequest) -> DescribeTaskQueueResponse, RpcTraits::CALL, by_name;
    list_task_queue_partitions(ListTaskQueuePartitionsRequest) -> ListTaskQueuePartitionsResponse, LOCAL, by_name;
    list_workflow_executions(ListWorkflowExecutionsRequest) -> ListWorkflowExecutionsResponse, RpcTraits::VISIBILITY, by_name;
    scan_workflow_executions(ScanWorkflowExecutionsRequest) -> ScanWorkflowExecutionsResponse, RpcTraits::VISIBILITY, by_name;
    list_open_workflow_executions(ListOpenWorkflowExecutionsRequest) -> ListOpenWorkflowExecutionsResponse, RpcTraits::VISIBILITY, by_name;
    list_closed_workflow_executions(ListClosedWorkflowExecutionsRequest) -> ListClosedWorkflowExecutionsResponse, RpcTraits::VISIBILITY, by_name;
    count_workflow_executions(CountWorkflowExecutionsRequest) -> CountWorkflowExecutionsResponse, RpcTraits::VISIBILITY, by_name;
}
