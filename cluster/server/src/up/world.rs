//! Which clusters `up` runs: names, ports, stores and certificates, from its arguments alone, so that every process of
//! `--processes` comes to the same result.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use anyhow::Context;
use certs::{Issued, Leaf};
use cluster_membership::Role;

use super::UpArgs;
use crate::config::{
    ClusterConfig, DatastoreConfig, MembershipConfig, NodeConfig, RedirectionPolicy, RoleAddress,
    TlsClient, TlsConfig, TlsGroup, TlsServer,
};

/// Names of the clusters, in order.
pub(super) const NAMES: [&str; 5] = ["west", "east", "north", "south", "center"];
/// Distance between the ports of two clusters. Ten would put the second one on 7243 and a thousand on 8233, which are the
/// HTTP port and the Web UI of Temporal's own development server.
const PORT_STEP: u16 = 100;
/// The port for other clusters, above the frontend's.
const PEER_OFFSET: u16 = 3;
/// Distance between two failover versions of one cluster.
const INCREMENT: i64 = 100;

/// The clusters that the arguments ask for, in order.
pub(super) fn configs(args: &UpArgs) -> anyhow::Result<Vec<NodeConfig>> {
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
            let public = SocketAddr::new(args.bind, port);
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
                    rpc_address: peer.unwrap_or(reached(public)).to_string(),
                    http_address: String::new(),
                    shards: args.shards,
                },
                roles: roles(public, peer),
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

/// An address to dial for one that is listened on: nobody can dial "every address".
pub(super) fn reached(at: SocketAddr) -> SocketAddr {
    match at.ip().is_unspecified() {
        true => localhost(at.port()),
        false => at,
    }
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

fn roles(public: SocketAddr, peer: Option<SocketAddr>) -> BTreeMap<Role, RoleAddress> {
    let any = localhost(0);
    Role::ALL
        .into_iter()
        .map(|role| {
            let frontend = role == Role::Frontend;
            let address = RoleAddress {
                grpc: if frontend { public } else { any },
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

/// Whether the data is of more clusters than are asked for: the others would be missed for ever.
pub(super) fn check_data(args: &UpArgs) -> anyhow::Result<()> {
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
