//! Makes a world of separate clusters into the drill's: clusters know each other through the links, and
//! the namespace exists on all of them. Everything goes through the public API.

use std::time::{Duration, Instant};

use anyhow::Context;
use proto_messages::temporal::api::{
    namespace::v1::UpdateNamespaceInfo,
    operatorservice::v1::AddOrUpdateRemoteClusterRequest,
    replication::v1::{ClusterReplicationConfig, NamespaceReplicationConfig},
    workflowservice::v1::{
        DescribeNamespaceRequest, DescribeNamespaceResponse, RegisterNamespaceRequest,
        UpdateNamespaceRequest,
    },
};
use proto_services::temporal::api::operatorservice::v1::operator_service_client::OperatorServiceClient;
use scenarios_load::connect::{Connections, local, timed};
use tonic::{Code, Status};

use super::{NAMESPACE, World};

/// How long setting up may take in all.
const SETUP: Duration = Duration::from_secs(60);

/// Deadline of each call.
const CALL: Duration = Duration::from_secs(10);

impl World {
    /// Connects the clusters, registers the namespace on the first and waits until all have it.
    pub(crate) async fn set_up(&self) -> anyhow::Result<()> {
        self.connect().await?;
        self.register().await?;
        self.wait_for_namespaces().await
    }

    /// Connects clusters anew of which one came back empty, and has the namespace told again.
    pub(crate) async fn connect_again(&self) -> anyhow::Result<()> {
        self.connect().await?;
        for cluster in &self.clusters {
            let connections = cluster.connections();
            let active = match describe(&connections).await {
                Ok(known) => {
                    known
                        .replication_config
                        .unwrap_or_default()
                        .active_cluster_name
                }
                Err(_) => continue,
            };
            if active == cluster.name {
                tell_again(&connections).await?;
            }
        }
        self.wait_for_namespaces().await
    }

    async fn wait_for_namespaces(&self) -> anyhow::Result<()> {
        for cluster in &self.clusters {
            wait_for_namespace(&cluster.connections())
                .await
                .with_context(|| format!("wait for the namespace on {}", cluster.name))?;
        }
        Ok(())
    }

    async fn connect(&self) -> anyhow::Result<()> {
        for link in &self.links {
            let caller = self.cluster(&link.from)?.connections();
            let request = AddOrUpdateRemoteClusterRequest {
                frontend_address: link.address.to_string(),
                enable_remote_cluster_connection: true,
                enable_replication: true,
                ..Default::default()
            };
            retry(|| {
                let (caller, request) = (caller.clone(), request.clone());
                async move {
                    OperatorServiceClient::new(caller.channel())
                        .add_or_update_remote_cluster(timed(request, CALL))
                        .await
                }
            })
            .await
            .with_context(|| format!("make {} known to {}", link.to, link.from))?;
        }
        Ok(())
    }

    async fn register(&self) -> anyhow::Result<()> {
        let first = self.clusters.first().context("a drill has a cluster")?;
        let clusters = self
            .clusters
            .iter()
            .map(|c| ClusterReplicationConfig {
                cluster_name: c.name.clone(),
                ..Default::default()
            })
            .collect();
        let request = RegisterNamespaceRequest {
            namespace: NAMESPACE.to_owned(),
            description: "made by a drill".to_owned(),
            workflow_execution_retention_period: Some(prost_types::Duration {
                seconds: 3 * 24 * 3600,
                nanos: 0,
            }),
            clusters,
            active_cluster_name: first.name.clone(),
            is_global_namespace: self.clusters.len() > 1,
            ..Default::default()
        };
        let connections = first.connections();
        retry(|| {
            let (connections, request) = (connections.clone(), request.clone());
            async move {
                connections
                    .api()
                    .register_namespace(timed(request, CALL))
                    .await
            }
        })
        .await
        .context("register the namespace")?;
        Ok(())
    }
}

/// The namespace as the cluster itself describes it.
pub(crate) async fn describe(
    connections: &Connections,
) -> Result<DescribeNamespaceResponse, Status> {
    let request = DescribeNamespaceRequest {
        namespace: NAMESPACE.to_owned(),
        ..Default::default()
    };
    let answer = connections
        .api()
        .describe_namespace(local(request, Duration::from_secs(2)))
        .await?;
    Ok(answer.into_inner())
}

/// Changes something of the namespace, so that other clusters are notified of it.
async fn tell_again(connections: &Connections) -> anyhow::Result<()> {
    let request = UpdateNamespaceRequest {
        namespace: NAMESPACE.to_owned(),
        update_info: Some(UpdateNamespaceInfo {
            description: "made by a drill, and told again".to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let mut api = connections.api();
    api.update_namespace(timed(request, CALL)).await?;
    Ok(())
}

/// Makes `to` active by `UpdateNamespace`, as the tools of Temporal do.
pub(crate) async fn fail_over(connections: &Connections, to: &str) -> Result<(), Status> {
    let request = UpdateNamespaceRequest {
        namespace: NAMESPACE.to_owned(),
        replication_config: Some(NamespaceReplicationConfig {
            active_cluster_name: to.to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    connections
        .api()
        .update_namespace(timed(request, CALL))
        .await?;
    Ok(())
}

async fn wait_for_namespace(connections: &Connections) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        match describe(connections).await {
            Ok(_) => return Ok(()),
            Err(status) if begun.elapsed() > SETUP => {
                return Err(anyhow::Error::new(status).context("not there in time"));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Repeats a call while clusters are still coming up. Done already counts as done.
async fn retry<T, F>(mut call: impl FnMut() -> F) -> anyhow::Result<()>
where
    F: Future<Output = Result<T, Status>>,
{
    let begun = Instant::now();
    loop {
        match call().await {
            Ok(_) => return Ok(()),
            Err(status) if status.code() == Code::AlreadyExists => return Ok(()),
            Err(status)
                if begun.elapsed() > SETUP
                    || matches!(status.code(), Code::InvalidArgument | Code::Unimplemented) =>
            {
                return Err(status.into());
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}
