//! The file's shape. Keys and nesting are Temporal's. A key that neither has is refused. A key of Temporal's
//! that has no meaning here is listed as [`Unused`], so that its files load; `ConfigFile::notices` names it.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, de::IgnoredAny};

use super::secret::Secret;

/// A key of Temporal's without a meaning here: whatever it holds is not looked at.
pub type Unused = Option<IgnoredAny>;

/// The whole file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ConfigFile {
    /// Logging.
    pub log: Log,
    /// Stores.
    pub persistence: Persistence,
    /// Settings that all services share.
    pub global: Global,
    /// The four services, by name.
    pub services: BTreeMap<String, Service>,
    /// The identity of this cluster.
    pub cluster_metadata: ClusterMetadata,
    /// Redirection of calls for namespaces that are active elsewhere.
    pub dc_redirection_policy: DcRedirectionPolicy,
    /// Live settings.
    pub dynamic_config_client: Option<DynamicConfigClient>,
    /// Archives of closed workflows.
    pub archival: Unused,
    /// Defaults for new namespaces.
    pub namespace_defaults: Unused,
    /// How system workers reach the frontend.
    pub public_client: Unused,
    /// OpenTelemetry exporters.
    pub otel: Unused,
}

/// Logging.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Log {
    /// `debug`, `info`, `warn`, `error`, or a filter as `RUST_LOG` has it.
    pub level: Option<String>,
    /// `json` or `console`.
    pub format: Option<String>,
    /// Logs always go to standard error.
    pub stdout: Unused,
    /// Logs always go to standard error.
    pub output_file: Unused,
    /// Development mode of Temporal's logger.
    pub development: Unused,
}

/// Stores.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Persistence {
    /// Shards of the cluster; fixed for its life.
    pub num_history_shards: Option<i32>,
    /// The datastore of everything.
    pub default_store: Option<String>,
    /// The datastore of visibility. Visibility is kept beside everything else whatever it names.
    pub visibility_store: Option<String>,
    /// A second datastore of visibility.
    pub secondary_visibility_store: Unused,
    /// A datastore for queries.
    pub advanced_visibility_store: Unused,
    /// The datastore of the namespace replication queue.
    pub namespace_replication_queue_store: Unused,
    /// Datastores by name.
    pub datastores: BTreeMap<String, Datastore>,
}

/// One datastore.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Datastore {
    /// A SQL database.
    pub sql: Option<Sql>,
    /// A Cassandra keyspace.
    pub cassandra: Unused,
    /// An Elasticsearch index.
    pub elasticsearch: Unused,
    /// A datastore of a plugin.
    pub custom_datastore: Unused,
    /// Faults for tests.
    pub fault_injection: Unused,
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
    /// Further attributes: for PostgreSQL `sslmode`, `sslrootcert`, `sslcert`, `sslkey`,
    /// `application_name` and settings of the session; for SQLite `mode: memory`.
    pub connect_attributes: BTreeMap<String, Scalar>,
    /// The user.
    pub user: String,
    /// The password.
    pub password: Secret,
    /// Most connections.
    pub max_conns: Option<u32>,
    /// TLS towards the database.
    pub tls: Option<DatabaseTls>,
    /// Connections are kept.
    pub max_idle_conns: Unused,
    /// Connections are kept.
    pub max_conn_lifetime: Unused,
    /// Partitions of a scan.
    pub task_scan_partitions: Unused,
    /// An authentication plugin.
    pub auth_plugin: Unused,
}

/// TLS towards a database.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DatabaseTls {
    /// Whether connections are encrypted.
    pub enabled: bool,
    /// CAs that the database's certificate must come from, PEM.
    pub ca_file: PathBuf,
    /// Client certificate, PEM.
    pub cert_file: PathBuf,
    /// Its key, PEM.
    pub key_file: PathBuf,
    /// Name expected in the database's certificate; has to be the host of `connectAddr`.
    pub server_name: String,
    /// Whether the certificate has to name the host.
    pub enable_host_verification: bool,
    /// The CAs in base64.
    pub ca_data: Unused,
    /// The certificate in base64.
    pub cert_data: Unused,
    /// The key in base64.
    pub key_data: Unused,
}

/// A value that Temporal's samples write as text, number or boolean.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Scalar {
    /// `true`, `false`.
    Bool(bool),
    /// A number.
    Int(i64),
    /// Anything else.
    Text(String),
}

impl std::fmt::Display for Scalar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::Int(value) => value.fmt(f),
            Self::Text(value) => value.fmt(f),
        }
    }
}

/// Settings that all services share.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Global {
    /// Gossip.
    pub membership: Membership,
    /// TLS.
    pub tls: Option<Tls>,
    /// Metrics.
    pub metrics: Option<Metrics>,
    /// Authorization. Refused unless empty, since it would have no effect.
    pub authorization: Option<BTreeMap<String, serde_json::Value>>,
    /// A profiler's port.
    pub pprof: Unused,
    /// Stands in a sample of Temporal's; `clusterMetadata` has the key that counts.
    pub enable_global_namespace: Unused,
    /// Stands in a sample of Temporal's.
    pub enable_remote_admin: Unused,
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
    /// A StatsD endpoint.
    pub statsd: Unused,
    /// Tags of every metric.
    pub tags: Unused,
    /// Tags that are left out.
    pub exclude_tags: Unused,
    /// A prefix of every name.
    pub prefix: Unused,
    /// Buckets of histograms.
    pub per_unit_histogram_boundaries: Unused,
}

/// The Prometheus endpoint.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Prometheus {
    /// Where `/metrics` is served.
    pub listen_address: String,
    /// Timers are histograms.
    pub timer_type: Unused,
    /// The library that Temporal uses.
    pub framework: Unused,
    /// The path is `/metrics`.
    pub handler_path: Unused,
    /// The network is TCP.
    pub listen_network: Unused,
    /// Rate of log lines of the library that Temporal uses.
    #[serde(rename = "loggerRPS")]
    pub logger_rps: Unused,
    /// How names are made fit.
    pub sanitize_options: Unused,
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
    /// How system workers dial the frontend; here they are no clients.
    pub system_worker: Unused,
    /// When to warn; the metric `meridian_certificate_seconds_left` serves for it.
    pub expiration_checks: Unused,
}

/// One direction of TLS.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TlsGroup {
    /// The server side.
    pub server: TlsServer,
    /// The client side.
    pub client: TlsClient,
    /// Certificates by the name that a client asks for.
    pub host_overrides: BTreeMap<String, IgnoredAny>,
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
    /// The certificate in base64.
    pub cert_data: Unused,
    /// The key in base64.
    pub key_data: Unused,
    /// The CAs in base64.
    pub client_ca_data: Unused,
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
    /// Temporal dials with TLS although no CA is named; here one has to be named.
    #[serde(rename = "forceTLS")]
    pub force_tls: bool,
    /// Accept any name in the server's certificate.
    pub disable_host_verification: bool,
    /// The CAs in base64.
    pub root_ca_data: Unused,
    /// The certificate in base64.
    pub cert_data: Unused,
    /// The key in base64.
    pub key_data: Unused,
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
    /// The HTTP API.
    pub http_port: Unused,
    /// Headers that the HTTP API passes on.
    pub http_additional_forwarded_headers: Unused,
    /// Keep-alive of connections; it is fixed here.
    pub keep_alive_server_config: Unused,
    /// How clients connect.
    pub client_connection_config: Unused,
}

/// The identity of this cluster.
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
    /// The name of its frontend service.
    pub rpc_name: Unused,
    /// Its UUID, which is made at the first start and kept in the database.
    #[serde(alias = "clusterID")]
    pub cluster_id: Unused,
    /// Free text by key.
    pub tags: Unused,
    /// Its frontend, as other clusters reach it.
    pub rpc_address: String,
    /// Its HTTP address.
    pub http_address: Option<String>,
}

/// Redirection of calls for namespaces that are active elsewhere.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DcRedirectionPolicy {
    /// The policy.
    pub policy: DcRedirectionPolicyName,
    /// Where an older policy sent all calls.
    #[serde(rename = "toDC")]
    pub to_dc: Unused,
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
