//! The file's shape. Keys and nesting are Temporal's; what Meridian does not use is not listed, so that it
//! is refused instead of silently ignored.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;

/// The whole file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ConfigFile {
    /// Logging.
    pub log: Log,
    /// Stores.
    pub persistence: Persistence,
    /// What all services share.
    pub global: Global,
    /// The four services, by name.
    pub services: BTreeMap<String, Service>,
    /// Who this cluster is.
    pub cluster_metadata: ClusterMetadata,
    /// What happens to calls for namespaces that are active elsewhere.
    pub dc_redirection_policy: DcRedirectionPolicy,
    /// Live settings.
    pub dynamic_config_client: Option<DynamicConfigClient>,
}

/// Logging.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Log {
    /// `debug`, `info`, `warn`, `error`, or a filter as `RUST_LOG` has it.
    pub level: Option<String>,
    /// `json` or `console`.
    pub format: Option<String>,
    /// Accepted for compatibility; logs always go to standard error.
    pub stdout: Option<bool>,
}

/// Stores.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Persistence {
    /// Shards of the cluster; fixed for its life.
    pub num_history_shards: Option<i32>,
    /// The datastore of everything.
    pub default_store: Option<String>,
    /// The datastore of visibility; the default one is used when it is absent or the same.
    pub visibility_store: Option<String>,
    /// Datastores by name.
    pub datastores: BTreeMap<String, Datastore>,
}

/// One datastore.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Datastore {
    /// A SQL database.
    pub sql: Option<Sql>,
}

/// A SQL database.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Sql {
    /// `sqlite`, `postgres12` or `postgres12_pgx`.
    pub plugin_name: String,
    /// The database; for SQLite the file.
    pub database_name: String,
    /// `host:port`, or the directory of a unix socket with `connectProtocol: unix`.
    pub connect_addr: String,
    /// `tcp` or `unix`.
    pub connect_protocol: Option<String>,
    /// Further attributes, as the driver takes them.
    pub connect_attributes: BTreeMap<String, String>,
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
    /// Most connections.
    pub max_conns: Option<u32>,
    /// Accepted for compatibility.
    pub max_idle_conns: Option<u32>,
    /// Accepted for compatibility.
    pub max_conn_lifetime: Option<String>,
}

/// What all services share.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Global {
    /// Gossip.
    pub membership: Membership,
    /// TLS.
    pub tls: Option<Tls>,
    /// Metrics.
    pub metrics: Option<Metrics>,
}

/// Gossip.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Membership {
    /// How long a node waits for the others at start.
    pub max_join_duration: Option<String>,
    /// The address others reach this node at.
    pub broadcast_address: Option<String>,
}

/// Metrics.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Metrics {
    /// The Prometheus endpoint.
    pub prometheus: Option<Prometheus>,
}

/// The Prometheus endpoint.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Prometheus {
    /// Where `/metrics` is served.
    pub listen_address: String,
    /// Accepted for compatibility.
    pub timer_type: Option<String>,
}

/// TLS, by who talks to whom.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Tls {
    /// How often files are looked at.
    pub refresh_interval: Option<String>,
    /// Between the services of this cluster.
    pub internode: Option<TlsGroup>,
    /// The public port.
    pub frontend: Option<TlsGroup>,
    /// The frontend's second port, `peerPort`, that other clusters use.
    pub peer: Option<TlsGroup>,
    /// Towards other clusters' frontends, by host, or `*` for all others.
    pub remote_clusters: BTreeMap<String, TlsGroup>,
}

/// One direction of TLS.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TlsGroup {
    /// What is served.
    pub server: TlsServer,
    /// What is dialled with.
    pub client: TlsClient,
}

/// The serving side.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TlsServer {
    /// Certificate chain, PEM.
    pub cert_file: PathBuf,
    /// Private key, PEM.
    pub key_file: PathBuf,
    /// CAs whose client certificates are accepted, PEM.
    pub client_ca_files: Vec<PathBuf>,
    /// Refuse clients without a certificate.
    pub require_client_auth: bool,
}

/// The dialling side.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TlsClient {
    /// Name expected in the server's certificate; the dialled host when absent.
    pub server_name: String,
    /// CAs the server's certificate must come from, PEM.
    pub root_ca_files: Vec<PathBuf>,
    /// Client certificate, PEM; the server's own when absent.
    pub cert_file: PathBuf,
    /// Its key, PEM.
    pub key_file: PathBuf,
    /// Dial with TLS although no CA is named.
    #[serde(rename = "forceTLS")]
    pub force_tls: bool,
}

/// One service.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Service {
    /// Its ports.
    pub rpc: Rpc,
}

/// A service's ports.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Rpc {
    /// The gRPC port.
    pub grpc_port: Option<u16>,
    /// The gossip port.
    pub membership_port: Option<u16>,
    /// Of the frontend: a second gRPC port with TLS of its own (`global.tls.peer`), for other clusters.
    pub peer_port: Option<u16>,
    /// Listen on 127.0.0.1.
    pub bind_on_local_host: bool,
    /// Listen on this address.
    #[serde(rename = "bindOnIP")]
    pub bind_on_ip: Option<String>,
}

/// Who this cluster is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ClusterMetadata {
    /// Whether namespaces may live in several clusters.
    pub enable_global_namespace: bool,
    /// Distance between two versions of one cluster; equal in all clusters.
    pub failover_version_increment: Option<i64>,
    /// The cluster where global namespaces are registered.
    pub master_cluster_name: Option<String>,
    /// This cluster.
    pub current_cluster_name: Option<String>,
    /// Clusters by name; only this cluster's entry is used.
    pub cluster_information: BTreeMap<String, ClusterInformation>,
}

/// One cluster.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ClusterInformation {
    /// Whether it is connected.
    pub enabled: bool,
    /// Its residue in failover versions.
    pub initial_failover_version: i64,
    /// Accepted for compatibility.
    pub rpc_name: Option<String>,
    /// Its frontend, as other clusters reach it.
    pub rpc_address: String,
    /// Its HTTP address.
    pub http_address: Option<String>,
}

/// What happens to calls for namespaces that are active elsewhere.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DcRedirectionPolicy {
    /// The policy.
    pub policy: DcRedirectionPolicyName,
}

/// Names of the policies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DcRedirectionPolicyName {
    /// Refuse them.
    Noop,
    /// Forward those that act on one workflow.
    SelectedApisForwarding,
    /// Forward all of them.
    #[default]
    AllApisForwarding,
}

/// Live settings.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DynamicConfigClient {
    /// The file.
    pub filepath: PathBuf,
    /// How often it is looked at.
    pub poll_interval: Option<String>,
}
