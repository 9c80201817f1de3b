//! The client handle of what history hosts do for replication: applying tasks of other clusters, and the
//! part of the admin service that is bound to a shard. A call goes to the owner of the shard; the key in
//! the history ring is the shard's number as text, as for the history service.

use std::sync::Arc;

use cluster_membership::{Membership, Role};
use proto_ids::{NamespaceId, ShardId, WorkflowId};
use proto_messages::{
    meridian::replication::v1::*,
    temporal::{api::common::v1::WorkflowExecution, server::api::adminservice::v1::*},
};
use proto_services::{
    meridian::replication::v1::{
        replication_apply_service_client::ReplicationApplyServiceClient,
        replication_apply_service_server::ReplicationApplyService,
    },
    temporal::server::api::adminservice::v1::{
        admin_service_client::AdminServiceClient, admin_service_server::AdminService,
    },
};
use tonic::{
    IntoRequest, Request, Response, Status, Streaming, codegen::BoxStream, transport::Channel,
};

use crate::{
    channel::{Channels, INTERNAL_MESSAGE_BYTES_MAX},
    history::shard_key,
    route::{Route, Target},
    status,
};

/// Calls a shard's owner for replication, wherever it is. Cheap to clone.
#[derive(Clone)]
pub struct ReplicationClient(Arc<ReplicationClientInner>);

struct ReplicationClientInner {
    apply: Route<dyn ReplicationApplyService>,
    admin: Route<dyn AdminService>,
    shard_count: i32,
}

impl ReplicationClient {
    /// For a process that is the whole cluster.
    pub fn local(shard_count: i32) -> Self {
        Self(Arc::new(ReplicationClientInner {
            apply: Route::local(Role::History),
            admin: Route::local(Role::History),
            shard_count,
        }))
    }

    /// For one of several processes.
    pub fn routed(membership: Membership, channels: Channels, shard_count: i32) -> Self {
        Self(Arc::new(ReplicationClientInner {
            apply: Route::routed(Role::History, membership.clone(), channels.clone()),
            admin: Route::routed(Role::History, membership, channels),
            shard_count,
        }))
    }

    /// Names the services in this process; once, when they are built.
    pub fn set_local(&self, apply: Arc<dyn ReplicationApplyService>, admin: Arc<dyn AdminService>) {
        self.0.apply.set_local(apply);
        self.0.admin.set_local(admin);
    }

    /// Shards of this cluster.
    pub fn shard_count(&self) -> i32 {
        self.0.shard_count
    }

    /// The shard of a workflow.
    pub fn shard_of(&self, namespace_id: &str, workflow_id: &str) -> ShardId {
        let (namespace, workflow) = (NamespaceId::new(namespace_id), WorkflowId::new(workflow_id));
        ShardId::for_workflow(&namespace, &workflow, self.0.shard_count)
    }

    /// Passes a stream of another cluster on to the shard's owner. The caller's headers go along.
    pub async fn stream(
        &self,
        shard: ShardId,
        request: Request<Streaming<StreamWorkflowReplicationMessagesRequest>>,
    ) -> Result<Response<BoxStream<StreamWorkflowReplicationMessagesResponse>>, Status> {
        match self.0.admin.find(&self.of_shard(shard.get())?)? {
            Target::Local(service) => service.stream_workflow_replication_messages(request).await,
            Target::Remote(channel) => {
                let (metadata, extensions, inbound) = request.into_parts();
                // An inbound error ends the stream; the peer sees the stream end and opens another.
                let inbound = futures::StreamExt::filter_map(inbound, |m| async { m.ok() });
                let request = Request::from_parts(metadata, extensions, inbound);
                let made = admin(channel)
                    .stream_workflow_replication_messages(request)
                    .await?;
                let (metadata, messages, extensions) = made.into_parts();
                let messages: BoxStream<_> = Box::pin(messages);
                Ok(Response::from_parts(metadata, messages, extensions))
            }
        }
    }

    /// The shards of every history member that answers.
    pub async fn get_shard_replication_status(
        &self,
        request: GetShardReplicationStatusRequest,
    ) -> GetShardReplicationStatusResponse {
        let answers = self
            .0
            .apply
            .call_each(request, |target, request| async move {
                match target {
                    Target::Local(service) => service.get_shard_replication_status(request).await,
                    Target::Remote(channel) => {
                        apply(channel).get_shard_replication_status(request).await
                    }
                }
            });
        let mut all = GetShardReplicationStatusResponse::default();
        for answer in answers.await {
            all.shards.extend(answer.shards);
            all.namespaces.extend(answer.namespaces);
        }
        all.shards.sort_by_key(|shard| shard.shard_id);
        all
    }

    fn of_workflow(
        &self,
        namespace_id: &str,
        execution: Option<&WorkflowExecution>,
    ) -> Result<String, Status> {
        let workflow_id = execution
            .map(|e| e.workflow_id.as_str())
            .filter(|id| !id.is_empty())
            .ok_or_else(|| status::invalid_argument("WorkflowId is not set on request."))?;
        Ok(shard_key(self.shard_of(namespace_id, workflow_id)))
    }

    fn of_shard(&self, shard: i32) -> Result<String, Status> {
        if (1..=self.0.shard_count).contains(&shard) {
            return Ok(shard_key(ShardId::new(shard)));
        }
        Err(status::invalid_argument(format!(
            "there is no shard {shard}"
        )))
    }
}

fn apply(channel: Channel) -> ReplicationApplyServiceClient {
    ReplicationApplyServiceClient::new(channel)
        .max_decoding_message_size(INTERNAL_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(INTERNAL_MESSAGE_BYTES_MAX)
}

fn admin(channel: Channel) -> AdminServiceClient {
    AdminServiceClient::new(channel)
        .max_decoding_message_size(INTERNAL_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(INTERNAL_MESSAGE_BYTES_MAX)
}

/// Each line: service, method, request, answer, and the key of its shard.
macro_rules! by_shard {
    ($($service:ident $method:ident($request:ident) -> $answer:ty, |$c:ident, $r:ident| $key:expr;)*) => {
        impl ReplicationClient {$(
            #[doc = concat!("`", stringify!($method), "` at the owner of the shard.")]
            pub async fn $method(&self, request: impl IntoRequest<$request>) -> Result<$answer, Status> {
                let key = |$r: &$request| { let $c = self; $key };
                let call = self.0.$service.call(key, request.into_request(), |target, request| async move {
                    match target {
                        Target::Local(service) => service.$method(request).await,
                        Target::Remote(channel) => $service(channel).$method(request).await,
                    }
                });
                call.await.map(Response::into_inner)
            }
        )*}
    };
}

by_shard! {
    apply apply(ApplyRequest) -> ApplyResponse,
        |c, r| c.of_shard(r.shard_id);
    apply list_shard_unreplicated(ListShardUnreplicatedRequest) -> ListShardUnreplicatedResponse,
        |c, r| c.of_shard(r.shard_id);
    apply get_shard_history_digests(GetShardHistoryDigestsRequest) -> GetHistoryDigestsResponse,
        |c, r| c.of_shard(r.shard_id);
    apply freeze_namespace(FreezeNamespaceRequest) -> FreezeNamespaceResponse,
        |c, r| c.of_shard(r.shard_id);
    apply unfreeze_namespace(UnfreezeNamespaceRequest) -> UnfreezeNamespaceResponse,
        |c, r| c.of_shard(r.shard_id);
    apply list_shard_runs(ListShardRunsRequest) -> ListShardRunsResponse,
        |c, r| c.of_shard(r.shard_id);
    apply list_changed_runs(ListChangedRunsRequest) -> ListChangedRunsResponse,
        |c, r| c.of_shard(r.shard_id);
    apply compare_shard_runs(CompareShardRunsRequest) -> CompareRunsResponse,
        |c, r| c.of_shard(r.shard_id);
    apply flush_buffered_events(FlushBufferedEventsRequest) -> FlushBufferedEventsResponse,
        |c, r| c.of_shard(r.shard_id);
    admin get_workflow_execution_raw_history_v2(GetWorkflowExecutionRawHistoryV2Request) -> GetWorkflowExecutionRawHistoryV2Response,
        |c, r| c.of_workflow(&r.namespace_id, r.execution.as_ref());
    admin get_workflow_execution_raw_history(GetWorkflowExecutionRawHistoryRequest) -> GetWorkflowExecutionRawHistoryResponse,
        |c, r| c.of_workflow(&r.namespace_id, r.execution.as_ref());
    admin sync_workflow_state(SyncWorkflowStateRequest) -> SyncWorkflowStateResponse,
        |c, r| c.of_workflow(&r.namespace_id, r.execution.as_ref());
    admin reapply_events(ReapplyEventsRequest) -> ReapplyEventsResponse,
        |c, r| c.of_workflow(&r.namespace_id, r.workflow_execution.as_ref());
    admin refresh_workflow_tasks(RefreshWorkflowTasksRequest) -> RefreshWorkflowTasksResponse,
        |c, r| c.of_workflow(&r.namespace_id, r.execution.as_ref());
    admin add_tasks(AddTasksRequest) -> AddTasksResponse,
        |c, r| c.of_shard(r.shard_id);
    admin get_shard(GetShardRequest) -> GetShardResponse,
        |c, r| c.of_shard(r.shard_id);
    admin close_shard(CloseShardRequest) -> CloseShardResponse,
        |c, r| c.of_shard(r.shard_id);
    admin list_history_tasks(ListHistoryTasksRequest) -> ListHistoryTasksResponse,
        |c, r| c.of_shard(r.shard_id);
}

/// Requests that name a namespace by its name, which has no shard: the caller gives the id beside it.
macro_rules! by_named_workflow {
    ($($method:ident($request:ident) -> $answer:ty;)*) => {
        impl ReplicationClient {$(
            #[doc = concat!("`", stringify!($method), "` at the owner of the workflow's shard.")]
            pub async fn $method(&self, namespace_id: &str, request: $request) -> Result<$answer, Status> {
                let key = |r: &$request| self.of_workflow(namespace_id, r.execution.as_ref());
                let call = self.0.admin.call(key, Request::new(request), |target, request| async move {
                    match target {
                        Target::Local(service) => service.$method(request).await,
                        Target::Remote(channel) => admin(channel).$method(request).await,
                    }
                });
                call.await.map(Response::into_inner)
            }
        )*}
    };
}

by_named_workflow! {
    describe_mutable_state(DescribeMutableStateRequest) -> DescribeMutableStateResponse;
    rebuild_mutable_state(RebuildMutableStateRequest) -> RebuildMutableStateResponse;
    generate_last_history_replication_tasks(GenerateLastHistoryReplicationTasksRequest) -> GenerateLastHistoryReplicationTasksResponse;
}
