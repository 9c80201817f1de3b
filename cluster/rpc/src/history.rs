//! The client handle of the history service. A call goes to the owner of the workflow's shard; the key
//! in the history ring is the shard's number as text.

use std::{borrow::Cow, sync::Arc};

use cluster_membership::{Membership, Role};
use prost::Message;
use proto_ids::{NamespaceId, ShardId, WorkflowId};
use proto_messages::{
    meridian::history::v1::*,
    temporal::api::{common::v1::WorkflowExecution, workflowservice::v1 as api},
};
use proto_services::meridian::history::v1::{
    history_service_client::HistoryServiceClient, history_service_server::HistoryService,
};
use tonic::{IntoRequest, Response, Status, codec::CompressionEncoding, transport::Channel};

use crate::{
    channel::{Channels, INTERNAL_MESSAGE_BYTES_MAX},
    route::{Route, Target},
    status,
};

/// Calls the history service, wherever the workflow's shard is. Cheap to clone.
///
/// Requests may be given bare or as a [`tonic::Request`] whose `grpc-timeout` then bounds the call.
/// Dropping a call's future cancels it at the callee.
#[derive(Clone)]
pub struct HistoryClient(Arc<HistoryClientInner>);

struct HistoryClientInner {
    route: Route<dyn HistoryService>,
    shard_count: i32,
}

/// The key in the history ring of a shard.
pub fn shard_key(shard: ShardId) -> String {
    shard.get().to_string()
}

impl HistoryClient {
    /// For a process that is the whole cluster.
    pub fn local(shard_count: i32) -> Self {
        Self(Arc::new(HistoryClientInner {
            route: Route::local(Role::History),
            shard_count,
        }))
    }

    /// For one of several processes.
    pub fn routed(membership: Membership, channels: Channels, shard_count: i32) -> Self {
        let route = Route::routed(Role::History, membership, channels);
        Self(Arc::new(HistoryClientInner { route, shard_count }))
    }

    /// Names the service in this process; once, when it is built. It is not a constructor's argument
    /// because history calls matching and matching calls history.
    pub fn set_local(&self, service: Arc<dyn HistoryService>) {
        self.0.route.set_local(service);
    }

    /// The shard of a workflow.
    pub fn shard_of(&self, namespace_id: &str, workflow_id: &str) -> ShardId {
        let (namespace, workflow) = (NamespaceId::new(namespace_id), WorkflowId::new(workflow_id));
        ShardId::for_workflow(&namespace, &workflow, self.0.shard_count)
    }

    /// The shards of every history member that answers.
    pub async fn describe_shards(&self, request: DescribeShardsRequest) -> DescribeShardsResponse {
        let answers = self
            .0
            .route
            .call_each(request, |target, request| async move {
                match target {
                    Target::Local(service) => service.describe_shards(request).await,
                    Target::Remote(channel) => client(channel).describe_shards(request).await,
                }
            });
        let mut shards: Vec<_> = answers.await.into_iter().flat_map(|a| a.shards).collect();
        shards.sort_by_key(|s| s.shard_id);
        DescribeShardsResponse { shards }
    }

    fn key(&self, namespace_id: &str, workflow_id: Option<Cow<'_, str>>) -> Result<String, Status> {
        let workflow_id = workflow_id
            .filter(|id| !id.is_empty())
            .ok_or_else(|| status::invalid_argument("WorkflowId is not set on request."))?;
        Ok(shard_key(self.shard_of(namespace_id, &workflow_id)))
    }
}

fn client(channel: Channel) -> HistoryServiceClient {
    HistoryServiceClient::new(channel)
        .accept_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(INTERNAL_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(INTERNAL_MESSAGE_BYTES_MAX)
}

fn of(execution: &Option<WorkflowExecution>) -> Option<Cow<'_, str>> {
    execution.as_ref().map(|e| Cow::from(&e.workflow_id))
}

fn of_token(token: &[u8]) -> Option<Cow<'_, str>> {
    TaskToken::decode(token)
        .ok()
        .map(|t| Cow::from(t.workflow_id))
}

/// Each line: method, request, answer, and where the request names its workflow.
macro_rules! by_workflow {
    ($($method:ident($request:ident) -> $answer:ty, |$r:ident| $workflow:expr;)*) => {
        impl HistoryClient {$(
            #[doc = concat!("`", stringify!($method), "` at the owner of the workflow's shard.")]
            pub async fn $method(&self, request: impl IntoRequest<$request>) -> Result<$answer, Status> {
                let key = |$r: &$request| self.key(&$r.namespace_id, $workflow);
                let call = self.0.route.call(key, request.into_request(), |target, request| async move {
                    match target {
                        Target::Local(service) => service.$method(request).await,
                        Target::Remote(channel) => client(channel).$method(request).await,
                    }
                });
                call.await.map(Response::into_inner)
            }
        )*}
    };
}

by_workflow! {
    start_workflow_execution(StartWorkflowExecutionRequest) -> api::StartWorkflowExecutionResponse,
        |r| r.request.as_ref().map(|q| Cow::from(&q.workflow_id));
    signal_with_start_workflow_execution(SignalWithStartWorkflowExecutionRequest) -> api::SignalWithStartWorkflowExecutionResponse,
        |r| r.request.as_ref().map(|q| Cow::from(&q.workflow_id));
    signal_workflow_execution(SignalWorkflowExecutionRequest) -> Empty,
        |r| r.request.as_ref().and_then(|q| of(&q.workflow_execution));
    request_cancel_workflow_execution(RequestCancelWorkflowExecutionRequest) -> Empty,
        |r| r.request.as_ref().and_then(|q| of(&q.workflow_execution));
    terminate_workflow_execution(TerminateWorkflowExecutionRequest) -> Empty,
        |r| r.request.as_ref().and_then(|q| of(&q.workflow_execution));
    delete_workflow_execution(DeleteWorkflowExecutionRequest) -> Empty,
        |r| of(&r.execution);
    reset_workflow_execution(ResetWorkflowExecutionRequest) -> api::ResetWorkflowExecutionResponse,
        |r| r.request.as_ref().and_then(|q| of(&q.workflow_execution));
    describe_workflow_execution(DescribeWorkflowExecutionRequest) -> api::DescribeWorkflowExecutionResponse,
        |r| r.request.as_ref().and_then(|q| of(&q.execution));
    get_workflow_execution_history(GetWorkflowExecutionHistoryRequest) -> api::GetWorkflowExecutionHistoryResponse,
        |r| r.request.as_ref().and_then(|q| of(&q.execution));
    get_workflow_execution_history_reverse(GetWorkflowExecutionHistoryReverseRequest) -> api::GetWorkflowExecutionHistoryReverseResponse,
        |r| r.request.as_ref().and_then(|q| of(&q.execution));
    query_workflow(QueryWorkflowRequest) -> api::QueryWorkflowResponse,
        |r| r.request.as_ref().and_then(|q| of(&q.execution));
    reset_sticky_task_queue(ResetStickyTaskQueueRequest) -> Empty,
        |r| of(&r.execution);
    respond_workflow_task_completed(RespondWorkflowTaskCompletedRequest) -> api::RespondWorkflowTaskCompletedResponse,
        |r| r.request.as_ref().and_then(|q| of_token(&q.task_token));
    respond_workflow_task_failed(RespondWorkflowTaskFailedRequest) -> Empty,
        |r| r.request.as_ref().and_then(|q| of_token(&q.task_token));
    record_activity_task_heartbeat(RecordActivityTaskHeartbeatRequest) -> api::RecordActivityTaskHeartbeatResponse,
        |r| r.request.as_ref().and_then(|q| of_token(&q.task_token));
    respond_activity_task_completed(RespondActivityTaskCompletedRequest) -> Empty,
        |r| r.request.as_ref().and_then(|q| of_token(&q.task_token));
    respond_activity_task_failed(RespondActivityTaskFailedRequest) -> Empty,
        |r| r.request.as_ref().and_then(|q| of_token(&q.task_token));
    respond_activity_task_canceled(RespondActivityTaskCanceledRequest) -> Empty,
        |r| r.request.as_ref().and_then(|q| of_token(&q.task_token));
    record_workflow_task_started(RecordWorkflowTaskStartedRequest) -> api::PollWorkflowTaskQueueResponse,
        |r| of(&r.execution);
    record_activity_task_started(RecordActivityTaskStartedRequest) -> api::PollActivityTaskQueueResponse,
        |r| of(&r.execution);
    record_child_execution_completed(RecordChildExecutionCompletedRequest) -> Empty,
        |r| of(&r.parent_execution);
    schedule_first_workflow_task(ScheduleFirstWorkflowTaskRequest) -> Empty,
        |r| of(&r.execution);
    rebuild_tasks(RebuildTasksRequest) -> Empty,
        |r| of(&r.execution);
}
