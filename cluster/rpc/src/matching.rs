//! The client handle of the matching service. A call goes to the owner of the task queue partition; the
//! key in the matching ring is `namespace_id:task_queue_name:type`. A sticky queue goes by its own name.

use std::sync::Arc;

use cluster_membership::{Membership, Role};
use proto_messages::{
    meridian::matching::v1::*,
    temporal::api::{
        enums::v1::TaskQueueType, taskqueue::v1::TaskQueue, workflowservice::v1 as api,
    },
};
use proto_services::meridian::matching::v1::{
    matching_service_client::MatchingServiceClient, matching_service_server::MatchingService,
};
use tonic::{IntoRequest, Response, Status, codec::CompressionEncoding, transport::Channel};

use crate::{
    channel::{Channels, INTERNAL_MESSAGE_BYTES_MAX},
    route::{Route, Target},
    status,
};

const WORKFLOW: i32 = TaskQueueType::Workflow as i32;
const ACTIVITY: i32 = TaskQueueType::Activity as i32;

/// Calls the matching service, wherever the task queue is. Cheap to clone.
///
/// Requests may be given bare or as a [`tonic::Request`] whose `grpc-timeout` then reaches the callee,
/// as long polls need. Dropping a call's future cancels it at the callee.
#[derive(Clone)]
pub struct MatchingClient(Arc<Route<dyn MatchingService>>);

/// The key in the matching ring of a task queue.
pub fn task_queue_key(namespace_id: &str, name: &str, task_queue_type: i32) -> String {
    format!("{namespace_id}:{name}:{task_queue_type}")
}

impl MatchingClient {
    /// For a process that is the whole cluster.
    pub fn local() -> Self {
        Self(Arc::new(Route::local(Role::Matching)))
    }

    /// For one of several processes.
    pub fn routed(membership: Membership, channels: Channels) -> Self {
        Self(Arc::new(Route::routed(
            Role::Matching,
            membership,
            channels,
        )))
    }

    /// Names the service in this process; once, when it is built.
    pub fn set_local(&self, service: Arc<dyn MatchingService>) {
        self.0.set_local(service);
    }

    /// Tells every matching member that a worker has stopped, since its polls may wait anywhere.
    /// Members that do not answer are left out.
    pub async fn shutdown_worker(&self, request: ShutdownWorkerRequest) {
        let calls = self.0.call_each(request, |target, request| async move {
            match target {
                Target::Local(service) => service.shutdown_worker(request).await,
                Target::Remote(channel) => client(channel).shutdown_worker(request).await,
            }
        });
        calls.await;
    }
}

fn client(channel: Channel) -> MatchingServiceClient {
    MatchingServiceClient::new(channel)
        .accept_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(INTERNAL_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(INTERNAL_MESSAGE_BYTES_MAX)
}

fn key(
    namespace_id: &str,
    queue: Option<&TaskQueue>,
    task_queue_type: i32,
) -> Result<String, Status> {
    let queue = queue
        .filter(|q| !q.name.is_empty())
        .ok_or_else(|| status::invalid_argument("TaskQueue is not set on request."))?;
    // An unset type means workflow tasks, as in the public API.
    Ok(task_queue_key(
        namespace_id,
        &queue.name,
        task_queue_type.max(WORKFLOW),
    ))
}

/// Each line: method, request, answer, and where the request names its queue and the queue's type.
macro_rules! by_task_queue {
    ($($method:ident($request:ident) -> $answer:ty, |$r:ident| $queue:expr, $kind:expr;)*) => {
        impl MatchingClient {$(
            #[doc = concat!("`", stringify!($method), "` at the owner of the task queue.")]
            pub async fn $method(&self, request: impl IntoRequest<$request>) -> Result<$answer, Status> {
                let key = |$r: &$request| key(&$r.namespace_id, $queue, $kind);
                let call = self.0.call(key, request.into_request(), |target, request| async move {
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

by_task_queue! {
    add_workflow_task(AddTaskRequest) -> AddTaskResponse,
        |r| r.task_queue.as_ref(), WORKFLOW;
    add_activity_task(AddTaskRequest) -> AddTaskResponse,
        |r| r.task_queue.as_ref(), ACTIVITY;
    poll_workflow_task_queue(PollWorkflowTaskQueueRequest) -> api::PollWorkflowTaskQueueResponse,
        |r| r.request.as_ref().and_then(|q| q.task_queue.as_ref()), WORKFLOW;
    poll_activity_task_queue(PollActivityTaskQueueRequest) -> api::PollActivityTaskQueueResponse,
        |r| r.request.as_ref().and_then(|q| q.task_queue.as_ref()), ACTIVITY;
    query_workflow(QueryWorkflowRequest) -> QueryWorkflowResponse,
        |r| r.task_queue.as_ref(), WORKFLOW;
    respond_query_task_completed(RespondQueryTaskCompletedRequest) -> Empty,
        |r| r.task_queue.as_ref(), WORKFLOW;
    cancel_outstanding_poll(CancelOutstandingPollRequest) -> Empty,
        |r| r.task_queue.as_ref(), r.task_queue_type;
    describe_task_queue(DescribeTaskQueueRequest) -> api::DescribeTaskQueueResponse,
        |r| r.request.as_ref().and_then(|q| q.task_queue.as_ref()),
        r.request.as_ref().map_or(WORKFLOW, |q| q.task_queue_type);
    list_task_queue_partitions(ListTaskQueuePartitionsRequest) -> api::ListTaskQueuePartitionsResponse,
        |r| r.request.as_ref().and_then(|q| q.task_queue.as_ref()), WORKFLOW;
}
