//! The cluster directory: this cluster and those it is connected with, from rows that are guarded by
//! versions. A reading that does not hold together is rejected whole and the known one stays.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use bytes::Bytes;
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

pub mod adopt;
mod record;
pub mod restored;

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
pub struct Clusters(Arc<ClustersInner>);

struct ClustersInner {
    store: Option<Arc<dyn ClusterStore>>,
    key: SharedKey,
    topology: ArcSwap<Topology>,
    changed: watch::Sender<u64>,
}

/// A secret that the processes of this cluster share, since they share the database. It never leaves the
/// processes.
#[derive(Clone)]
pub struct SharedKey(Bytes);

impl SharedKey {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// 244 random bits.
    fn fresh() -> Bytes {
        let halves = [uuid::Uuid::new_v4(), uuid::Uuid::new_v4()];
        halves.iter().flat_map(|half| *half.as_bytes()).collect()
    }
}

impl fmt::Debug for SharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedKey([redacted])")
    }
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
    /// Refuses a database of another cluster, writes this cluster's own row, reads the directory and keeps it fresh by a task of the group.
    pub async fn start(
        own: &OwnCluster,
        store: Arc<dyn ClusterStore>,
        settings: Settings,
        tasks: &Tasks,
    ) -> Result<Self, Refusal> {
        let key = boot(own, store.as_ref()).await?;
        let topology = read(own.name.clone(), store.as_ref()).await?.topology;
        rules::check_directory(&topology)?;
        let clusters = Self::of(Some(store), topology, key);
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
            SharedKey(SharedKey::fresh()),
        )
    }

    fn of(store: Option<Arc<dyn ClusterStore>>, topology: Topology, key: SharedKey) -> Self {
        Self(Arc::new(ClustersInner {
            store,
            key,
            topology: ArcSwap::from_pointee(topology),
            changed: watch::Sender::new(0),
        }))
    }

    /// The secret by which the processes of this cluster authenticate each other.
    pub fn shared_key(&self) -> &SharedKey {
        &self.0.key
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

    /// The same as [`Topology::stranger_to`], of those known now.
    pub fn stranger_to(
        &self,
        namespace: &Namespace,
        speaks_for: impl Fn(&str) -> bool,
    ) -> Option<ClusterName> {
        let topology = self.0.topology.load();
        topology.stranger_to(namespace, speaks_for)
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
        let topology = read(self.current_name(), store.as_ref()).await?.topology;
        rules::check_directory(&topology)?;
        self.publish(topology);
        Ok(())
    }

    /// Adds a remote cluster, or changes how it is treated. `remote` is what the remote said about itself.
    pub async fn upsert(&self, mut remote: ClusterInfo) -> Result<(), Refusal> {
        let store = self.store()?;
        let topology = read(self.current_name(), store.as_ref()).await?.topology;
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
        match store
            .cluster_put(record::encode(&remote, Bytes::new()))
            .await
        {
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
        let topology = read(self.current_name(), store.as_ref()).await?.topology;
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

/// All rows, and whose database they are in.
struct Directory {
    topology: Topology,
    /// Clusters that started on this database, with their secret. More than one only in the midst of
    /// [`adopt::adopt`].
    owners: Vec<(ClusterName, Bytes)>,
}

impl Directory {
    fn owner_names(&self) -> Vec<&ClusterName> {
        self.owners.iter().map(|(name, _)| name).collect()
    }

    fn secret_of(&self, cluster: &ClusterName) -> Option<&Bytes> {
        let own = self.owners.iter().find(|(name, _)| name == cluster);
        own.map(|(_, secret)| secret)
    }
}

async fn read(current: ClusterName, store: &dyn ClusterStore) -> Result<Directory, Refusal> {
    let mut clusters = std::collections::BTreeMap::new();
    let mut owners = Vec::new();
    for row in store.cluster_list().await? {
        let (info, secret) = record::decode(&row).map_err(|e| {
            StoreError::Corrupt(format!("read the row of cluster {}: {e}", row.name))
        })?;
        if !secret.is_empty() {
            owners.push((row.name.clone(), secret));
        }
        clusters.insert(row.name, Arc::new(info));
    }
    Ok(Directory {
        topology: Topology { current, clusters },
        owners,
    })
}

/// Checks that the database is this cluster's, and only then writes its row.
async fn boot(own: &OwnCluster, store: &dyn ClusterStore) -> Result<SharedKey, Refusal> {
    let mut said = false;
    for _ in 0..TRIES {
        let directory = read(own.name.clone(), store).await?;
        rules::check_owner(&directory.topology, &directory.owner_names())?;
        let stored = directory.topology.clusters.get(&own.name);
        let (info, overruled) = rules::boot(stored.map(AsRef::as_ref), own, || {
            uuid::Uuid::new_v4().to_string()
        });
        let mut wanted = directory.topology.clone();
        wanted
            .clusters
            .insert(own.name.clone(), Arc::new(info.clone()));
        rules::check_directory(&wanted)?;
        if !std::mem::replace(&mut said, true) {
            for text in overruled {
                tracing::warn!(cluster = %own.name, "configuration is overruled: {text}");
            }
        }
        let known = directory.secret_of(&own.name).cloned();
        let is_stored = known.is_some() && stored.is_some_and(|s| **s == info);
        let secret = known.unwrap_or_else(SharedKey::fresh);
        if is_stored {
            return Ok(SharedKey(secret));
        }
        match store
            .cluster_put(record::encode(&info, secret.clone()))
            .await
        {
            Ok(()) => return Ok(SharedKey(secret)),
            // Another process of this cluster starts at the same time.
            Err(StoreError::Conflict(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Refusal::Contended)
}
