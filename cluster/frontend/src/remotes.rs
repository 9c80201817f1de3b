//! The frontends of the other clusters: a connection per cluster, at the address the directory has now.

use cluster_rpc::{Channels, status};
use namespaces::Clusters;
use proto_ids::ClusterName;
use proto_messages::temporal::server::api::adminservice::v1::{
    DescribeClusterRequest, DescribeClusterResponse,
};
use proto_services::temporal::server::api::adminservice::v1::admin_service_client::AdminServiceClient;
use tonic::{Request, Status, transport::Channel};

/// Longest wait for a cluster's description.
const DESCRIBE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

/// Calls other clusters. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RemoteFrontends {
    channels: Channels,
    clusters: Clusters,
}

impl RemoteFrontends {
    /// Over channels that are secured as calls between clusters must be.
    pub fn new(channels: Channels, clusters: Clusters) -> Self {
        Self { channels, clusters }
    }

    /// The channel to a cluster that this one is connected with.
    pub fn get(&self, cluster: &ClusterName) -> Result<Channel, Status> {
        let info = self.clusters.get(cluster).filter(|c| c.connection_enabled);
        let info = info.ok_or_else(|| {
            status::unavailable(format!("cluster {cluster} is not connected with this one"))
        })?;
        self.channels.get(info.address.as_str())
    }

    /// Asks the cluster behind an address, known or not, to describe itself.
    pub async fn describe(&self, address: &str) -> Result<DescribeClusterResponse, Status> {
        let mut client = AdminServiceClient::new(self.channels.get(address)?);
        let mut request = Request::new(DescribeClusterRequest::default());
        request.set_timeout(DESCRIBE_TIMEOUT);
        let answer = tokio::time::timeout(DESCRIBE_TIMEOUT, client.describe_cluster(request)).await;
        let failed = |why: &dyn std::fmt::Display| {
            status::unavailable(format!(
                "Cannot get remote cluster metadata from {address}: {why}"
            ))
        };
        match answer {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(error)) => Err(failed(&error.message())),
            Err(_) => Err(failed(&"no answer in 10 s")),
        }
    }
}
