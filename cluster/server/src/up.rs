//! `meridian up`: complete clusters in one process, each on its own SQLite file, connected both ways with
//! mutual TLS from a development CA. The first ten minutes of a user, and what drills and demos start from.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use certs::{Issued, Leaf};
use clap::Args;
use cluster_membership::Role;
use cluster_runtime::telemetry::{LogFormat, init_logs};
use namespaces::{ClusterInfo, Refusal, rules::Registration};

use crate::{
    Node,
    commands::stop_signal,
    config::{
        ClusterConfig, DatastoreConfig, MembershipConfig, NodeConfig, RedirectionPolicy,
        RoleAddress, TlsClient, TlsConfig, TlsGroup, TlsServer,
    },
};

/// Names of the clusters, in order.
const NAMES: [&str; 5] = ["west", "east", "north", "south", "center"];
/// Distance between the ports of two clusters.
const PORT_STEP: u16 = 1_000;
/// The port for other clusters, above the frontend's.
const PEER_OFFSET: u16 = 3;
/// Distance between two failover versions of one cluster.
const INCREMENT: i64 = 100;
/// The namespace everybody expects.
const DEFAULT_NAMESPACE: &str = "default";
/// How long closed workflows of it are kept.
const RETENTION: Duration = Duration::from_secs(3 * 86_400);
/// How long the clusters may take to agree on the namespace.
const AGREE_WITHIN: Duration = Duration::from_secs(20);

/// Complete clusters in one process.
#[derive(Clone, Debug, Args)]
pub struct UpArgs {
    /// How many; 1 is a plain development server.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=5))]
    pub clusters: u8,
    /// Where everything is kept.
    #[arg(long, default_value = "data")]
    pub data: PathBuf,
    /// The first cluster's frontend port; the next cluster's is 1000 higher.
    #[arg(long, default_value_t = 7233)]
    pub port_base: u16,
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
    check_data(&args)?;
    let configs = configs(&args)?;
    let mut nodes = Vec::new();
    for config in configs {
        let name = config.cluster.name.clone();
        let roles: BTreeSet<Role> = Role::ALL.into_iter().collect();
        let node = Node::start(config, &roles).await;
        let node = node.with_context(|| format!("start cluster {name}"))?;
        if let Err(error) = check_default(&args, &node) {
            // What was just opened is closed in good order; the error is what counts.
            let _ = node.stop().await;
            return Err(error);
        }
        nodes.push(node);
    }
    connect(&nodes).await?;
    register(&nodes).await?;
    println!("{}", welcome(&args, &nodes));
    let broken = tokio::select! {
        () = stop_signal() => None,
        failure = any_failed(&nodes) => Some(failure),
    };
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

fn configs(args: &UpArgs) -> anyhow::Result<Vec<NodeConfig>> {
    let count = usize::from(args.clusters);
    let last = u32::from(args.port_base)
        + u32::from(PORT_STEP) * (count as u32 - 1)
        + u32::from(PEER_OFFSET);
    anyhow::ensure!(
        last <= u32::from(u16::MAX),
        "--port-base {} leaves no room for {count} clusters",
        args.port_base
    );
    let several = count > 1;
    NAMES[..count]
        .iter()
        .zip(0u16..)
        .map(|(name, n)| {
            let port = args.port_base + PORT_STEP * n;
            let peer = several.then(|| localhost(port + PEER_OFFSET));
            Ok(NodeConfig {
                log_filter: None,
                log_json: false,
                datastore: datastore(args, name),
                cluster: ClusterConfig {
                    name: (*name).into(),
                    master: NAMES[0].into(),
                    global_namespaces: several,
                    initial_failover_version: i64::from(n) + 1,
                    failover_version_increment: INCREMENT,
                    rpc_address: peer.unwrap_or(localhost(port)).to_string(),
                    http_address: String::new(),
                    shards: args.shards,
                },
                roles: roles(port, peer),
                membership: MembershipConfig {
                    broadcast: Ipv4Addr::LOCALHOST.into(),
                    join_within: Duration::ZERO,
                    alone: true,
                },
                tls: tls(args, name, several)?,
                metrics: args.metrics_port.map(|p| localhost(p + n)),
                redirection: RedirectionPolicy::AllApisForwarding,
                dynamic: None,
                notices: Vec::new(),
            })
        })
        .collect()
}

/// Whether the data is of more clusters than are asked for: the others would be missed for ever.
fn check_data(args: &UpArgs) -> anyhow::Result<()> {
    if args.ephemeral {
        return Ok(());
    }
    let count = usize::from(args.clusters);
    let has_data = |name: &&&str| args.data.join(format!("{name}.db")).exists();
    if let Some(last) = NAMES.iter().rev().find(has_data) {
        let there = NAMES
            .iter()
            .position(|name| name == last)
            .map_or(0, |n| n + 1);
        anyhow::ensure!(
            there <= count,
            "{} holds {there} clusters (up to {last}.db), and {count} are asked for: run `meridian up --clusters {there}`, \
             or give another folder with --data",
            args.data.display()
        );
    }
    Ok(())
}

/// Whether the namespace that all clusters are to share can be shared, before the others start.
fn check_default(args: &UpArgs, node: &Node) -> anyhow::Result<()> {
    let known = node.registry().by_name(&DEFAULT_NAMESPACE.into());
    let is_local = known.is_some_and(|namespace| !namespace.is_global);
    anyhow::ensure!(
        args.clusters == 1 || !is_local,
        "{} holds a one-cluster world: the namespace {DEFAULT_NAMESPACE} is local to {}, and its workflows are in no other \
         cluster. Run `meridian up --clusters 1`, or give another folder with --data for {} clusters",
        args.data.display(),
        node.cluster(),
        args.clusters
    );
    Ok(())
}

fn localhost(port: u16) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)
}

fn datastore(args: &UpArgs, name: &str) -> DatastoreConfig {
    match args.ephemeral {
        true => DatastoreConfig::Memory,
        false => DatastoreConfig::Sqlite {
            path: args.data.join(format!("{name}.db")),
        },
    }
}

fn roles(port: u16, peer: Option<SocketAddr>) -> BTreeMap<Role, RoleAddress> {
    let any = localhost(0);
    Role::ALL
        .into_iter()
        .map(|role| {
            let frontend = role == Role::Frontend;
            let address = RoleAddress {
                grpc: if frontend { localhost(port) } else { any },
                membership: any,
                peer: peer.filter(|_| frontend),
            };
            (role, address)
        })
        .collect()
}

/// Mutual TLS between the clusters, from a CA made at the first start. Ephemeral clusters keep theirs in a
/// folder of the system's, since certificates are watched as files.
fn tls(args: &UpArgs, name: &str, several: bool) -> anyhow::Result<TlsConfig> {
    if args.no_tls || !several {
        return Ok(TlsConfig::default());
    }
    let dir = match args.ephemeral {
        true => std::env::temp_dir().join(format!("meridian-up-{}", args.port_base)),
        false => args.data.join("certs"),
    };
    let issued = issue(&dir, name)?;
    let group = TlsGroup {
        server: TlsServer {
            cert_file: issued.certificate.clone(),
            key_file: issued.key.clone(),
            client_ca_files: vec![issued.ca.clone()],
            require_client_auth: true,
            ..Default::default()
        },
        client: TlsClient {
            root_ca_files: vec![issued.ca],
            ..Default::default()
        },
        ..Default::default()
    };
    Ok(TlsConfig {
        refresh: None,
        internode: None,
        frontend: None,
        peer: Some(group.clone()),
        remotes: [("*".to_owned(), group)].into(),
    })
}

fn issue(dir: &Path, name: &str) -> anyhow::Result<Issued> {
    certs::issue::issue(dir, &Leaf::new(name))
        .with_context(|| format!("issue development certificates into {}", dir.display()))
}

/// Makes every cluster known to every other.
async fn connect(nodes: &[Node]) -> anyhow::Result<()> {
    for node in nodes {
        for other in nodes.iter().filter(|n| n.cluster() != node.cluster()) {
            let other = other.clusters().current();
            let known = node.clusters().get(&other.name).is_some_and(|k| {
                k.address == other.address
                    && k.cluster_id == other.cluster_id
                    && k.connection_enabled
            });
            if known {
                continue;
            }
            let remote = ClusterInfo {
                connection_enabled: true,
                replication_enabled: true,
                row_version: 0,
                ..(*other).clone()
            };
            let upserted = node.clusters().upsert(remote).await;
            upserted.with_context(|| format!("make {} known in {}", other.name, node.cluster()))?;
        }
    }
    Ok(())
}

/// Registers the default namespace in the first cluster, and waits until all have it.
async fn register(nodes: &[Node]) -> anyhow::Result<()> {
    let Some(first) = nodes.first() else {
        return Ok(());
    };
    let several = nodes.len() > 1;
    let wanted = Registration {
        name: DEFAULT_NAMESPACE.into(),
        description: "Made by `meridian up`.".into(),
        retention: RETENTION,
        is_global: several,
        clusters: match several {
            true => nodes.iter().map(|n| n.cluster().into()).collect(),
            false => Vec::new(),
        },
        ..Default::default()
    };
    match first.manager().register(wanted).await {
        Ok(_) | Err(Refusal::NamespaceExists) => {}
        Err(refusal) => return Err(refusal).context("register the default namespace"),
    }
    let name = DEFAULT_NAMESPACE.into();
    let lives_in = |node: &&Node| {
        let known = first.registry().by_name(&name);
        known.is_none_or(|namespace| namespace.lives_in(&node.cluster().into()))
    };
    for stranger in nodes.iter().filter(|node| !lives_in(node)) {
        eprintln!(
            "note: the namespace {DEFAULT_NAMESPACE} does not live in {}, which is new here; workflows of before would be \
             missing there",
            stranger.cluster()
        );
    }
    let agreed = async {
        for node in nodes.iter().filter(lives_in) {
            let mut changed = node.registry().watch();
            while node.registry().by_name(&name).is_none() {
                if changed.changed().await.is_err() {
                    return;
                }
            }
        }
    };
    let waited = tokio::time::timeout(AGREE_WITHIN, agreed).await;
    waited.context(
        "the clusters do not hear of each other's namespaces; run with --log info to see why",
    )
}

fn welcome(args: &UpArgs, nodes: &[Node]) -> String {
    let name = DEFAULT_NAMESPACE.into();
    let mut lines = vec![format!(
        "{:<9} {:<17} {:<12} {}",
        "CLUSTER",
        "ADDRESS",
        DEFAULT_NAMESPACE.to_uppercase(),
        "HEALTH"
    )];
    for node in nodes {
        let address = node
            .address(Role::Frontend)
            .map(|a| a.to_string())
            .unwrap_or_default();
        let active = node
            .registry()
            .by_name(&name)
            .is_some_and(|n| n.is_active_in(&node.cluster().into()));
        let role = if active { "active" } else { "standby" };
        lines.push(format!(
            "{:<9} {address:<17} {role:<12} serving",
            node.cluster()
        ));
    }
    let first = nodes
        .first()
        .and_then(|n| n.address(Role::Frontend))
        .map(|a| a.to_string())
        .unwrap_or_default();
    lines.push(String::new());
    lines.push(format!("Python       await Client.connect(\"{first}\")"));
    lines.push(format!(
        "Go           client.Dial(client.Options{{HostPort: \"{first}\"}})"
    ));
    lines.push(format!(
        "TypeScript   await Connection.connect({{ address: '{first}' }})"
    ));
    if let [_, second, ..] = nodes {
        let port = match first.ends_with(":7233") {
            true => String::new(),
            false => format!(" --address {first}"),
        };
        lines.push(String::new());
        lines.push(format!("move it      meridian namespace switchover --namespace {DEFAULT_NAMESPACE} --to {}{port}", second.cluster()));
    }
    let kept = match args.ephemeral {
        true => "kept in memory only".into(),
        false => format!("kept in {}", args.data.display()),
    };
    lines.push(format!("\n{kept}; Ctrl-C drains and stops"));
    lines.join("\n")
}
