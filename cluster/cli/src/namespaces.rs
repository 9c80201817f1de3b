//! `meridian namespace ...`

mod failover;
mod switchover;

use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use proto_messages::temporal::api::{
    enums::v1::{NamespaceState, ReplicationState},
    replication::v1::ClusterReplicationConfig,
    workflowservice::v1::{
        DescribeNamespaceRequest, DescribeNamespaceResponse, ListNamespacesRequest,
        RegisterNamespaceRequest,
    },
};
use serde::Serialize;

use crate::{GlobalArgs, connect::Server, output};

/// Commands on namespaces.
#[derive(Clone, Debug, Subcommand)]
pub enum NamespaceCommand {
    /// All namespaces.
    List {
        /// Where and how.
        #[command(flatten)]
        global: GlobalArgs,
    },
    /// One namespace.
    Describe(OneArgs),
    /// Make a namespace; with several clusters it is replicated.
    Register(RegisterArgs),
    /// Planned: nothing is lost, and the write pause is promised beforehand.
    Switchover(switchover::SwitchoverArgs),
    /// Forced: says what it would cost, then makes the target active at once.
    Failover(failover::FailoverArgs),
}

/// Names one namespace.
#[derive(Clone, Debug, Args)]
pub struct OneArgs {
    /// The namespace.
    #[arg(long, short, env = "TEMPORAL_NAMESPACE", default_value = "default")]
    pub namespace: String,
    /// Where and how.
    #[command(flatten)]
    pub global: GlobalArgs,
}

/// A new namespace.
#[derive(Clone, Debug, Args)]
pub struct RegisterArgs {
    /// The namespace.
    #[arg(long, short)]
    pub namespace: String,
    /// Clusters it lives in, separated by commas; one or none makes it local.
    #[arg(long, value_delimiter = ',')]
    pub clusters: Vec<String>,
    /// The cluster that may write; the server's own by default.
    #[arg(long, default_value = "")]
    pub active_cluster: String,
    /// Days that closed workflows are kept.
    #[arg(long, default_value_t = 3)]
    pub retention_days: i64,
    /// Its description.
    #[arg(long, default_value = "")]
    pub description: String,
    /// Where and how.
    #[command(flatten)]
    pub global: GlobalArgs,
}

/// A namespace as it is printed.
#[derive(Debug, Serialize)]
struct Shown {
    name: String,
    id: String,
    state: &'static str,
    active_cluster: String,
    clusters: Vec<String>,
    global: bool,
    failover_version: i64,
    replication_state: &'static str,
    retention_days: f64,
    description: String,
}

pub(crate) async fn run(command: NamespaceCommand) -> anyhow::Result<ExitCode> {
    match command {
        NamespaceCommand::List { global } => list(global).await,
        NamespaceCommand::Describe(args) => {
            let server = args.global.connect.connect().await?;
            let shown = describe(&server, &args.namespace).await?;
            args.global
                .output
                .print(&shown, |s| rows(std::slice::from_ref(s)))?;
            Ok(ExitCode::SUCCESS)
        }
        NamespaceCommand::Register(args) => register(args).await,
        NamespaceCommand::Switchover(args) => switchover::run(args).await,
        NamespaceCommand::Failover(args) => failover::run(args).await,
    }
}

async fn list(global: GlobalArgs) -> anyhow::Result<ExitCode> {
    let mut api = global.connect.connect().await?.workflow();
    let mut all = Vec::new();
    let mut request = ListNamespacesRequest {
        page_size: 100,
        ..Default::default()
    };
    loop {
        let page = api.list_namespaces(request.clone()).await?.into_inner();
        all.extend(page.namespaces.into_iter().map(Shown::from));
        if page.next_page_token.is_empty() {
            break;
        }
        request.next_page_token = page.next_page_token;
    }
    global.output.print(&all, |all| rows(all))?;
    Ok(ExitCode::SUCCESS)
}

async fn register(args: RegisterArgs) -> anyhow::Result<ExitCode> {
    let server = args.global.connect.connect().await?;
    let request = RegisterNamespaceRequest {
        namespace: args.namespace.clone(),
        description: args.description,
        workflow_execution_retention_period: Some(prost_types::Duration {
            seconds: args.retention_days * 86_400,
            nanos: 0,
        }),
        is_global_namespace: args.clusters.len() > 1,
        clusters: args
            .clusters
            .into_iter()
            .map(|cluster_name| ClusterReplicationConfig {
                cluster_name,
                ..Default::default()
            })
            .collect(),
        active_cluster_name: args.active_cluster,
        ..Default::default()
    };
    server
        .workflow()
        .register_namespace(request)
        .await
        .context("register the namespace")?;
    let shown = describe(&server, &args.namespace).await?;
    args.global
        .output
        .print(&shown, |s| rows(std::slice::from_ref(s)))?;
    Ok(ExitCode::SUCCESS)
}

/// The namespace as the server describes it now.
async fn described(server: &Server, namespace: &str) -> anyhow::Result<DescribeNamespaceResponse> {
    let request = DescribeNamespaceRequest {
        namespace: namespace.to_owned(),
        ..Default::default()
    };
    let described = server.workflow().describe_namespace(request).await;
    Ok(described
        .with_context(|| format!("describe namespace {namespace}"))?
        .into_inner())
}

async fn describe(server: &Server, namespace: &str) -> anyhow::Result<Shown> {
    Ok(described(server, namespace).await?.into())
}

fn rows(all: &[Shown]) -> String {
    let header = [
        "namespace",
        "active",
        "clusters",
        "version",
        "replication",
        "retention",
        "state",
    ];
    output::table(
        &header,
        all.iter().map(|s| {
            vec![
                s.name.clone(),
                s.active_cluster.clone(),
                s.clusters.join(","),
                s.failover_version.to_string(),
                if s.global {
                    s.replication_state.into()
                } else {
                    "local".into()
                },
                format!("{} d", s.retention_days),
                s.state.into(),
            ]
        }),
    )
}

impl From<DescribeNamespaceResponse> for Shown {
    fn from(d: DescribeNamespaceResponse) -> Self {
        let info = d.namespace_info.unwrap_or_default();
        let replication = d.replication_config.unwrap_or_default();
        let retention = d.config.and_then(|c| c.workflow_execution_retention_ttl);
        Self {
            name: info.name,
            id: info.id,
            state: match NamespaceState::try_from(info.state) {
                Ok(NamespaceState::Registered) => "registered",
                Ok(NamespaceState::Deprecated) => "deprecated",
                Ok(NamespaceState::Deleted) => "deleted",
                _ => "unspecified",
            },
            active_cluster: replication.active_cluster_name,
            clusters: replication
                .clusters
                .into_iter()
                .map(|c| c.cluster_name)
                .collect(),
            global: d.is_global_namespace,
            failover_version: d.failover_version,
            replication_state: match ReplicationState::try_from(replication.state) {
                Ok(ReplicationState::Handover) => "handover",
                _ => "normal",
            },
            retention_days: output::wire_span(retention.as_ref()).as_secs_f64() / 86_400.0,
            description: info.description,
        }
    }
}
