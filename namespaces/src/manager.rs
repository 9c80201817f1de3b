//! Changes namespaces: reads, lets the rules decide, and writes by compare-and-set on the store's counter
//! together with the message to other clusters. When others write meanwhile it reads again.

use std::{fmt, sync::Arc};

use cluster_runtime::SharedClock;
use proto_ids::{ClusterName, NamespaceId, NamespaceName, Timestamp};
use proto_messages::temporal::server::api::replication::v1::NamespaceTaskAttributes;
use schema_store::{
    StoreError,
    namespace::{NamespaceRecord, NamespaceStore},
};

use crate::{
    SYSTEM_NAMESPACE, SYSTEM_NAMESPACE_ID,
    clusters::Clusters,
    error::Refusal,
    message,
    namespace::Namespace,
    registry::Registry,
    rules::{self, Change, Merge, Registration, Stamp, Update},
};

/// Tries of a write that others keep overtaking.
const TRIES: usize = 20;

/// How long the system namespace keeps closed runs.
const SYSTEM_RETENTION: std::time::Duration = std::time::Duration::from_secs(7 * 86_400);

/// The configuration of namespace changes.
#[derive(Clone, Debug)]
pub struct ManagerOptions {
    /// The cluster that registers and deprecates global namespaces.
    pub master_cluster: ClusterName,
}

/// Changes namespaces. Cheap to clone.
#[derive(Clone)]
pub struct Manager(Arc<ManagerInner>);

struct ManagerInner {
    options: ManagerOptions,
    store: Arc<dyn NamespaceStore>,
    registry: Registry,
    clusters: Clusters,
    clock: SharedClock,
}

/// How an accepted change ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Changed {
    /// Written.
    Written(Arc<Namespace>),
    /// Nothing had to be written.
    Unchanged(Arc<Namespace>),
    /// The message is not for this cluster.
    Ignored,
}

/// The request.
enum Request<'a> {
    Create(Registration, NamespaceId),
    Update(&'a NamespaceName, Update),
    Deprecate(&'a NamespaceName),
    Merge(Option<&'a ClusterName>, &'a NamespaceTaskAttributes),
}

/// The write.
enum Write {
    Create(Change),
    Update(Change),
    Nothing(Changed),
}

impl Manager {
    /// A manager over the store; the registry is refreshed after each write.
    pub fn new(
        options: ManagerOptions,
        store: Arc<dyn NamespaceStore>,
        registry: Registry,
        clusters: Clusters,
        clock: SharedClock,
    ) -> Self {
        Self(Arc::new(ManagerInner {
            options,
            store,
            registry,
            clusters,
            clock,
        }))
    }

    /// Makes sure that the server's own namespace exists. Called at start by every process.
    pub async fn ensure_system(&self) -> Result<(), Refusal> {
        let wanted = Registration {
            name: SYSTEM_NAMESPACE.into(),
            description: "The namespace of the server itself.".to_owned(),
            retention: SYSTEM_RETENTION,
            ..Registration::default()
        };
        match self.create(wanted, SYSTEM_NAMESPACE_ID.into()).await {
            Ok(_) | Err(Refusal::NamespaceExists) => Ok(()),
            Err(refusal) => Err(refusal),
        }
    }

    /// Registers a namespace.
    pub async fn register(&self, wanted: Registration) -> Result<Arc<Namespace>, Refusal> {
        self.create(wanted, uuid::Uuid::new_v4().to_string().into())
            .await
    }

    /// Changes a namespace as [`Update`] says. Making another cluster active is one of the ways.
    pub async fn update(
        &self,
        name: &NamespaceName,
        wanted: Update,
    ) -> Result<Arc<Namespace>, Refusal> {
        let request = Request::Update(name, wanted);
        self.write(&request).await?.namespace(name)
    }

    /// Closes a namespace to new workflows.
    pub async fn deprecate(&self, name: &NamespaceName) -> Result<Arc<Namespace>, Refusal> {
        self.write(&Request::Deprecate(name)).await?.namespace(name)
    }

    /// Applies a message of the cluster `source` about a namespace. Never told on: each cluster is told of a
    /// change by the one that made it.
    pub async fn merge(
        &self,
        source: &ClusterName,
        task: &NamespaceTaskAttributes,
    ) -> Result<Changed, Refusal> {
        self.write(&Request::Merge(Some(source), task)).await
    }

    /// Applies a message that was set aside before, as an operator asks.
    pub async fn merge_again(&self, task: &NamespaceTaskAttributes) -> Result<Changed, Refusal> {
        self.write(&Request::Merge(None, task)).await
    }

    /// The namespace as stored now, by name.
    pub async fn get(&self, name: &NamespaceName) -> Result<Arc<Namespace>, Refusal> {
        self.stored(name).await.map(Arc::new)
    }

    /// The namespace as stored now, by id.
    pub async fn get_by_id(&self, id: &NamespaceId) -> Result<Arc<Namespace>, Refusal> {
        read(self.0.store.namespace_get(id).await?)?
            .map(Arc::new)
            .ok_or_else(|| Refusal::NamespaceNotFound(id.to_string()))
    }

    /// Namespaces by name, after `after`.
    pub async fn list(
        &self,
        after: Option<NamespaceName>,
        limit: usize,
    ) -> Result<Vec<Namespace>, Refusal> {
        let records = self.0.store.namespace_list(after, limit).await?;
        records
            .into_iter()
            .filter_map(|r| read(Some(r)).transpose())
            .collect()
    }

    async fn create(
        &self,
        wanted: Registration,
        id: NamespaceId,
    ) -> Result<Arc<Namespace>, Refusal> {
        let name = wanted.name.clone();
        let request = Request::Create(wanted, id);
        self.write(&request).await?.namespace(&name)
    }

    async fn stored(&self, name: &NamespaceName) -> Result<Namespace, Refusal> {
        read(self.0.store.namespace_get_by_name(name).await?)?
            .ok_or_else(|| Refusal::NamespaceNotFound(name.to_string()))
    }

    async fn write(&self, request: &Request<'_>) -> Result<Changed, Refusal> {
        let store = &self.0.store;
        for _ in 0..TRIES {
            let version = store.namespace_version().await?;
            let now = Timestamp::from_nanos(self.0.clock.now_nanos());
            let stamp = Stamp {
                now,
                notification_version: version,
            };
            let (written, change) = match self.decide(request, stamp).await? {
                Write::Nothing(changed) => return Ok(changed),
                Write::Create(change) => {
                    let (record, message) = change.encode(now);
                    (
                        store.namespace_create(record, version, message).await,
                        change,
                    )
                }
                Write::Update(change) => {
                    let (record, message) = change.encode(now);
                    (
                        store.namespace_update(record, version, message).await,
                        change,
                    )
                }
            };
            match written {
                Ok(()) => return Ok(self.written(change.namespace).await),
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Refusal::Contended)
    }

    async fn decide(&self, request: &Request<'_>, stamp: Stamp) -> Result<Write, Refusal> {
        let topology = self.0.clusters.topology();
        match request {
            Request::Create(wanted, id) => {
                if self
                    .0
                    .store
                    .namespace_get_by_name(&wanted.name)
                    .await?
                    .is_some()
                {
                    return Err(Refusal::NamespaceExists);
                }
                let (wanted, id) = (wanted.clone(), id.clone());
                rules::register(&topology, self.is_master(), wanted, id, stamp).map(Write::Create)
            }
            Request::Update(name, wanted) => {
                let before = self.stored(name).await?;
                let change = rules::update(&topology, &before, wanted.clone(), stamp)?;
                Ok(Write::update(before, change))
            }
            Request::Deprecate(name) => {
                let before = self.stored(name).await?;
                let change = rules::deprecate(&before, self.is_master(), stamp)?;
                Ok(Write::update(before, change))
            }
            Request::Merge(source, task) => self.decide_merge(*source, task, stamp).await,
        }
    }

    async fn decide_merge(
        &self,
        source: Option<&ClusterName>,
        task: &NamespaceTaskAttributes,
        stamp: Stamp,
    ) -> Result<Write, Refusal> {
        let name = task
            .info
            .as_ref()
            .map(|i| i.name.as_str())
            .unwrap_or_default();
        let by_id = read(self.0.store.namespace_get(&task.id.as_str().into()).await?)?;
        let by_name = read(self.0.store.namespace_get_by_name(&name.into()).await?)?;
        let topology = self.0.clusters.topology();
        let quiet = |namespace| Change {
            namespace,
            publish: None,
        };
        Ok(
            match rules::merge(
                &topology,
                source,
                by_id.as_ref(),
                by_name.as_ref(),
                task,
                stamp,
            )? {
                Merge::Create(namespace) => Write::Create(quiet(namespace)),
                Merge::Update(namespace) => Write::Update(quiet(namespace)),
                Merge::Ignored => Write::Nothing(match by_id {
                    Some(known) => Changed::Unchanged(Arc::new(known)),
                    None => Changed::Ignored,
                }),
            },
        )
    }

    async fn written(&self, namespace: Namespace) -> Changed {
        tracing::info!(namespace = %namespace.name, active_cluster = %namespace.active_cluster,
            failover_version = %namespace.failover_version, config_version = namespace.config_version,
            handover = namespace.handover, "namespace is written");
        if let Err(error) = self.0.registry.refresh().await {
            // The periodic look will see it.
            tracing::warn!(%error, "the registry could not be refreshed after a write");
        }
        Changed::Written(Arc::new(namespace))
    }

    fn is_master(&self) -> bool {
        self.0.options.master_cluster == self.0.clusters.current_name()
    }
}

impl Change {
    fn encode(
        &self,
        now: Timestamp,
    ) -> (
        NamespaceRecord,
        Option<schema_store::namespace::QueueMessage>,
    ) {
        let message = self
            .publish
            .map(|operation| message::encode(&self.namespace, operation, now));
        (self.namespace.to_record(), message)
    }
}

impl Write {
    fn update(before: Namespace, change: Option<Change>) -> Self {
        change.map_or_else(
            || Self::Nothing(Changed::Unchanged(Arc::new(before))),
            Self::Update,
        )
    }
}

impl Changed {
    fn namespace(self, name: &NamespaceName) -> Result<Arc<Namespace>, Refusal> {
        match self {
            Self::Written(namespace) | Self::Unchanged(namespace) => Ok(namespace),
            Self::Ignored => Err(Refusal::NamespaceNotFound(name.to_string())),
        }
    }
}

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Manager of {:?}", self.0.registry)
    }
}

fn read(record: Option<NamespaceRecord>) -> Result<Option<Namespace>, Refusal> {
    record
        .map(|r| Namespace::from_record(&r))
        .transpose()
        .map_err(|e| StoreError::Corrupt(e.to_string()).into())
}
