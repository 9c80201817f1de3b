//! A validated configuration: what a node is built from, whether it came from a file or from `up`.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use cluster_membership::Role;

use super::{ConfigError, duration::parse_duration, file};

pub use super::file::{
    DcRedirectionPolicyName as RedirectionPolicy, TlsClient, TlsGroup, TlsServer,
};

/// Everything a node needs to know.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Log filter; `None` for the default.
    pub log_filter: Option<String>,
    /// Whether logs are JSON.
    pub log_json: bool,
    /// The database.
    pub datastore: DatastoreConfig,
    /// The cluster.
    pub cluster: ClusterConfig,
    /// Ports of each role, whether or not this node plays it.
    pub roles: BTreeMap<Role, RoleAddress>,
    /// Gossip.
    pub membership: MembershipConfig,
    /// TLS.
    pub tls: TlsConfig,
    /// Where `/metrics` is served; `None` for nowhere.
    pub metrics: Option<SocketAddr>,
    /// What happens to calls for namespaces that are active elsewhere.
    pub redirection: RedirectionPolicy,
    /// Live settings; `None` for defaults only.
    pub dynamic: Option<DynamicConfig>,
}

/// The database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatastoreConfig {
    /// Nothing is kept.
    Memory,
    /// One file, owned by one process.
    Sqlite {
        /// The file.
        path: PathBuf,
    },
    /// A PostgreSQL server.
    Postgres {
        /// Connection URL, with user and password.
        url: String,
        /// Most connections.
        connections: u32,
    },
}

/// Who this cluster is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// Its name.
    pub name: String,
    /// The cluster where global namespaces are registered.
    pub master: String,
    /// Whether namespaces may live in several clusters.
    pub global_namespaces: bool,
    /// Its residue in failover versions.
    pub initial_failover_version: i64,
    /// Distance between two versions of one cluster.
    pub failover_version_increment: i64,
    /// Its frontend, as other clusters reach it.
    pub rpc_address: String,
    /// Its HTTP address.
    pub http_address: String,
    /// Shards.
    pub shards: i32,
}

/// Where a role listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoleAddress {
    /// gRPC.
    pub grpc: SocketAddr,
    /// Gossip.
    pub membership: SocketAddr,
    /// The frontend's second gRPC port, for other clusters.
    pub peer: Option<SocketAddr>,
}

/// Gossip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembershipConfig {
    /// The address others reach this node at.
    pub broadcast: IpAddr,
    /// How long a node waits for the others at start.
    pub join_within: Duration,
    /// The whole cluster is this one process: no gossip.
    pub alone: bool,
}

/// TLS, by who talks to whom. Absent groups are plaintext.
#[derive(Clone, Debug, Default)]
pub struct TlsConfig {
    /// How often files are looked at.
    pub refresh: Option<Duration>,
    /// Between the services of this cluster.
    pub internode: Option<TlsGroup>,
    /// The public port.
    pub frontend: Option<TlsGroup>,
    /// The frontend's second port, for other clusters.
    pub peer: Option<TlsGroup>,
    /// Towards other clusters' frontends, by host, or `*`.
    pub remotes: BTreeMap<String, TlsGroup>,
}

/// Live settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DynamicConfig {
    /// The file.
    pub path: PathBuf,
    /// How often it is looked at.
    pub interval: Duration,
}

impl RoleAddress {
    /// Temporal's ports for a role.
    pub fn default_ports(role: Role) -> (u16, u16) {
        match role {
            Role::Frontend => (7233, 6933),
            Role::History => (7234, 6934),
            Role::Matching => (7235, 6935),
            Role::Worker => (7239, 6939),
        }
    }
}

impl NodeConfig {
    /// Validates what the file says and fills in defaults.
    pub(super) fn from_file(file: file::ConfigFile) -> Result<Self, ConfigError> {
        let roles = roles(&file.services)?;
        let shards = file.persistence.num_history_shards.unwrap_or(4);
        if !(1..=16_384).contains(&shards) {
            return Err(ConfigError::value(
                "persistence.numHistoryShards",
                format!("{shards} is not between 1 and 16384"),
            ));
        }
        let cluster = cluster(&file.cluster_metadata, shards, &roles)?;
        Ok(Self {
            log_filter: file.log.level.clone(),
            log_json: json_logs(file.log.format.as_deref())?,
            datastore: datastore(&file.persistence)?,
            cluster,
            membership: membership(&file.global.membership)?,
            tls: tls(file.global.tls)?,
            metrics: metrics(file.global.metrics.as_ref())?,
            redirection: file.dc_redirection_policy.policy,
            dynamic: dynamic(file.dynamic_config_client)?,
            roles,
        })
    }
}

fn json_logs(format: Option<&str>) -> Result<bool, ConfigError> {
    match format {
        None | Some("console" | "text" | "pretty") => Ok(false),
        Some("json") => Ok(true),
        Some(other) => Err(ConfigError::value(
            "log.format",
            format!("`{other}` is neither `json` nor `console`"),
        )),
    }
}

fn roles(
    services: &BTreeMap<String, file::Service>,
) -> Result<BTreeMap<Role, RoleAddress>, ConfigError> {
    for name in services.keys() {
        name.parse::<Role>()
            .map_err(|e| ConfigError::value(format!("services.{name}"), e.to_string()))?;
    }
    let mut roles = BTreeMap::new();
    for role in Role::ALL {
        let rpc = services
            .get(role.as_str())
            .map(|s| s.rpc.clone())
            .unwrap_or_default();
        let (grpc, gossip) = RoleAddress::default_ports(role);
        let key = format!("services.{role}.rpc.bindOnIP");
        let ip: IpAddr = match &rpc.bind_on_ip {
            Some(text) => text
                .parse()
                .map_err(|_| ConfigError::value(key, format!("`{text}` is not an IP address")))?,
            None => Ipv4Addr::LOCALHOST.into(),
        };
        let address = RoleAddress {
            grpc: SocketAddr::new(ip, rpc.grpc_port.unwrap_or(grpc)),
            membership: SocketAddr::new(ip, rpc.membership_port.unwrap_or(gossip)),
            peer: rpc.peer_port.map(|port| SocketAddr::new(ip, port)),
        };
        roles.insert(role, address);
    }
    Ok(roles)
}

fn cluster(
    metadata: &file::ClusterMetadata,
    shards: i32,
    roles: &BTreeMap<Role, RoleAddress>,
) -> Result<ClusterConfig, ConfigError> {
    let name = metadata
        .current_cluster_name
        .clone()
        .unwrap_or_else(|| "active".into());
    let increment = metadata.failover_version_increment.unwrap_or(10);
    let own = metadata.cluster_information.get(&name);
    if own.is_none() && !metadata.cluster_information.is_empty() {
        return Err(ConfigError::value(
            "clusterMetadata.clusterInformation",
            format!(
                "has no entry for the current cluster `{name}`; add one with its initialFailoverVersion and rpcAddress"
            ),
        ));
    }
    for other in metadata.cluster_information.keys().filter(|n| **n != name) {
        tracing::warn!(cluster = %other, "clusterMetadata.clusterInformation of another cluster is ignored; add it with `operator cluster upsert`");
    }
    let initial = own.map_or(1, |o| o.initial_failover_version);
    if !(1..i64::from(i32::MAX)).contains(&increment) || initial < 1 || initial >= increment {
        return Err(ConfigError::value(
            format!("clusterMetadata.clusterInformation.{name}.initialFailoverVersion"),
            format!(
                "{initial} has to be at least 1 and below failoverVersionIncrement, {increment}"
            ),
        ));
    }
    let frontend = roles
        .get(&Role::Frontend)
        .map(|a| a.grpc.to_string())
        .unwrap_or_default();
    Ok(ClusterConfig {
        master: metadata
            .master_cluster_name
            .clone()
            .unwrap_or_else(|| name.clone()),
        global_namespaces: metadata.enable_global_namespace,
        initial_failover_version: initial,
        failover_version_increment: increment,
        rpc_address: own
            .map(|o| o.rpc_address.clone())
            .filter(|a| !a.is_empty())
            .unwrap_or(frontend),
        http_address: own.and_then(|o| o.http_address.clone()).unwrap_or_default(),
        shards,
        name,
    })
}

fn datastore(persistence: &file::Persistence) -> Result<DatastoreConfig, ConfigError> {
    let name = persistence.default_store.as_deref().unwrap_or("default");
    let store = persistence.datastores.get(name).ok_or_else(|| {
        let known: Vec<_> = persistence.datastores.keys().map(String::as_str).collect();
        ConfigError::value(
            "persistence.defaultStore",
            format!(
                "`{name}` is not among persistence.datastores ({})",
                known.join(", ")
            ),
        )
    })?;
    if let Some(visibility) = &persistence.visibility_store
        && !persistence.datastores.contains_key(visibility)
    {
        return Err(ConfigError::value(
            "persistence.visibilityStore",
            format!("`{visibility}` is not among persistence.datastores"),
        ));
    }
    let key = format!("persistence.datastores.{name}.sql");
    let sql = store
        .sql
        .as_ref()
        .ok_or_else(|| ConfigError::value(&key, "is missing; only SQL datastores are supported"))?;
    match sql.plugin_name.as_str() {
        "sqlite" if sql.database_name == ":memory:" => Ok(DatastoreConfig::Memory),
        "sqlite" if !sql.database_name.is_empty() => Ok(DatastoreConfig::Sqlite {
            path: sql.database_name.clone().into(),
        }),
        "sqlite" => Err(ConfigError::value(
            format!("{key}.databaseName"),
            "has to name the database file",
        )),
        "postgres12" | "postgres12_pgx" => Ok(DatastoreConfig::Postgres {
            url: postgres_url(sql),
            connections: sql.max_conns.unwrap_or(10),
        }),
        other => Err(ConfigError::value(
            format!("{key}.pluginName"),
            format!("`{other}` is not supported; use sqlite, postgres12 or postgres12_pgx"),
        )),
    }
}

fn postgres_url(sql: &file::Sql) -> String {
    let user = encode(&sql.user);
    let password = if sql.password.is_empty() {
        String::new()
    } else {
        format!(":{}", encode(&sql.password))
    };
    let mut options: Vec<String> = sql
        .connect_attributes
        .iter()
        .map(|(k, v)| format!("{}={}", encode(k), encode(v)))
        .collect();
    let database = encode(&sql.database_name);
    let unix = sql.connect_protocol.as_deref() == Some("unix") || sql.connect_addr.starts_with('/');
    let host = if unix {
        // The directory of the socket goes into the query; a port may follow it after a colon.
        let (dir, port) = match sql.connect_addr.rsplit_once(':') {
            Some((dir, port)) if port.parse::<u16>().is_ok() => (dir, Some(port)),
            _ => (sql.connect_addr.as_str(), None),
        };
        options.push(format!("host={}", encode(dir)));
        if let Some(port) = port {
            options.push(format!("port={port}"));
        }
        String::new()
    } else {
        sql.connect_addr.clone()
    };
    let query = if options.is_empty() {
        String::new()
    } else {
        format!("?{}", options.join("&"))
    };
    format!("postgres://{user}{password}@{host}/{database}{query}")
}

/// Percent-encodes what a URL would read otherwise.
fn encode(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(b).to_string()
            }
            _ => format!("%{b:02X}"),
        })
        .collect()
}

fn membership(membership: &file::Membership) -> Result<MembershipConfig, ConfigError> {
    let broadcast = membership
        .broadcast_address
        .as_deref()
        .unwrap_or("127.0.0.1");
    let broadcast = broadcast.parse().map_err(|_| {
        ConfigError::value(
            "global.membership.broadcastAddress",
            format!("`{broadcast}` is not an IP address"),
        )
    })?;
    let join_within = duration(
        "global.membership.maxJoinDuration",
        membership.max_join_duration.as_deref(),
    )?;
    Ok(MembershipConfig {
        broadcast,
        join_within: join_within.unwrap_or(Duration::from_secs(30)),
        alone: false,
    })
}

fn tls(tls: Option<file::Tls>) -> Result<TlsConfig, ConfigError> {
    let Some(tls) = tls else {
        return Ok(TlsConfig::default());
    };
    let groups = [
        ("internode", tls.internode.as_ref()),
        ("frontend", tls.frontend.as_ref()),
    ];
    for (name, group) in groups {
        let Some(server) = group.map(|g| &g.server) else {
            continue;
        };
        if server.cert_file.as_os_str().is_empty() != server.key_file.as_os_str().is_empty() {
            return Err(ConfigError::value(
                format!("global.tls.{name}.server"),
                "certFile and keyFile go together",
            ));
        }
        if server.require_client_auth && server.client_ca_files.is_empty() {
            return Err(ConfigError::value(
                format!("global.tls.{name}.server.clientCaFiles"),
                "has to name the CAs of client certificates, since requireClientAuth is set",
            ));
        }
    }
    Ok(TlsConfig {
        refresh: duration(
            "global.tls.refreshInterval",
            tls.refresh_interval.as_deref(),
        )?,
        internode: tls.internode,
        frontend: tls.frontend,
        peer: tls.peer,
        remotes: tls.remote_clusters,
    })
}

fn metrics(metrics: Option<&file::Metrics>) -> Result<Option<SocketAddr>, ConfigError> {
    let Some(prometheus) = metrics.and_then(|m| m.prometheus.as_ref()) else {
        return Ok(None);
    };
    let text = &prometheus.listen_address;
    // Temporal's files often name a port only.
    let full = match text.strip_prefix(':') {
        Some(port) => format!("0.0.0.0:{port}"),
        None => text.clone(),
    };
    full.parse().map(Some).map_err(|_| {
        ConfigError::value(
            "global.metrics.prometheus.listenAddress",
            format!("`{text}` is not an address like 127.0.0.1:9090"),
        )
    })
}

fn dynamic(
    client: Option<file::DynamicConfigClient>,
) -> Result<Option<DynamicConfig>, ConfigError> {
    let Some(client) = client else {
        return Ok(None);
    };
    let interval = duration(
        "dynamicConfigClient.pollInterval",
        client.poll_interval.as_deref(),
    )?;
    Ok(Some(DynamicConfig {
        path: client.filepath,
        interval: interval.unwrap_or(Duration::from_secs(10)),
    }))
}

fn duration(key: &str, text: Option<&str>) -> Result<Option<Duration>, ConfigError> {
    text.map(|t| {
        parse_duration(t).ok_or_else(|| {
            ConfigError::value(key, format!("`{t}` is not a duration like 10s or 1m30s"))
        })
    })
    .transpose()
}
