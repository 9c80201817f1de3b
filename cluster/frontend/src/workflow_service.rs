//! The public API: one line per RPC here, one file per RPC or small family below. RPCs that are not listed
//! answer UNIMPLEMENTED.

use std::sync::Arc;

use proto_messages::temporal::api::workflowservice::v1::*;
use proto_services::temporal::api::workflowservice::v1::workflow_service_server::WorkflowService;
use tonic::{Request, Response, Status, async_trait};

use crate::frontend::Host;

mod cancel;
mod delete;
mod describe;
mod history;
mod list;
mod list_by_filter;
mod namespace;
mod poll_activity;
mod poll_workflow;
mod query;
mod reset;
mod respond_activity;
mod respond_activity_by_id;
mod respond_query;
mod respond_workflow;
mod shutdown_worker;
mod signal;
mod signal_with_start;
mod start;
mod sticky;
mod system;
mod task_queue;
mod terminate;

#[cfg(test)]
pub(crate) use start::check as check_start;
pub(crate) use system::{supported_clients, version_info};

/// Serves the public API.
pub(crate) struct Workflows(pub(crate) Arc<Host>);

/// Each line: under `namespaced`, an RPC about a namespace, served on the common path; under `plain`, one
/// that is not, and the function that serves it.
macro_rules! service {
    (
        namespaced { $($method:ident($request:ident) -> $answer:ident;)* }
        plain { $($plain:ident($plain_request:ident) -> $plain_answer:ident, $operation:literal, $function:path;)* }
    ) => {
        #[async_trait]
        impl WorkflowService for Workflows {
            $(
                async fn $method(
                    &self,
                    request: Request<$request>,
                ) -> Result<Response<$answer>, Status> {
                    self.0.run(request).await
                }
            )*
            $(
                async fn $plain(
                    &self,
                    request: Request<$plain_request>,
                ) -> Result<Response<$plain_answer>, Status> {
                    let host = &self.0;
                    host.run_plain($operation, request, |message| $function(host, message)).await
                }
            )*
        }
    };
}

service! {
    namespaced {
    start_workflow_execution(StartWorkflowExecutionRequest) -> StartWorkflowExecutionResponse;
    signal_with_start_workflow_execution(SignalWithStartWorkflowExecutionRequest) -> SignalWithStartWorkflowExecutionResponse;
    signal_workflow_execution(SignalWorkflowExecutionRequest) -> SignalWorkflowExecutionResponse;
    request_cancel_workflow_execution(RequestCancelWorkflowExecutionRequest) -> RequestCancelWorkflowExecutionResponse;
    terminate_workflow_execution(TerminateWorkflowExecutionRequest) -> TerminateWorkflowExecutionResponse;
    delete_workflow_execution(DeleteWorkflowExecutionRequest) -> DeleteWorkflowExecutionResponse;
    reset_workflow_execution(ResetWorkflowExecutionRequest) -> ResetWorkflowExecutionResponse;
    query_workflow(QueryWorkflowRequest) -> QueryWorkflowResponse;
    describe_workflow_execution(DescribeWorkflowExecutionRequest) -> DescribeWorkflowExecutionResponse;
    get_workflow_execution_history(GetWorkflowExecutionHistoryRequest) -> GetWorkflowExecutionHistoryResponse;
    get_workflow_execution_history_reverse(GetWorkflowExecutionHistoryReverseRequest) -> GetWorkflowExecutionHistoryReverseResponse;
    poll_workflow_task_queue(PollWorkflowTaskQueueRequest) -> PollWorkflowTaskQueueResponse;
    respond_workflow_task_completed(RespondWorkflowTaskCompletedRequest) -> RespondWorkflowTaskCompletedResponse;
    respond_workflow_task_failed(RespondWorkflowTaskFailedRequest) -> RespondWorkflowTaskFailedResponse;
    respond_query_task_completed(RespondQueryTaskCompletedRequest) -> RespondQueryTaskCompletedResponse;
    reset_sticky_task_queue(ResetStickyTaskQueueRequest) -> ResetStickyTaskQueueResponse;
    shutdown_worker(ShutdownWorkerRequest) -> ShutdownWorkerResponse;
    poll_activity_task_queue(PollActivityTaskQueueRequest) -> PollActivityTaskQueueResponse;
    record_activity_task_heartbeat(RecordActivityTaskHeartbeatRequest) -> RecordActivityTaskHeartbeatResponse;
    record_activity_task_heartbeat_by_id(RecordActivityTaskHeartbeatByIdRequest) -> RecordActivityTaskHeartbeatByIdResponse;
    respond_activity_task_completed(RespondActivityTaskCompletedRequest) -> RespondActivityTaskCompletedResponse;
    respond_activity_task_completed_by_id(RespondActivityTaskCompletedByIdRequest) -> RespondActivityTaskCompletedByIdResponse;
    respond_activity_task_failed(RespondActivityTaskFailedRequest) -> RespondActivityTaskFailedResponse;
    respond_activity_task_failed_by_id(RespondActivityTaskFailedByIdRequest) -> RespondActivityTaskFailedByIdResponse;
    respond_activity_task_canceled(RespondActivityTaskCanceledRequest) -> RespondActivityTaskCanceledResponse;
    respond_activity_task_canceled_by_id(RespondActivityTaskCanceledByIdRequest) -> RespondActivityTaskCanceledByIdResponse;
    describe_task_queue(DescribeTaskQueueRequest) -> DescribeTaskQueueResponse;
    list_task_queue_partitions(ListTaskQueuePartitionsRequest) -> ListTaskQueuePartitionsResponse;
    list_workflow_executions(ListWorkflowExecutionsRequest) -> ListWorkflowExecutionsResponse;
    scan_workflow_executions(ScanWorkflowExecutionsRequest) -> ScanWorkflowExecutionsResponse;
    list_open_workflow_executions(ListOpenWorkflowExecutionsRequest) -> ListOpenWorkflowExecutionsResponse;
    list_closed_workflow_executions(ListClosedWorkflowExecutionsRequest) -> ListClosedWorkflowExecutionsResponse;
    count_workflow_executions(CountWorkflowExecutionsRequest) -> CountWorkflowExecutionsResponse;
    }
    plain {
    get_system_info(GetSystemInfoRequest) -> GetSystemInfoResponse, "GetSystemInfo", system::get_system_info;
    get_cluster_info(GetClusterInfoRequest) -> GetClusterInfoResponse, "GetClusterInfo", system::get_cluster_info;
    get_search_attributes(GetSearchAttributesRequest) -> GetSearchAttributesResponse, "GetSearchAttributes", system::get_search_attributes;
    register_namespace(RegisterNamespaceRequest) -> RegisterNamespaceResponse, "RegisterNamespace", namespace::register;
    describe_namespace(DescribeNamespaceRequest) -> DescribeNamespaceResponse, "DescribeNamespace", namespace::describe;
    list_namespaces(ListNamespacesRequest) -> ListNamespacesResponse, "ListNamespaces", namespace::list;
    update_namespace(UpdateNamespaceRequest) -> UpdateNamespaceResponse, "UpdateNamespace", namespace::update;
    deprecate_namespace(DeprecateNamespaceRequest) -> DeprecateNamespaceResponse, "DeprecateNamespace", namespace::deprecate;
    }
}
