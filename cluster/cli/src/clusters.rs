//! `meridian cluster ...`

use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use proto_messages::temporal::{
    api::operatorservice::v1::{AddOrUpdateRemoteClusterRequest, RemoveRemoteClusterRequest},
    server::api::{
        adminservice::v1::{DescribeClusterRequest, ListClustersRequest},
        persistence::v1::ClusterMetadata,
    },
};
use serde::Serialize;

use crate::{GlobalArgs, connect::Server, output};

/// Commands on the cluster directory.
#[derive(Clone, Debug, Subcommand)]
pub enum ClusterCommand {
    /// All known clusters.
    List {
        /// Where and how.
        #[command(flatten)]
        global: GlobalArgs,
    },
    /// The asked cluster itself.
    Describe {
        /// Where and how.
        #[command(flatten)]
        global: GlobalArgs,
    },
    /// Make a cluster known, or change how it is treated. Do it on both sides: each pulls from the other.
    Upsert(UpsertArgs),
    /// Forget a cluster.
    Remove {
        /// Its name.
        #[arg(long)]
        name: String,
        /// Where and how.
        #[command(flatten)]
        global: GlobalArgs,
    },
}

/// A remote cluster.
#[derive(Clone, Debug, Args)]
pub struct UpsertArgs {
    /// Its frontend, host:port, as this cluster reaches it.
    #[arg(long)]
    pub frontend_address: String,
    /// Do not talk to it for now.
    #[arg(long)]
    pub disable_connection: bool,
    /// Talk to it, but do not pull histories.
    #[arg(long)]
    pub disable_replication: bool,
    /// Where and how.
    #[command(flatten)]
    pub global: GlobalArgs,
}

#[derive(Debug, Serialize)]
struct Shown {
    name: String,
    id: String,
    address: String,
    initial_failover_version: i64,
    failover_version_increment: i64,
    shards: i32,
    connection_enabled: bool,
    replication_enabled: bool,
    current: bool,
}

pub(crate) async fn run(command: ClusterCommand) -> anyhow::Result<ExitCode> {
    match command {
        ClusterCommand::List { global } => {
            let server = global.connect.connect().await?;
            let here = current_name(&server).await?;
            let all: Vec<Shown> = all(&server)
                .await?
                .into_iter()
                .map(|c| Shown::of(c, &here))
                .collect();
            global.output.print(&all, |all| rows(all))?;
        }
        ClusterCommand::Describe { global } => {
            let server = global.connect.connect().await?;
            let here = current_name(&server).await?;
            let mut known = all(&server).await?;
            known.retain(|c| c.cluster_name == here);
            let shown: Vec<Shown> = known.into_iter().map(|c| Shown::of(c, &here)).collect();
            global.output.print(&shown, |all| rows(all))?;
        }
        ClusterCommand::Upsert(args) => {
            let server = args.global.connect.connect().await?;
            let request = AddOrUpdateRemoteClusterRequest {
                frontend_address: args.frontend_address.clone(),
                enable_remote_cluster_connection: !args.disable_connection,
                enable_replication: !args.disable_replication,
                ..Default::default()
            };
            let upserted = server
                .operator()
                .add_or_update_remote_cluster(request)
                .await;
            upserted.with_context(|| format!("add the cluster at {}", args.frontend_address))?;
            eprintln!("{}", upserted_text(&args));
        }
        ClusterCommand::Remove { name, global } => {
            let server = global.connect.connect().await?;
            let request = RemoveRemoteClusterRequest {
                cluster_name: name.clone(),
            };
            let removed = server.operator().remove_remote_cluster(request).await;
            removed.with_context(|| format!("remove cluster {name}"))?;
            eprintln!("removed {name}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The name of the cluster that answers.
pub(crate) async fn current_name(server: &Server) -> anyhow::Result<String> {
    let described = server
        .admin()
        .describe_cluster(DescribeClusterRequest::default())
        .await;
    Ok(described
        .context("describe the cluster")?
        .into_inner()
        .cluster_name)
}

async fn all(server: &Server) -> anyhow::Result<Vec<ClusterMetadata>> {
    let mut clusters = Vec::new();
    let mut request = ListClustersRequest::default();
    loop {
        let page = server
            .admin()
            .list_clusters(request.clone())
            .await
            .context("list clusters")?
            .into_inner();
        clusters.extend(page.clusters);
        if page.next_page_token.is_empty() {
            return Ok(clusters);
        }
        request.next_page_token = page.next_page_token;
    }
}

/// What holds from now on; a pause is not an addition.
fn upserted_text(args: &UpsertArgs) -> String {
    let at = &args.frontend_address;
    match (args.disable_connection, args.disable_replication) {
        (true, _) => format!(
            "{at} is known and its connection is disabled: nothing crosses until it is enabled"
        ),
        (false, true) => format!(
            "{at} is known and replication with it is disabled: no histories cross until it is enabled"
        ),
        (false, false) => {
            format!("added {at}; run the same on the other side, so that it pulls from this one")
        }
    }
}

fn rows(all: &[Shown]) -> String {
    let header = [
        "cluster",
        "address",
        "version",
        "shards",
        "connection",
        "replication",
    ];
    let on = |enabled: bool| if enabled { "on" } else { "off" }.to_owned();
    output::table(
        &header,
        all.iter().map(|c| {
            vec![
                if c.current {
                    format!("{} (here)", c.name)
                } else {
                    c.name.clone()
                },
                c.address.clone(),
                format!(
                    "{} mod {}",
                    c.initial_failover_version, c.failover_version_increment
                ),
                c.shards.to_string(),
                if c.current {
                    "-".into()
                } else {
                    on(c.connection_enabled)
                },
                if c.current {
                    "-".into()
                } else {
                    on(c.replication_enabled)
                },
            ]
        }),
    )
}

impl Shown {
    fn of(c: ClusterMetadata, here: &str) -> Self {
        Self {
            current: c.cluster_name == here,
            name: c.cluster_name,
            id: c.cluster_id,
            address: c.cluster_address,
            initial_failover_version: c.initial_failover_version,
            failover_version_increment: c.failover_version_increment,
            shards: c.history_shard_count,
            connection_enabled: c.is_connection_enabled,
            replication_enabled: c.is_replication_enabled,
        }
    }
}
