//! The cluster directory: this cluster and those it is connected with, from rows that are guarded by
//! versions. A reading that does not hold together is rejected whole and the known one stays.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use cluster_runtime::{Key, Settings, TaskKind, Tasks};
use proto_ids::{ClusterName, FailoverVersion};
use proto_messages::temporal::server::api::adminservice::v1::DescribeClusterResponse;
use schema_store::{StoreError, cluster::ClusterStore};
use tokio::sync::watch;

use crate::{
    error::Refusal,
    namespace::Namespace,
    rules::{self, OwnCluster, Topology},
};

mod record;

/// How often rows are read.
pub(crate) static REFRESH_INTERVAL: Key<Duration> = Key::new(
    "system.clusterMetadataRefreshInterval",
    Duration::from_secs(10),
    "How often each host reads the cluster directory.",
);

/// Tries of a write that others keep overtaking at start.
const TRIES: usize = 5;

/// A cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterInfo {
    /// Its name.
    pub name: ClusterName,
    /// Its UUID.
    pub cluster_id: String,
    /// Its versions modulo the increment; also its number on the wire.
    pub initial_failover_version: i64,
    /// The same in all connected clusters.
    pub failover_version_increment: i64,
    /// Its history shards.
    pub shard_count: i32,
    /// Its frontend.
    pub address: String,
    /// Its HTTP API.
    pub http_address: String,
    /// Whether this cluster talks to it.
    pub connection_enabled: bool,
    /// Whether histories are pulled from it.
    pub replication_enabled: bool,
    /// Whether it knows global namespaces.
    pub is_global_namespace_enabled: bool,
    /// Free text by key.
    pub tags: HashMap<String, String>,
    /// The stored row's version.
    pub row_version: i64,
}

/// The directory. Cheap to clone; clones are the same.
#[derive(Clone)]
pub struct Clusters(Arc<Inner>);

struct Inner {
    store: Option<Arc<dyn ClusterStore>>,
    topology: ArcSwap<Topology>,
    changed: watch::Sender<u64>,
}

impl ClusterInfo {
    /// A remote cluster from what it said about itself, and how it is to be treated.
    pub fn described(
        said: DescribeClusterResponse,
        address: String,
        connection_enabled: bool,
        replication_enabled: bool,
    ) -> Self {
        Self {
            name: said.cluster_name.into(),
            cluster_id: said.cluster_id,
            initial_failover_version: said.initial_failover_version,
            failover_version_increment: said.failover_version_increment,
            shard_count: said.history_shard_count,
            address,
            http_address: said.http_address,
            connection_enabled,
            replication_enabled,
            is_global_namespace_enabled: said.is_global_namespace_enabled,
            tags: said.tags,
            row_version: 0,
        }
    }
}

impl Clusters {
    /// Writes this cluster's own row, reads the directory and keeps it fresh by a task of the group.
    pub async fn start(
        own: &OwnCluster,
        store: Arc<dyn ClusterStore>,
        settings: Settings,
        tasks: &Tasks,
    ) -> Result<Self, Refusal> {
        boot(own, store.as_ref()).await?;
        let topology = read(own.name.clone(), store.as_ref()).await?;
        rules::check_directory(&topology)?;
        let clusters = Self::of(Some(store), topology);
        let kept = clusters.clone();
        tasks.spawn_restarting(TaskKind::Background, "cluster-refresh", move || {
            let (kept, settings) = (kept.clone(), settings.clone());
            async move { kept.keep_fresh(settings).await }
        });
        Ok(clusters)
    }

    /// A directory of exactly these, for tests.
    pub fn fixed(current: ClusterInfo, others: Vec<ClusterInfo>) -> Self {
        let name = current.name.clone();
        let all = others.into_iter().chain([current]);
        let clusters = all.map(|c| (c.name.clone(), Arc::new(c))).collect();
        Self::of(
            None,
            Topology {
                current: name,
                clusters,
            },
        )
    }

    fn of(store: Option<Arc<dyn ClusterStore>>, topology: Topology) -> Self {
        Self(Arc::new(Inner {
            store,
            topology: ArcSwap::from_pointee(topology),
            changed: watch::Sender::new(0),
        }))
    }

    /// This cluster.
    pub fn current(&self) -> Arc<ClusterInfo> {
        let topology = self.0.topology.load();
        // `start` and `refresh` admit no directory without the current cluster.
        topology
            .clusters
            .get(&topology.current)
            .cloned()
            .unwrap_or_default()
    }

    /// This cluster's name.
    pub fn current_name(&self) -> ClusterName {
        self.0.topology.load().current.clone()
    }

    /// The cluster with this name.
    pub fn get(&self, name: &ClusterName) -> Option<Arc<ClusterInfo>> {
        self.0.topology.load().clusters.get(name).cloned()
    }

    /// The cluster with this initial version, which is also its number on the wire.
    pub fn by_id(&self, initial_failover_version: i64) -> Option<Arc<ClusterInfo>> {
        self.0
            .topology
            .load()
            .by_initial(initial_failover_version)
            .cloned()
    }

    /// All, this one included, by name.
    pub fn all(&self) -> Vec<Arc<ClusterInfo>> {
        self.0.topology.load().clusters.values().cloned().collect()
    }

    /// All others that this cluster talks to.
    pub fn remotes(&self) -> Vec<Arc<ClusterInfo>> {
        let topology = self.0.topology.load();
        let others = topology
            .clusters
            .values()
            .filter(|c| c.name != topology.current);
        others.filter(|c| c.connection_enabled).cloned().collect()
    }

    /// The directory as the rules see it.
    pub fn topology(&self) -> Arc<Topology> {
        self.0.topology.load_full()
    }

    /// The cluster that owns a version of a global namespace.
    pub fn cluster_of(&self, version: FailoverVersion) -> ClusterName {
        self.0.topology.load().cluster_of(version)
    }

    /// Changes whenever the directory changed.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// Reads the rows now.
    pub async fn refresh(&self) -> Result<(), Refusal> {
        let Some(store) = &self.0.store else {
            return Ok(());
        };
        let topology = read(self.current_name(), store.as_ref()).await?;
        rules::check_directory(&topology)?;
        self.publish(topology);
        Ok(())
    }

    /// Adds a remote cluster, or changes how it is treated. `remote` is what the remote said about itself.
    pub async fn upsert(&self, mut remote: ClusterInfo) -> Result<(), Refusal> {
        let store = self.store()?;
        let topology = read(self.current_name(), store.as_ref()).await?;
        rules::check_remote(&topology, &remote)?;
        remote.row_version = topology
            .clusters
            .get(&remote.name)
            .map_or(0, |c| c.row_version);
        let mut wanted = topology.clone();
        wanted
            .clusters
            .insert(remote.name.clone(), Arc::new(remote.clone()));
        rules::check_directory(&wanted)?;
        match store.cluster_put(record::encode(&remote)).await {
            Ok(()) => {}
            Err(StoreError::Conflict(_)) => {
                return Err(Refusal::invalid(
                    "Cannot update remote cluster due to update immutable fields",
                ));
            }
            Err(error) => return Err(error.into()),
        }
        tracing::info!(remote_cluster = %remote.name, address = remote.address,
            connection_enabled = remote.connection_enabled, "remote cluster is in the directory");
        self.refresh().await
    }

    /// Forgets a remote cluster. `namespaces` are all of this cluster's.
    pub async fn remove<'a>(
        &self,
        name: &ClusterName,
        namespaces: impl IntoIterator<Item = &'a Namespace>,
    ) -> Result<(), Refusal> {
        let store = self.store()?;
        let topology = read(self.current_name(), store.as_ref()).await?;
        rules::check_removal(&topology, name, namespaces)?;
        if !topology.clusters.contains_key(name) {
            return Err(Refusal::ClusterNotFound(name.to_string()));
        }
        store.cluster_delete(name).await?;
        tracing::info!(remote_cluster = %name, "remote cluster is forgotten");
        self.refresh().await
    }

    fn store(&self) -> Result<&Arc<dyn ClusterStore>, Refusal> {
        self.0
            .store
            .as_ref()
            .ok_or_else(|| Refusal::Precondition("the cluster directory is fixed".to_owned()))
    }

    async fn keep_fresh(&self, settings: Settings) {
        loop {
            let interval = settings.get(&REFRESH_INTERVAL);
            tokio::time::sleep(interval).await;
            while let Err(error) = self.refresh().await {
                tracing::warn!(error = %error, cause = ?std::error::Error::source(&error),
                    "the cluster directory could not be read; the known one stays");
                tokio::time::sleep(interval / 2).await;
            }
        }
    }

    fn publish(&self, topology: Topology) {
        if **self.0.topology.load() != topology {
            self.0.topology.store(Arc::new(topology));
            self.0.changed.send_modify(|n| *n += 1);
        }
    }
}

impl fmt::Debug for Clusters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let topology = self.0.topology.load();
        write!(
            f,
            "Clusters({} of {})",
            topology.current,
            topology.clusters.len()
        )
    }
}

async fn read(current: ClusterName, store: &dyn ClusterStore) -> Result<Topology, Refusal> {
    let mut clusters = std::collections::BTreeMap::new();
    for row in store.cluster_list().await? {
        let info = record::decode(&row).map_err(|e| {
            StoreError::Corrupt(format!("read the row of cluster {}: {e}", row.name))
        })?;
        clusters.insert(row.name, Arc::new(info));
    }
    Ok(Topology { current, clusters })
}

async fn boot(own: &OwnCluster, store: &dyn ClusterStore) -> Result<(), Refusal> {
    for _ in 0..TRIES {
        let topology = read(own.name.clone(), store).await?;
        let stored = topology.clusters.get(&own.name);
        let (info, overruled) = rules::boot(stored.map(AsRef::as_ref), own, || {
            uuid::Uuid::new_v4().to_string()
        });
        if stored.is_some_and(|s| **s == info) {
            return Ok(());
        }
        match store.cluster_put(record::encode(&info)).await {
            Ok(()) => {
                for text in overruled {
                    tracing::warn!(cluster = %own.name, "configuration is overruled: {text}");
                }
                return Ok(());
            }
            // Another process of this cluster starts at the same time.
            Err(StoreError::Conflict(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Refusal::Contended)
}
