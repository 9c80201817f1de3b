//! The operators' API, as the stock command line uses it. RPCs that are not here answer UNIMPLEMENTED.

use std::sync::Arc;

use proto_messages::temporal::api::operatorservice::v1::*;
use proto_services::temporal::api::operatorservice::v1::operator_service_server::OperatorService;
use tonic::{Request, Response, Status, async_trait};

use crate::{attributes, frontend::Host};

pub(crate) mod clusters;

/// Serves operators.
pub(crate) struct Operator(pub(crate) Arc<Host>);

#[async_trait]
impl OperatorService for Operator {
    async fn list_search_attributes(
        &self,
        request: Request<ListSearchAttributesRequest>,
    ) -> Result<Response<ListSearchAttributesResponse>, Status> {
        let host = &self.0;
        host.run_plain("ListSearchAttributes", request, |request| async move {
            if !request.namespace.is_empty() {
                host.namespace_named(&request.namespace).await?;
            }
            Ok(ListSearchAttributesResponse {
                system_attributes: attributes::system(),
                ..Default::default()
            })
        })
        .await
    }

    async fn add_or_update_remote_cluster(
        &self,
        request: Request<AddOrUpdateRemoteClusterRequest>,
    ) -> Result<Response<AddOrUpdateRemoteClusterResponse>, Status> {
        let host = &self.0;
        host.run_plain("AddOrUpdateRemoteCluster", request, |request| async move {
            let wanted = clusters::Connection {
                address: request.frontend_address,
                connect: request.enable_remote_cluster_connection,
                replicate: request.enable_replication,
            };
            clusters::connect(host, wanted).await?;
            Ok(AddOrUpdateRemoteClusterResponse {})
        })
        .await
    }

    async fn remove_remote_cluster(
        &self,
        request: Request<RemoveRemoteClusterRequest>,
    ) -> Result<Response<RemoveRemoteClusterResponse>, Status> {
        let host = &self.0;
        host.run_plain("RemoveRemoteCluster", request, |request| async move {
            clusters::remove(host, &request.cluster_name).await?;
            Ok(RemoveRemoteClusterResponse {})
        })
        .await
    }

    async fn list_clusters(
        &self,
        request: Request<ListClustersRequest>,
    ) -> Result<Response<ListClustersResponse>, Status> {
        let host = &self.0;
        host.run_plain("ListClusters", request, |request| async move {
            let page = clusters::page(host, request.page_size, &request.next_page_token)?;
            let told = page.clusters.iter().map(|c| ClusterMetadata {
                cluster_name: c.name.to_string(),
                cluster_id: c.cluster_id.clone(),
                address: c.address.clone(),
                http_address: c.http_address.clone(),
                initial_failover_version: c.initial_failover_version,
                history_shard_count: c.shard_count,
                is_connection_enabled: c.connection_enabled,
                is_replication_enabled: c.replication_enabled,
            });
            Ok(ListClustersResponse {
                clusters: told.collect(),
                next_page_token: page.next_page_token,
            })
        })
        .await
    }
}
