//! The admin service for peer clusters and debugging tools, on the frontend's port. The directory and the namespaces
//! are answered here; what is bound to a shard goes to its owner, streams included; dead letters go to
//! whoever keeps them. RPCs that are not here answer UNIMPLEMENTED.

use std::sync::Arc;

use cluster_rpc::{ReplicationClient, guard::check_speaks_for, status};
use proto_ids::ShardId;
use proto_messages::temporal::server::api::adminservice::v1::*;
use proto_services::temporal::server::api::adminservice::v1::admin_service_server::AdminService;
use tonic::{Request, Response, Status, Streaming, async_trait, codegen::BoxStream};

use crate::{attributes, frontend::Host, operator_service::clusters as directory, refusal};

mod clusters;
mod namespaces;

/// Header by which a peer tells the cluster id (UUID) of its store.
const CLIENT_STORE: &str = "meridian-client-cluster-uuid";

/// Names the shard of the side that serves the stream.
const SERVER_SHARD: &str = "temporal-server-shard-id";

/// The services behind the admin RPCs that are not the frontend's own.
#[derive(Clone)]
pub struct Delegates {
    /// Shards' owners.
    pub replication: ReplicationClient,
    /// The service that keeps dead letters; its other RPCs are not called.
    pub dead_letters: Option<Arc<dyn AdminService>>,
}

/// Serves peers and tools.
pub(crate) struct Admin {
    host: Arc<Host>,
    delegates: Delegates,
}

impl Admin {
    pub(crate) fn new(host: Arc<Host>, delegates: Delegates) -> Self {
        Self { host, delegates }
    }

    fn dead_letters(&self) -> Result<&Arc<dyn AdminService>, Status> {
        let keeper = self.delegates.dead_letters.as_ref();
        keeper.ok_or_else(|| status::unimplemented("this frontend has no dead letters to offer"))
    }
}

/// RPCs of three kinds: answered by a function here, bound to a shard, or bound to a shard that the
/// namespace's id and the workflow name together; then those about dead letters.
macro_rules! service {
    (
        here { $($here:ident($here_request:ident) -> $here_answer:ident, $operation:literal, $function:path;)* }
        at_shard { $($shard:ident($shard_request:ident) -> $shard_answer:ident, $shard_operation:literal;)* }
        at_workflow { $($workflow:ident($workflow_request:ident) -> $workflow_answer:ident, $workflow_operation:literal;)* }
        dead_letters { $($letter:ident($letter_request:ident) -> $letter_answer:ident;)* }
    ) => {
        #[async_trait]
        impl AdminService for Admin {
            async fn stream_workflow_replication_messages(
                &self,
                request: Request<Streaming<StreamWorkflowReplicationMessagesRequest>>,
            ) -> Result<Response<BoxStream<StreamWorkflowReplicationMessagesResponse>>, Status> {
                self.host.readiness.check()?;
                self.host.check_stream_peer(&request)?;
                let shard = server_shard(&request)?;
                self.delegates.replication.stream(shard, request).await
            }

            async fn get_namespace_replication_messages(
                &self,
                request: Request<GetNamespaceReplicationMessagesRequest>,
            ) -> Result<Response<GetNamespaceReplicationMessagesResponse>, Status> {
                check_speaks_for(request.extensions(), &request.get_ref().cluster_name)?;
                let told = request.metadata().get(CLIENT_STORE);
                let store_id = told.and_then(|id| id.to_str().ok()).map(str::to_owned);
                let host = &self.host;
                let serve = |message| namespaces::messages(host, message, store_id);
                host.run_plain("AdminGetNamespaceReplicationMessages", request, serve).await
            }

            $(
                async fn $here(
                    &self,
                    request: Request<$here_request>,
                ) -> Result<Response<$here_answer>, Status> {
                    let host = &self.host;
                    host.run_plain($operation, request, |message| $function(host, message)).await
                }
            )*
            $(
                async fn $shard(
                    &self,
                    request: Request<$shard_request>,
                ) -> Result<Response<$shard_answer>, Status> {
                    let replication = &self.delegates.replication;
                    let call = |message| replication.$shard(Request::new(message));
                    self.host.run_plain($shard_operation, request, call).await
                }
            )*
            $(
                async fn $workflow(
                    &self,
                    request: Request<$workflow_request>,
                ) -> Result<Response<$workflow_answer>, Status> {
                    let (host, replication) = (&self.host, &self.delegates.replication);
                    host.run_plain($workflow_operation, request, |message| async move {
                        let namespace = host.namespace_named(&message.namespace).await?;
                        replication.$workflow(namespace.id.as_str(), message).await
                    })
                    .await
                }
            )*
            $(
                async fn $letter(
                    &self,
                    request: Request<$letter_request>,
                ) -> Result<Response<$letter_answer>, Status> {
                    self.host.readiness.check()?;
                    self.dead_letters()?.$letter(request).await
                }
            )*
        }
    };
}

service! {
    here {
        describe_cluster(DescribeClusterRequest) -> DescribeClusterResponse, "AdminDescribeCluster", clusters::describe;
        list_clusters(ListClustersRequest) -> ListClustersResponse, "AdminListClusters", clusters::list;
        list_cluster_members(ListClusterMembersRequest) -> ListClusterMembersResponse, "AdminListClusterMembers", clusters::members;
        add_or_update_remote_cluster(AddOrUpdateRemoteClusterRequest) -> AddOrUpdateRemoteClusterResponse, "AdminAddOrUpdateRemoteCluster", add_or_update;
        remove_remote_cluster(RemoveRemoteClusterRequest) -> RemoveRemoteClusterResponse, "AdminRemoveRemoteCluster", remove;
        get_namespace(GetNamespaceRequest) -> GetNamespaceResponse, "AdminGetNamespace", namespaces::get;
        delete_workflow_execution(DeleteWorkflowExecutionRequest) -> DeleteWorkflowExecutionResponse, "AdminDeleteWorkflowExecution", delete_workflow;
        get_search_attributes(GetSearchAttributesRequest) -> GetSearchAttributesResponse, "AdminGetSearchAttributes", search_attributes;
    }
    at_shard {
        get_workflow_execution_raw_history_v2(GetWorkflowExecutionRawHistoryV2Request) -> GetWorkflowExecutionRawHistoryV2Response, "AdminGetWorkflowExecutionRawHistoryV2";
        get_workflow_execution_raw_history(GetWorkflowExecutionRawHistoryRequest) -> GetWorkflowExecutionRawHistoryResponse, "AdminGetWorkflowExecutionRawHistory";
        sync_workflow_state(SyncWorkflowStateRequest) -> SyncWorkflowStateResponse, "AdminSyncWorkflowState";
        reapply_events(ReapplyEventsRequest) -> ReapplyEventsResponse, "AdminReapplyEvents";
        refresh_workflow_tasks(RefreshWorkflowTasksRequest) -> RefreshWorkflowTasksResponse, "AdminRefreshWorkflowTasks";
        add_tasks(AddTasksRequest) -> AddTasksResponse, "AdminAddTasks";
        get_shard(GetShardRequest) -> GetShardResponse, "AdminGetShard";
        close_shard(CloseShardRequest) -> CloseShardResponse, "AdminCloseShard";
        list_history_tasks(ListHistoryTasksRequest) -> ListHistoryTasksResponse, "AdminListHistoryTasks";
    }
    at_workflow {
        describe_mutable_state(DescribeMutableStateRequest) -> DescribeMutableStateResponse, "AdminDescribeMutableState";
        rebuild_mutable_state(RebuildMutableStateRequest) -> RebuildMutableStateResponse, "AdminRebuildMutableState";
        generate_last_history_replication_tasks(GenerateLastHistoryReplicationTasksRequest) -> GenerateLastHistoryReplicationTasksResponse, "AdminGenerateLastHistoryReplicationTasks";
    }
    dead_letters {
        get_dlq_messages(GetDlqMessagesRequest) -> GetDlqMessagesResponse;
        purge_dlq_messages(PurgeDlqMessagesRequest) -> PurgeDlqMessagesResponse;
        merge_dlq_messages(MergeDlqMessagesRequest) -> MergeDlqMessagesResponse;
        get_dlq_tasks(GetDlqTasksRequest) -> GetDlqTasksResponse;
        purge_dlq_tasks(PurgeDlqTasksRequest) -> PurgeDlqTasksResponse;
        merge_dlq_tasks(MergeDlqTasksRequest) -> MergeDlqTasksResponse;
        describe_dlq_job(DescribeDlqJobRequest) -> DescribeDlqJobResponse;
        cancel_dlq_job(CancelDlqJobRequest) -> CancelDlqJobResponse;
        list_queues(ListQueuesRequest) -> ListQueuesResponse;
    }
}

fn server_shard<T>(request: &Request<T>) -> Result<ShardId, Status> {
    let text = request
        .metadata()
        .get(SERVER_SHARD)
        .and_then(|v| v.to_str().ok());
    let shard = text.and_then(|t| t.parse::<i32>().ok());
    shard.map(ShardId::new).ok_or_else(|| {
        status::invalid_argument(format!("header {SERVER_SHARD} is missing or not a number"))
    })
}

async fn add_or_update(
    host: &Host,
    request: AddOrUpdateRemoteClusterRequest,
) -> Result<AddOrUpdateRemoteClusterResponse, Status> {
    let wanted = directory::Connection {
        address: request.frontend_address,
        connect: request.enable_remote_cluster_connection,
        replicate: request.enable_replication,
    };
    directory::connect(host, wanted).await?;
    Ok(AddOrUpdateRemoteClusterResponse {})
}

async fn remove(
    host: &Host,
    request: RemoveRemoteClusterRequest,
) -> Result<RemoveRemoteClusterResponse, Status> {
    directory::remove(host, &request.cluster_name).await?;
    Ok(RemoveRemoteClusterResponse {})
}

async fn delete_workflow(
    host: &Host,
    request: DeleteWorkflowExecutionRequest,
) -> Result<DeleteWorkflowExecutionResponse, Status> {
    let namespace = host.namespace_named(&request.namespace).await?;
    let limits = host.limits(namespace.name.as_str());
    crate::validate::execution(request.execution.as_ref(), limits)?;
    let request = proto_messages::meridian::history::v1::DeleteWorkflowExecutionRequest {
        namespace_id: namespace.id.to_string(),
        execution: request.execution,
        local_copy_only: true,
    };
    host.history.delete_workflow_execution(request).await?;
    Ok(DeleteWorkflowExecutionResponse::default())
}

async fn search_attributes(
    host: &Host,
    request: GetSearchAttributesRequest,
) -> Result<GetSearchAttributesResponse, Status> {
    if !request.namespace.is_empty() {
        let known = host
            .registry
            .resolve(&request.namespace.as_str().into())
            .await;
        let known = known.map_err(refusal::of_store)?;
        known.ok_or_else(|| refusal::not_found(&request.namespace.into()))?;
    }
    Ok(GetSearchAttributesResponse {
        system_attributes: attributes::system(),
        ..Default::default()
    })
}
