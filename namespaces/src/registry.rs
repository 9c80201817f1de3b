//! Every host's view of the namespaces: a cache that a periodic look at the store's counter keeps fresh,
//! and that a local write refreshes at once. Reading takes no lock. What it says may be old by one
//! refresh interval; writers check again where it matters.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use cluster_runtime::{Key, Settings, TaskKind, Tasks};
use proto_ids::{NamespaceId, NamespaceName};
use schema_store::{
    StoreError,
    namespace::{NamespaceRecord, NamespaceStore},
};
use tokio::sync::{Mutex, watch};

use crate::namespace::Namespace;

/// How often the counter is looked at.
pub(crate) static REFRESH_INTERVAL: Key<Duration> = Key::new(
    "system.namespaceCacheRefreshInterval",
    Duration::from_secs(2),
    "How often each host looks whether namespaces have changed.",
);

/// Rows read at once.
const PAGE: usize = 500;

/// Every so many looks all rows are read even though the counter stands still: deletions do not raise it.
const FULL_EVERY: u32 = 15;

/// The namespaces of this cluster. Cheap to clone; clones are the same registry.
#[derive(Clone)]
pub struct Registry(Arc<RegistryInner>);

struct RegistryInner {
    store: Option<Arc<dyn NamespaceStore>>,
    current: ArcSwap<Snapshot>,
    changed: watch::Sender<u64>,
    /// Held while the snapshot is replaced, so that an older reading cannot overtake a newer one.
    refreshing: Mutex<i64>,
}

#[derive(Clone, Default)]
struct Snapshot {
    by_id: HashMap<NamespaceId, Arc<Namespace>>,
    by_name: HashMap<NamespaceName, Arc<Namespace>>,
}

impl Registry {
    /// A registry over the store, filled once, and kept fresh by a task of the group.
    pub async fn start(
        store: Arc<dyn NamespaceStore>,
        settings: Settings,
        tasks: &Tasks,
    ) -> Result<Self, StoreError> {
        let registry = Self::of(Some(store), Snapshot::default());
        registry.refresh().await?;
        let kept = registry.clone();
        tasks.spawn_restarting(TaskKind::Background, "namespace-refresh", move || {
            let (kept, settings) = (kept.clone(), settings.clone());
            async move { kept.keep_fresh(settings).await }
        });
        Ok(registry)
    }

    /// A registry of exactly these, for tests.
    pub fn fixed(namespaces: Vec<Namespace>) -> Self {
        Self::of(None, Snapshot::of(namespaces.into_iter().map(Arc::new)))
    }

    fn of(store: Option<Arc<dyn NamespaceStore>>, snapshot: Snapshot) -> Self {
        Self(Arc::new(RegistryInner {
            store,
            current: ArcSwap::from_pointee(snapshot),
            changed: watch::Sender::new(0),
            refreshing: Mutex::new(-1),
        }))
    }

    /// The namespace with this id, as far as this host knows.
    pub fn by_id(&self, id: &NamespaceId) -> Option<Arc<Namespace>> {
        self.0.current.load().by_id.get(id).cloned()
    }

    /// The namespace with this name, as far as this host knows.
    pub fn by_name(&self, name: &NamespaceName) -> Option<Arc<Namespace>> {
        self.0.current.load().by_name.get(name).cloned()
    }

    /// The namespace with this name; asks the store about a name it does not know.
    pub async fn resolve(
        &self,
        name: &NamespaceName,
    ) -> Result<Option<Arc<Namespace>>, StoreError> {
        if let Some(known) = self.by_name(name) {
            return Ok(Some(known));
        }
        let Some(store) = &self.0.store else {
            return Ok(None);
        };
        let found = store.namespace_get_by_name(name).await?;
        self.learn(found).await
    }

    /// The namespace with this id; asks the store about an id it does not know.
    pub async fn resolve_id(&self, id: &NamespaceId) -> Result<Option<Arc<Namespace>>, StoreError> {
        if let Some(known) = self.by_id(id) {
            return Ok(Some(known));
        }
        let Some(store) = &self.0.store else {
            return Ok(None);
        };
        let found = store.namespace_get(id).await?;
        self.learn(found).await
    }

    /// All of them, by name.
    pub fn all(&self) -> Vec<Arc<Namespace>> {
        let mut all: Vec<_> = self.0.current.load().by_id.values().cloned().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Changes whenever any namespace changed, for this host.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// Reads all rows now.
    pub async fn refresh(&self) -> Result<(), StoreError> {
        let Some(store) = &self.0.store else {
            return Ok(());
        };
        let mut seen = self.0.refreshing.lock().await;
        // The counter first: a write between the two readings is then read again next time.
        let version = store.namespace_version().await?;
        let mut namespaces = Vec::new();
        let mut after = None;
        loop {
            let page = store.namespace_list(after, PAGE).await?;
            after = page.last().map(|r| r.name.clone());
            let done = page.len() < PAGE;
            namespaces.extend(page.iter().filter_map(readable));
            if done {
                break;
            }
        }
        *seen = version;
        self.publish(Snapshot::of(namespaces));
        Ok(())
    }

    /// Replaces all namespaces, for tests on a fixed registry.
    pub fn set(&self, namespaces: Vec<Namespace>) {
        self.publish(Snapshot::of(namespaces.into_iter().map(Arc::new)));
    }

    async fn keep_fresh(&self, settings: Settings) {
        let mut looks = 0;
        loop {
            tokio::time::sleep(settings.get(&REFRESH_INTERVAL)).await;
            looks = (looks + 1) % FULL_EVERY;
            if let Err(error) = self.look(looks == 0).await {
                tracing::warn!(%error, "namespaces could not be read; the known ones stay");
            }
        }
    }

    /// Everything that was written before this call is known here when it returns.
    pub async fn catch_up(&self) -> Result<(), StoreError> {
        self.look(false).await
    }

    async fn look(&self, full: bool) -> Result<(), StoreError> {
        let Some(store) = &self.0.store else {
            return Ok(());
        };
        let seen = *self.0.refreshing.lock().await;
        if full || store.namespace_version().await? != seen {
            self.refresh().await?;
        }
        Ok(())
    }

    async fn learn(
        &self,
        found: Option<NamespaceRecord>,
    ) -> Result<Option<Arc<Namespace>>, StoreError> {
        let Some(record) = found else {
            return Ok(None);
        };
        let namespace = Namespace::from_record(&record)
            .map(Arc::new)
            .map_err(|e| StoreError::Corrupt(e.to_string()))?;
        let _order = self.0.refreshing.lock().await;
        let mut snapshot = (**self.0.current.load()).clone();
        if let Some(known) = snapshot.by_id.get(&namespace.id)
            && known.notification_version >= namespace.notification_version
        {
            return Ok(Some(known.clone()));
        }
        snapshot.put(namespace.clone());
        self.publish(snapshot);
        Ok(Some(namespace))
    }

    fn publish(&self, snapshot: Snapshot) {
        let differs = self.0.current.load().by_id != snapshot.by_id;
        self.0.current.store(Arc::new(snapshot));
        if differs {
            self.0.changed.send_modify(|n| *n += 1);
        }
    }
}

impl Snapshot {
    fn of(namespaces: impl IntoIterator<Item = Arc<Namespace>>) -> Self {
        let mut snapshot = Self::default();
        for namespace in namespaces {
            snapshot.put(namespace);
        }
        snapshot
    }

    fn put(&mut self, namespace: Arc<Namespace>) {
        if let Some(before) = self.by_id.insert(namespace.id.clone(), namespace.clone())
            && before.name != namespace.name
        {
            self.by_name.remove(&before.name);
        }
        self.by_name.insert(namespace.name.clone(), namespace);
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Registry({} namespaces)",
            self.0.current.load().by_id.len()
        )
    }
}

/// One unreadable row must not hide the others.
fn readable(record: &NamespaceRecord) -> Option<Arc<Namespace>> {
    Namespace::from_record(record)
        .inspect_err(|error| {
            tracing::error!(namespace = %record.name, %error, "stored namespace cannot be read");
        })
        .ok()
        .map(Arc::new)
}
