//! `meridian up`: complete clusters on one machine, each on its own SQLite file, connected both ways with mutual TLS from
//! a development CA. The first ten minutes of a user, and what drills and demos start from.
//!
//! The clusters run in this process, or each in one of its own (`--processes`), so that one can be killed. Either way they
//! are made known to each other over their own APIs, as an operator would.

mod join;
mod processes;
mod welcome;
mod world;

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context;
use clap::Args;
use cluster_membership::Role;
use cluster_runtime::telemetry::{LogFormat, init_logs};

use crate::{Node, commands::stop_signal, config::NodeConfig};

/// The namespace everybody expects.
const DEFAULT_NAMESPACE: &str = "default";

/// Complete clusters on this machine.
#[derive(Clone, Debug, Args)]
pub struct UpArgs {
    /// How many; 1 is a plain development server.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=5))]
    pub clusters: u8,
    /// Where everything is kept.
    #[arg(long, default_value = "data")]
    pub data: PathBuf,
    /// The first cluster's frontend port; the next cluster's is 100 higher.
    #[arg(long, default_value_t = 7233)]
    pub port_base: u16,
    /// Address that the frontends listen on. What is not loopback can be reached by others, without TLS.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub bind: IpAddr,
    /// Run each cluster in a process of its own, so that one can be killed and started again.
    #[arg(long)]
    pub processes: bool,
    /// Run only this one of the clusters: one that was killed, with the other arguments as before.
    #[arg(long, value_parser = world::NAMES, conflicts_with = "processes")]
    pub only: Option<String>,
    /// Stop when standard input ends: the parent of `--processes` holds it open.
    #[arg(long, hide = true)]
    pub until_input_ends: bool,
    /// Connect the clusters without TLS.
    #[arg(long)]
    pub no_tls: bool,
    /// Keep nothing: all is in memory and gone at the end.
    #[arg(long)]
    pub ephemeral: bool,
    /// History shards of each cluster; fixed at the first start.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(i32).range(1..=512))]
    pub shards: i32,
    /// Serve Prometheus metrics, the first cluster on this port, the next ones above it.
    #[arg(long)]
    pub metrics_port: Option<u16>,
    /// Log filter, such as `info` or `debug`; warnings only by default.
    #[arg(long, env = "RUST_LOG", default_value = "warn")]
    pub log: String,
}

/// Starts the clusters and runs until Ctrl-C.
pub async fn up(args: UpArgs) -> anyhow::Result<ExitCode> {
    init_logs(LogFormat::Pretty, &args.log).context("set up logging")?;
    world::check_data(&args)?;
    let configs = world::configs(&args)?;
    if let Some(name) = &args.only {
        return only(&args, name, configs).await;
    }
    if args.processes {
        return processes::up(&args, &configs).await;
    }
    let mut nodes = Vec::new();
    for config in configs.clone() {
        nodes.push(start(config).await?);
    }
    let joined = join::join(&args, &configs).await?;
    println!("{}", welcome::welcome(&args, &configs, &joined));
    let broken = tokio::select! {
        () = stop_signal() => None,
        failure = any_failed(&nodes) => Some(failure),
    };
    stop(nodes, broken).await
}

/// One of the clusters; that they know each other is settled already, or by the parent.
async fn only(args: &UpArgs, name: &str, configs: Vec<NodeConfig>) -> anyhow::Result<ExitCode> {
    let config = configs.into_iter().find(|c| c.cluster.name == name);
    let config = config.with_context(|| {
        format!(
            "--only {name}: there are {} clusters, see --clusters",
            args.clusters
        )
    })?;
    let node = start(config).await?;
    if !args.until_input_ends {
        let address = node.address(Role::Frontend).map(|a| a.to_string());
        println!(
            "{name} serves on {}; Ctrl-C drains and stops",
            address.unwrap_or_default()
        );
    }
    let broken = tokio::select! {
        () = stop_signal() => None,
        () = input_ends(), if args.until_input_ends => None,
        failure = node.failed() => Some(failure),
    };
    stop(vec![node], broken).await
}

async fn start(config: NodeConfig) -> anyhow::Result<Node> {
    let name = config.cluster.name.clone();
    let roles: BTreeSet<Role> = Role::ALL.into_iter().collect();
    let node = Node::start(config, &roles).await;
    node.with_context(|| format!("start cluster {name}"))
}

async fn stop(nodes: Vec<Node>, broken: Option<anyhow::Error>) -> anyhow::Result<ExitCode> {
    eprintln!("stopping: calls drain, state is stored");
    for stopped in futures::future::join_all(nodes.into_iter().map(Node::stop)).await {
        stopped?;
    }
    match broken {
        Some(failure) => Err(failure),
        None => Ok(ExitCode::SUCCESS),
    }
}

async fn any_failed(nodes: &[Node]) -> anyhow::Error {
    let failures: Vec<_> = nodes.iter().map(|n| Box::pin(n.failed())).collect();
    futures::future::select_all(failures).await.0
}

/// Returns when the other end of standard input is closed, also by the death of the process that held it.
async fn input_ends() {
    let (tell, ended) = tokio::sync::oneshot::channel();
    // A thread of its own, which the end of the process does not wait for: a read cannot be called off.
    std::thread::spawn(move || {
        let ended = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        tell.send(ended.is_ok())
    });
    // Whether it ended well or not, nobody is there any more.
    let _ = ended.await;
}
