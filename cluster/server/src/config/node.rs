//! A validated configuration: what a node is built from, whether it came from a file or from `up`.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use cluster_membership::Role;

use super::{ConfigError, DatastoreConfig, datastore::datastore, file, parse_duration, trust::tls};

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
    /// Redirection of calls for namespaces that are active elsewhere.
    pub redirection: RedirectionPolicy,
    /// Live settings; `None` for defaults only.
    pub dynamic: Option<DynamicConfig>,
    /// Notices of keys without effect; for the log.
    pub notices: Vec<String>,
}

/// The identity of this cluster.
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
        if file.global.authorization.as_ref().is_some_and(is_set) {
            return Err(ConfigError::value(
                "global.authorization",
                "is not supported: nothing would be authorized by it. Remove it, and let requireClientAuth say who may connect",
            ));
        }
        let cluster = cluster(&file.cluster_metadata, shards, &roles)?;
        let datastore = datastore(&file.persistence)?;
        Ok(Self {
            notices: file.notices(),
            log_filter: log_filter(file.log.level.as_deref())?,
            log_json: json_logs(file.log.format.as_deref())?,
            membership: membership(&file.global.membership, datastore.is_of_one_process())?,
            datastore,
            cluster,
            tls: tls(file.global.tls, &roles)?,
            metrics: metrics(file.global.metrics.as_ref())?,
            redirection: file.dc_redirection_policy.policy,
            dynamic: dynamic(file.dynamic_config_client)?,
            roles,
        })
    }
}

/// Whether any key below has a value; samples list them all with empty ones.
fn is_set(authorization: &BTreeMap<String, serde_json::Value>) -> bool {
    use serde_json::Value;
    fn holds(value: &Value) -> bool {
        match value {
            Value::Null | Value::Bool(false) => false,
            Value::String(text) => !text.is_empty() && text != "1m",
            Value::Array(items) => items.iter().any(holds),
            Value::Object(entries) => entries
                .iter()
                .any(|(key, value)| key != "permissionsClaimName" && holds(value)),
            Value::Bool(true) | Value::Number(_) => true,
        }
    }
    authorization
        .iter()
        .any(|(key, value)| key != "permissionsClaimName" && holds(value))
}

/// Temporal's levels have names that a filter does not know.
fn log_filter(level: Option<&str>) -> Result<Option<String>, ConfigError> {
    Ok(match level {
        None | Some("") => None,
        Some("fatal" | "panic" | "dpanic") => Some("error".into()),
        Some("warning") => Some("warn".into()),
        // A single word that is no level would be taken for the name of a module.
        Some(word)
            if !word.contains(['=', ','])
                && !["off", "error", "warn", "info", "debug", "trace"].contains(&word) =>
        {
            return Err(ConfigError::value(
                "log.level",
                format!("`{word}` is none of debug, info, warn, error, off"),
            ));
        }
        Some(filter) => Some(filter.into()),
    })
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
            Some(_) if rpc.bind_on_local_host => {
                return Err(ConfigError::value(
                    key,
                    "and bindOnLocalHost exclude each other; remove one",
                ));
            }
            Some(text) => text
                .parse()
                .map_err(|_| ConfigError::value(key, format!("`{text}` is not an IP address")))?,
            None => Ipv4Addr::LOCALHOST.into(),
        };
        if rpc.peer_port.is_some() && role != Role::Frontend {
            return Err(ConfigError::value(
                format!("services.{role}.rpc.peerPort"),
                "is a port of the frontend's only",
            ));
        }
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
    if own.is_some_and(|o| !o.enabled) {
        return Err(ConfigError::value(
            format!("clusterMetadata.clusterInformation.{name}.enabled"),
            "has to be true for the current cluster",
        ));
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

fn membership(membership: &file::Membership, alone: bool) -> Result<MembershipConfig, ConfigError> {
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
        alone,
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
    if client.filepath.as_os_str().is_empty() {
        return Err(ConfigError::value(
            "dynamicConfigClient.filepath",
            "has to name the file of live settings",
        ));
    }
    Ok(Some(DynamicConfig {
        path: client.filepath,
        interval: interval.unwrap_or(Duration::from_secs(10)),
    }))
}

pub(super) fn duration(key: &str, text: Option<&str>) -> Result<Option<Duration>, ConfigError> {
    text.map(|t| {
        parse_duration(t).ok_or_else(|| {
            ConfigError::value(key, format!("`{t}` is not a duration like 10s or 1m30s"))
        })
    })
    .transpose()
}
