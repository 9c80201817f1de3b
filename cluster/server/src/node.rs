//! One node: a process's part of a cluster, with the roles it plays. The only place that knows every crate.
//!
//! Start: store, namespaces, listeners, membership, clients, roles, then serving. Stop: readiness off, ports
//! closed, calls drained, shards handed over, lanes emptied.

mod context;
mod health;
mod observing;
mod reflection;
mod roles;
mod serve;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use anyhow::Context;
use cluster_frontend::Readiness;
use cluster_membership::{Membership, Role};
use cluster_runtime::{settings::Settings, task::Tasks, telemetry::Metrics};
use cluster_shard::Shards;
use namespaces::{Clusters, Manager, Registry};

use crate::config::NodeConfig;

pub(crate) use context::{own_cluster, store_options};
pub(crate) use health::Health;

/// How long a stop may take.
const STOP_WITHIN: Duration = Duration::from_secs(20);
/// Time for load balancers and clients to see that the node is not ready any more.
const UNREADY_FIRST: Duration = Duration::from_millis(50);

/// A running node.
pub struct Node {
    name: String,
    tasks: Tasks,
    metrics: Metrics,
    membership: Membership,
    readiness: Readiness,
    health: Health,
    shards: Option<Shards>,
    registry: Registry,
    manager: Manager,
    clusters: Clusters,
    addresses: BTreeMap<Role, SocketAddr>,
    peer_address: Option<SocketAddr>,
    metrics_address: Option<SocketAddr>,
    /// The database, for what is to be done when all are gone.
    store: schema_sql::Options,
}

impl Node {
    /// Starts the roles. When this returns the node serves.
    pub async fn start(config: NodeConfig, roles: &BTreeSet<Role>) -> anyhow::Result<Self> {
        anyhow::ensure!(
            !roles.is_empty(),
            "no service to run; name some of frontend, history, matching, worker"
        );
        let tasks = Tasks::new(config.cluster.name.clone());
        match Self::start_in(&config, roles, &tasks).await {
            Ok(node) => {
                tracing::info!(
                    cluster = %node.name,
                    roles = roles.iter().map(|r| r.as_str()).collect::<Vec<_>>().join(","),
                    member = %node.membership.me().id,
                    frontend = node.address(Role::Frontend).map(tracing::field::display),
                    "node serves"
                );
                Ok(node)
            }
            Err(error) => {
                tasks.shutdown(Duration::from_secs(2)).await;
                Err(error)
            }
        }
    }

    async fn start_in(
        config: &NodeConfig,
        roles: &BTreeSet<Role>,
        tasks: &Tasks,
    ) -> anyhow::Result<Self> {
        let metrics = Metrics::of_cluster(&config.cluster.name);
        tasks.count_restarts(&metrics);
        let settings = Settings::new();
        if let Some(dynamic) = &config.dynamic {
            crate::dynamic::follow(dynamic.clone(), settings.clone(), tasks).await?;
        }
        let health = Health::new();
        let metrics_address = match config.metrics {
            Some(at) => {
                let served =
                    crate::metrics_endpoint::serve(at, metrics.clone(), health.clone(), tasks);
                Some(served.await?)
            }
            None => None,
        };
        let context =
            context::NodeContext::build(config, roles, settings, metrics.clone(), tasks).await?;
        observing::program(&metrics);
        observing::namespaces(
            context.registry.clone(),
            context.clusters.clone(),
            &metrics,
            tasks,
        );
        let listeners = serve::Listeners::bind(config, roles, &context).await?;
        let membership = context.join(config, roles, &listeners, tasks).await?;
        let running = roles::run(config, roles, &context, &membership, tasks).await?;
        let addresses = listeners.addresses();
        let peer_address = listeners.peer_address();
        health
            .follow(context.store.cluster.clone(), membership.clone(), tasks)
            .await;
        listeners.serve(&running, &health, tasks);
        if !config.membership.alone {
            wait_for_others(config, &membership).await;
        }
        running.readiness.set(true);
        health.set_live(true);
        Ok(Self {
            name: config.cluster.name.clone(),
            tasks: tasks.clone(),
            metrics,
            membership,
            readiness: running.readiness.clone(),
            health,
            shards: running.shards.clone(),
            registry: context.registry,
            manager: context.manager,
            clusters: context.clusters,
            addresses,
            peer_address,
            metrics_address,
            store: store_options(&config.datastore).0,
        })
    }

    /// Where a role is served; `None` for roles this node does not play.
    pub fn address(&self, role: Role) -> Option<SocketAddr> {
        self.addresses.get(&role).copied()
    }

    /// The frontend's second port, for other clusters.
    pub fn peer_address(&self) -> Option<SocketAddr> {
        self.peer_address
    }

    /// Where metrics are served.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// The cluster's name.
    pub fn cluster(&self) -> &str {
        &self.name
    }

    /// Changes namespaces.
    pub fn manager(&self) -> &Manager {
        &self.manager
    }

    /// Namespaces as they are.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The cluster directory.
    pub fn clusters(&self) -> &Clusters {
        &self.clusters
    }

    /// All metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Returns when something broke that the node cannot live without.
    pub async fn failed(&self) -> anyhow::Error {
        anyhow::anyhow!("{}", self.tasks.failed().await)
    }

    /// Stops in order; an error says what held on.
    pub async fn stop(self) -> anyhow::Result<()> {
        tracing::info!(cluster = %self.name, "node stops");
        self.health.set_live(false);
        self.readiness.set(false);
        tokio::time::sleep(UNREADY_FIRST).await;
        self.membership.leave().await;
        if let Some(shards) = &self.shards {
            let drained = tokio::time::timeout(STOP_WITHIN / 2, shards.drain()).await;
            if drained.is_err() {
                tracing::warn!(cluster = %self.name, "shards were not handed over in time; their next owner rebuilds from the store");
            }
        }
        let ended = self.tasks.shutdown(STOP_WITHIN).await;
        if let Err(error) = schema_sql::checkpoint(&self.store).await {
            // Nothing is lost: the log is part of the database, and the next start reads it.
            tracing::warn!(cluster = %self.name, error = format!("{error:#}"), "the database's log stays beside it; a copy of the database needs both files");
        }
        anyhow::ensure!(ended, "tasks had to be aborted; the log names them");
        Ok(())
    }
}

/// A node of several waits for the roles it calls to be there, as long as configured, then serves anyway:
/// calls find them when they come.
async fn wait_for_others(config: &NodeConfig, membership: &Membership) {
    let waits = [Role::History, Role::Matching]
        .map(|role| membership.wait_for(role, 1, config.membership.join_within));
    for waited in futures::future::join_all(waits).await {
        if let Err(missing) = waited.context("join the cluster") {
            tracing::warn!(cluster = %config.cluster.name, error = format!("{missing:#}"), "not all services are there yet");
        }
    }
}
