//! The context of a node that all its roles share: the store, namespaces and clusters, certificates, membership.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc};

use anyhow::Context;
use cluster_membership::{Join, Member, Membership, Role, StoreContacts};
use cluster_rpc::Channels;
use cluster_runtime::{
    clock::{SharedClock, SystemClock},
    overload::Overload,
    settings::Settings,
    task::Tasks,
    telemetry::Metrics,
};
use namespaces::{
    Clusters, Manager, ManagerOptions, Registry, clusters::restored::Restored, rules::OwnCluster,
};
use replication::remotes::Remotes;
use schema_sql::{Options, Plugin, WalCounters};
use schema_store::Store;

use crate::{
    config::{DatastoreConfig, NodeConfig},
    node::{observing, serve::Listeners},
    tls::Certificates,
};

pub(super) struct NodeContext {
    pub(super) store: Store,
    pub(super) store_name: &'static str,
    pub(super) settings: Settings,
    pub(super) metrics: Metrics,
    pub(super) overload: Overload,
    pub(super) clock: SharedClock,
    pub(super) registry: Registry,
    pub(super) clusters: Clusters,
    pub(super) manager: Manager,
    pub(super) certificates: Certificates,
    /// Channels to other clusters.
    pub(super) remote_channels: Channels,
}

impl NodeContext {
    pub(super) async fn build(
        config: &NodeConfig,
        roles: &BTreeSet<Role>,
        settings: Settings,
        metrics: Metrics,
        tasks: &Tasks,
    ) -> anyhow::Result<Self> {
        let clock = SystemClock::shared();
        let certificates = Certificates::load(&config.tls, tasks, &metrics).await?;
        let (store, store_name) = open_store(config, roles, &metrics, tasks).await?;
        let own = own_cluster(config);
        let restored = namespaces::clusters::restored::settle_if_copy(&own, &store)
            .await
            .context("draw the conclusions from a database that was put back")?;
        if let Some(restored) = restored {
            tell_restored(&own, &restored);
        }
        let clusters = Clusters::start(&own, store.cluster.clone(), settings.clone(), tasks)
            .await
            .context("read the cluster directory")?;
        certificates.check_remotes(&clusters)?;
        let registry = Registry::start(store.namespace.clone(), settings.clone(), tasks)
            .await
            .context("read the namespaces")?;
        let options = ManagerOptions {
            master_cluster: config.cluster.master.as_str().into(),
        };
        let manager = Manager::new(
            options,
            store.namespace.clone(),
            registry.clone(),
            clusters.clone(),
            clock.clone(),
        );
        manager
            .ensure_system()
            .await
            .context("create the system namespace")?;
        let overload = Overload::new(settings.clone(), &metrics);
        overload.start(tasks);
        Ok(Self {
            overload,
            store,
            store_name,
            settings,
            metrics,
            clock,
            registry,
            clusters,
            manager,
            remote_channels: certificates.remote_channels(),
            certificates,
        })
    }

    /// Clients of other clusters.
    pub(super) fn remotes(&self) -> Remotes {
        Remotes::new(self.clusters.clone(), self.remote_channels.clone())
    }

    /// Joins the others, or stays alone.
    pub(super) async fn join(
        &self,
        config: &NodeConfig,
        roles: &BTreeSet<Role>,
        listeners: &Listeners,
        tasks: &Tasks,
    ) -> anyhow::Result<Membership> {
        let reached = |at: SocketAddr| SocketAddr::new(config.membership.broadcast, at.port());
        let bind = roles
            .iter()
            .next()
            .and_then(|role| config.roles.get(role))
            .map(|a| a.membership)
            .context("no role has a membership port")?;
        let listening = listeners.addresses();
        // A role without a listener is called within this process only, never dialled; whoever asks where it is learns
        // where the process is.
        let process = listening.values().next().copied().unwrap_or(bind);
        let at = |role: &Role| reached(listening.get(role).copied().unwrap_or(process));
        let member = Member {
            id: uuid::Uuid::new_v4().to_string(),
            gossip: reached(match config.membership.alone {
                true => process,
                false => bind,
            }),
            roles: roles.iter().map(|role| (*role, at(role))).collect(),
            incarnation: 0,
        };
        if config.membership.alone {
            return Ok(Membership::alone(member));
        }
        let join = Join {
            member,
            bind,
            cluster: config.cluster.name.clone(),
            key: self.clusters.shared_key().bytes().to_vec(),
            metrics: self.metrics.clone(),
            contacts: Arc::new(StoreContacts::new(
                self.store.cluster.clone(),
                self.clock.clone(),
            )),
            timing: Default::default(),
        };
        Membership::join(join, &self.clock, tasks)
            .await
            .with_context(|| format!("listen for gossip on {bind}; is the membership port taken?"))
    }
}

/// What an operator has to know of a database that was put back.
fn tell_restored(own: &OwnCluster, restored: &Restored) {
    tracing::warn!(cluster = %own.name, cluster_id = restored.cluster_id,
        "the database is a copy that was put back: other clusters will know it as a store of its own");
    for namespace in &restored.held {
        tracing::error!(%namespace,
            "the namespace is held: it was active here, and what was written after the copy may be in other clusters. \
             `meridian namespace failover --namespace {namespace} --to CLUSTER`, asked of another cluster of the \
             namespace, makes that one active");
    }
}

/// This cluster, as the directory has it.
pub(crate) fn own_cluster(config: &NodeConfig) -> OwnCluster {
    let cluster = &config.cluster;
    OwnCluster {
        name: cluster.name.as_str().into(),
        initial_failover_version: cluster.initial_failover_version,
        failover_version_increment: cluster.failover_version_increment,
        shard_count: cluster.shards,
        address: cluster.rpc_address.clone(),
        http_address: cluster.http_address.clone(),
        // As a configured cluster is listed by Temporal's tools.
        connection_enabled: true,
        is_global_namespace_enabled: cluster.global_namespaces,
        ..Default::default()
    }
}

/// The schema-sql options of a configuration.
pub(crate) fn store_options(datastore: &DatastoreConfig) -> (Options, &'static str) {
    match datastore {
        DatastoreConfig::Memory => (Options::ephemeral(), "memory"),
        DatastoreConfig::Sqlite { path } => (Options::sqlite(path), "sqlite"),
        DatastoreConfig::Postgres(postgres) => (
            Options::new(Plugin::Postgres((**postgres).clone())),
            "postgres12",
        ),
    }
}

async fn open_store(
    config: &NodeConfig,
    roles: &BTreeSet<Role>,
    metrics: &Metrics,
    tasks: &Tasks,
) -> anyhow::Result<(Store, &'static str)> {
    anyhow::ensure!(
        !config.datastore.is_of_one_process() || roles.len() == Role::ALL.len(),
        "an SQLite file, or memory, belongs to one process: run all four services in it, or use PostgreSQL"
    );
    if let DatastoreConfig::Sqlite { path } = &config.datastore
        && let Some(dir) = path.parent().filter(|d| !d.as_os_str().is_empty())
    {
        std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    }
    let (options, name) = store_options(&config.datastore);
    let stats = options.stats.clone();
    // Without an endpoint nobody asks, and an idle node has one thing less to wake up for.
    let counters = match config.metrics {
        Some(_) => {
            let counters = WalCounters::new(&options);
            Some(counters.with_context(|| format!("read the counters of the {name} store"))?)
        }
        None => None,
    };
    let store = schema_sql::open(options)
        .await
        .with_context(|| format!("open the {name} store"))?;
    let Some(counters) = counters else {
        return Ok((store, name));
    };
    observing::log_counters(stats, counters, metrics, tasks);
    let store = schema_store::observed::observed(store, observing::StoreMetrics::new(metrics));
    if roles.contains(&Role::Worker) {
        observing::dead_letters(store.queue.clone(), metrics, tasks);
    }
    Ok((store, name))
}
