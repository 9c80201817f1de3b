//! Makes clusters that serve known to one another, and registers the default namespace in all of them.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context;
use cluster_membership::Role;
use cluster_rpc::{ChannelOptions, Channels, Security};
use proto_messages::temporal::api::{
    operatorservice::v1::AddOrUpdateRemoteClusterRequest,
    replication::v1::ClusterReplicationConfig,
    workflowservice::v1::{
        DescribeNamespaceRequest, DescribeNamespaceResponse, RegisterNamespaceRequest,
    },
};
use proto_services::temporal::api::{
    operatorservice::v1::operator_service_client::OperatorServiceClient,
    workflowservice::v1::workflow_service_client::WorkflowServiceClient,
};
use tonic::{Code, transport::Channel};

use super::{DEFAULT_NAMESPACE, UpArgs, world::reached};
use crate::config::NodeConfig;

/// How long the clusters may take to agree on the namespace.
const AGREE_WITHIN: Duration = Duration::from_secs(20);
/// Between two looks at what another cluster knows.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long closed workflows of the default namespace are kept.
const RETENTION_SECONDS: i64 = 3 * 86_400;

/// A cluster that serves and knows the others.
#[derive(Clone, Debug)]
pub(super) struct Joined {
    pub(super) name: String,
    /// Where its clients reach it.
    pub(super) address: SocketAddr,
    /// Whether the default namespace is active in it.
    pub(super) is_active: bool,
}

/// A cluster and how it is talked to.
struct Cluster<'a> {
    config: &'a NodeConfig,
    address: SocketAddr,
    channel: Channel,
}

/// Where the cluster's clients reach it.
pub(super) fn address(config: &NodeConfig) -> anyhow::Result<SocketAddr> {
    let frontend = config.roles.get(&Role::Frontend);
    let at = frontend.context("a cluster of `up` has a frontend")?.grpc;
    Ok(reached(at))
}

/// Connects the clusters and waits until all have the default namespace.
pub(super) async fn join(args: &UpArgs, configs: &[NodeConfig]) -> anyhow::Result<Vec<Joined>> {
    let channels = Channels::new(Security::Plain, ChannelOptions::between_clusters());
    let mut clusters = Vec::new();
    for config in configs {
        let address = address(config)?;
        let channel = channels.get(address.to_string());
        clusters.push(Cluster {
            config,
            address,
            channel: channel.with_context(|| format!("connect to {address}"))?,
        });
    }
    let ready = futures::future::try_join_all(clusters.iter().map(Cluster::ready));
    let waited = tokio::time::timeout(AGREE_WITHIN, ready).await;
    waited.context("a cluster does not serve; run with --log info to see why")??;
    refuse_other_worlds(args, &clusters).await?;
    for here in &clusters {
        for other in clusters.iter().filter(|o| o.address != here.address) {
            here.learn(other).await?;
        }
    }
    register(&clusters).await?;
    let lives_in = clusters_of_default(&clusters).await?;
    let agreed = clusters.iter().map(|c| c.agreed(&lives_in));
    let agreed = futures::future::try_join_all(agreed);
    let waited = tokio::time::timeout(AGREE_WITHIN, agreed).await;
    waited.context(
        "the clusters do not hear of each other's namespaces; run with --log info to see why",
    )?
}

/// A default namespace that lives in one cluster stays in that one: what was begun as a single cluster does not become
/// several by being started so.
async fn refuse_other_worlds(args: &UpArgs, clusters: &[Cluster<'_>]) -> anyhow::Result<()> {
    let ([first, _, ..], false) = (clusters, args.ephemeral) else {
        return Ok(());
    };
    let Some(known) = first.default_namespace().await? else {
        return Ok(());
    };
    anyhow::ensure!(
        known.is_global_namespace,
        "{0} holds what `meridian up --clusters 1` began: namespace {DEFAULT_NAMESPACE} lives in {1} alone. Start it with \
         --clusters 1, or name a new folder with --data",
        args.data.display(),
        first.config.cluster.name
    );
    Ok(())
}

/// Names of the clusters in which the default namespace lives; of none when it is local.
async fn clusters_of_default(clusters: &[Cluster<'_>]) -> anyhow::Result<Vec<String>> {
    let [first, _, ..] = clusters else {
        return Ok(Vec::new());
    };
    let known = first.default_namespace().await?.unwrap_or_default();
    let replication = known.replication_config.unwrap_or_default();
    let names = replication.clusters.into_iter().map(|c| c.cluster_name);
    Ok(names.collect())
}

fn is_unavailable(error: &anyhow::Error) -> bool {
    let status = error
        .chain()
        .find_map(|e| e.downcast_ref::<tonic::Status>());
    status.is_some_and(|s| s.code() == Code::Unavailable)
}

async fn register(clusters: &[Cluster<'_>]) -> anyhow::Result<()> {
    let Some(first) = clusters.first() else {
        return Ok(());
    };
    let several = clusters.len() > 1;
    let names = clusters.iter().map(|c| ClusterReplicationConfig {
        cluster_name: c.config.cluster.name.clone(),
        ..Default::default()
    });
    let request = RegisterNamespaceRequest {
        namespace: DEFAULT_NAMESPACE.into(),
        description: "Made by `meridian up`.".into(),
        workflow_execution_retention_period: Some(prost_types::Duration {
            seconds: RETENTION_SECONDS,
            nanos: 0,
        }),
        is_global_namespace: several,
        clusters: if several { names.collect() } else { Vec::new() },
        ..Default::default()
    };
    let registered = first.workflows().register_namespace(request).await;
    match registered {
        Ok(_) => Ok(()),
        Err(status) if status.code() == Code::AlreadyExists => Ok(()),
        Err(status) => Err(status).context("register the default namespace"),
    }
}

impl Cluster<'_> {
    fn workflows(&self) -> WorkflowServiceClient {
        WorkflowServiceClient::new(self.channel.clone())
    }

    /// Waits until the cluster answers: its port is open before it is ready.
    async fn ready(&self) -> anyhow::Result<()> {
        loop {
            match self.default_namespace().await {
                Err(error) if is_unavailable(&error) => tokio::time::sleep(LOOK_EVERY).await,
                answered => return answered.map(|_| ()),
            }
        }
    }

    /// Makes the other cluster known here.
    async fn learn(&self, other: &Cluster<'_>) -> anyhow::Result<()> {
        let request = AddOrUpdateRemoteClusterRequest {
            frontend_address: other.config.cluster.rpc_address.clone(),
            enable_remote_cluster_connection: true,
            enable_replication: true,
            ..Default::default()
        };
        let mut operator = OperatorServiceClient::new(self.channel.clone());
        let learned = operator.add_or_update_remote_cluster(request).await;
        learned.with_context(|| {
            format!(
                "make {} known in {}",
                other.config.cluster.name, self.config.cluster.name
            )
        })?;
        Ok(())
    }

    async fn default_namespace(&self) -> anyhow::Result<Option<DescribeNamespaceResponse>> {
        let request = DescribeNamespaceRequest {
            namespace: DEFAULT_NAMESPACE.into(),
            ..Default::default()
        };
        match self.workflows().describe_namespace(request).await {
            Ok(found) => Ok(Some(found.into_inner())),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(status)
                .with_context(|| format!("ask {} at {}", self.config.cluster.name, self.address)),
        }
    }

    /// Waits until the cluster knows the default namespace, if that lives in it.
    async fn agreed(&self, lives_in: &[String]) -> anyhow::Result<Joined> {
        let name = &self.config.cluster.name;
        if !lives_in.is_empty() && !lives_in.contains(name) {
            eprintln!(
                "note: the namespace {DEFAULT_NAMESPACE} does not live in {name}, which is new here; workflows of before \
                 would be missing there"
            );
            return Ok(Joined {
                name: name.clone(),
                address: self.address,
                is_active: false,
            });
        }
        loop {
            if let Some(known) = self.default_namespace().await? {
                let replication = known.replication_config.unwrap_or_default();
                return Ok(Joined {
                    name: self.config.cluster.name.clone(),
                    address: self.address,
                    is_active: !known.is_global_namespace
                        || replication.active_cluster_name == self.config.cluster.name,
                });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
