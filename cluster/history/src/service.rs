//! The gRPC face of the service: each RPC is one call into [`crate::api`].

use std::sync::Arc;

use async_trait::async_trait;
use proto_messages::{meridian::history::v1::*, temporal::api::workflowservice::v1 as public};
use proto_services::meridian::history::v1::history_service_server::HistoryService as Rpc;
use tonic::{Request, Response, Status};

use cluster_rpc::deadline::timeout_of;

use crate::{
    api,
    engine::{Engine, HistoryDeps},
};

/// The history service. Cheap to clone.
#[derive(Clone)]
pub struct HistoryService {
    engine: Arc<Engine>,
}

impl HistoryService {
    /// A service over these.
    pub fn new(deps: HistoryDeps) -> Arc<Self> {
        Arc::new(Self {
            engine: Engine::new(deps),
        })
    }

    async fn counted<T>(
        &self,
        rpc: &'static str,
        call: impl Future<Output = Result<T, Status>>,
    ) -> Result<Response<T>, Status> {
        let serving = self.engine.meters.begin(rpc);
        let answer = call.await;
        serving.end(&answer);
        answer.map(Response::new)
    }
}

/// Each line: RPC, request, answer, and who serves it.
macro_rules! serve {
    ($($method:ident($request:ty) -> $answer:ty, $call:path;)*) => {
        #[async_trait]
        impl Rpc for HistoryService {
            $(async fn $method(&self, request: Request<$request>) -> Result<Response<$answer>, Status> {
                self.counted(stringify!($method), $call(&self.engine, request.into_inner())).await
            })*

            async fn start_workflow_execution(
                &self,
                request: Request<StartWorkflowExecutionRequest>,
            ) -> Result<Response<public::StartWorkflowExecutionResponse>, Status> {
                let timeout = timeout_of(request.metadata());
                let call = api::start::start(&self.engine, request.into_inner(), timeout);
                self.counted("start_workflow_execution", call).await
            }

            async fn signal_with_start_workflow_execution(
                &self,
                request: Request<SignalWithStartWorkflowExecutionRequest>,
            ) -> Result<Response<public::SignalWithStartWorkflowExecutionResponse>, Status> {
                let timeout = timeout_of(request.metadata());
                let call = api::start::signal_with_start(&self.engine, request.into_inner(), timeout);
                self.counted("signal_with_start_workflow_execution", call).await
            }

            async fn get_workflow_execution_history(
                &self,
                request: Request<GetWorkflowExecutionHistoryRequest>,
            ) -> Result<Response<public::GetWorkflowExecutionHistoryResponse>, Status> {
                let timeout = timeout_of(request.metadata());
                let call = api::get_history::get_history(&self.engine, request.into_inner(), timeout);
                self.counted("get_workflow_execution_history", call).await
            }

            async fn query_workflow(
                &self,
                request: Request<QueryWorkflowRequest>,
            ) -> Result<Response<public::QueryWorkflowResponse>, Status> {
                let timeout = timeout_of(request.metadata());
                let call = api::query::query(&self.engine, request.into_inner(), timeout);
                self.counted("query_workflow", call).await
            }
        }
    };
}

serve! {
    signal_workflow_execution(SignalWorkflowExecutionRequest) -> Empty, api::signal::signal;
    request_cancel_workflow_execution(RequestCancelWorkflowExecutionRequest) -> Empty,
        api::cancel::cancel;
    terminate_workflow_execution(TerminateWorkflowExecutionRequest) -> Empty,
        api::terminate::terminate;
    delete_workflow_execution(DeleteWorkflowExecutionRequest) -> Empty, api::delete::delete;
    reset_workflow_execution(ResetWorkflowExecutionRequest) -> public::ResetWorkflowExecutionResponse,
        api::reset::reset;
    describe_workflow_execution(DescribeWorkflowExecutionRequest) -> public::DescribeWorkflowExecutionResponse,
        api::describe::describe;
    get_workflow_execution_history_reverse(GetWorkflowExecutionHistoryReverseRequest) -> public::GetWorkflowExecutionHistoryReverseResponse,
        api::get_history::reverse;
    reset_sticky_task_queue(ResetStickyTaskQueueRequest) -> Empty,
        api::workflow_task::reset_sticky;
    respond_workflow_task_completed(RespondWorkflowTaskCompletedRequest) -> public::RespondWorkflowTaskCompletedResponse,
        api::workflow_task::completed;
    respond_workflow_task_failed(RespondWorkflowTaskFailedRequest) -> Empty,
        api::workflow_task::failed;
    record_activity_task_heartbeat(RecordActivityTaskHeartbeatRequest) -> public::RecordActivityTaskHeartbeatResponse,
        api::activity::heartbeat;
    respond_activity_task_completed(RespondActivityTaskCompletedRequest) -> Empty,
        api::activity::completed;
    respond_activity_task_failed(RespondActivityTaskFailedRequest) -> Empty,
        api::activity::failed;
    respond_activity_task_canceled(RespondActivityTaskCanceledRequest) -> Empty,
        api::activity::canceled;
    record_workflow_task_started(RecordWorkflowTaskStartedRequest) -> public::PollWorkflowTaskQueueResponse,
        api::workflow_task::started;
    record_activity_task_started(RecordActivityTaskStartedRequest) -> public::PollActivityTaskQueueResponse,
        api::activity::started;
    record_child_execution_completed(RecordChildExecutionCompletedRequest) -> Empty,
        api::child::record_completed;
    schedule_first_workflow_task(ScheduleFirstWorkflowTaskRequest) -> Empty,
        api::child::schedule_first_workflow_task;
    describe_shards(DescribeShardsRequest) -> DescribeShardsResponse, api::admin::describe_shards;
    rebuild_tasks(RebuildTasksRequest) -> Empty, api::admin::rebuild_tasks;
}
