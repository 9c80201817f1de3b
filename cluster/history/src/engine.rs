//! The engine behind all RPCs of the service: the shards, the other services, and the one way to change a run.

use std::{sync::Arc, time::Duration};

use proto_ids::{NamespaceId, RunKey, Timestamp};
use tonic::Status;

use cluster_core::{DecisionContext, MutableState, Refusal, Request, Transition};
use cluster_rpc::{HistoryClient, MatchingClient, status as statuses};
use cluster_runtime::{
    Metrics, Overload, Settings, SharedClock, Tasks,
    overload::{Class, InFlight},
};
use cluster_shard::{Shard, Shards, Updated};
use namespaces::{Clusters, Namespace, Registry};

use crate::{
    change,
    error::{self, HistoryError},
    metrics::Meters,
    query_registry::QueryRegistry,
};

/// The dependencies of the service.
#[derive(Clone)]
pub struct HistoryDeps {
    /// The shards of this process.
    pub shards: Shards,
    /// The namespaces.
    pub registry: Registry,
    /// The cluster directory.
    pub clusters: Clusters,
    /// The matching service, wherever it is.
    pub matching: MatchingClient,
    /// The history service of other shards.
    pub history: HistoryClient,
    /// The time.
    pub clock: SharedClock,
    /// Refuses new work when this process has more to do than it can; absent where a frontend of the same
    /// process has asked it already.
    pub overload: Option<Overload>,
    /// Live settings.
    pub settings: Settings,
    /// Where metrics are registered.
    pub metrics: Metrics,
    /// The group of this service's tasks.
    pub tasks: Tasks,
}

/// The service's inside, shared by all RPCs.
pub struct Engine {
    /// Its dependencies.
    pub deps: HistoryDeps,
    /// Queries that wait for a workflow task.
    pub queries: QueryRegistry,
    /// Metrics.
    pub meters: Meters,
}

impl Engine {
    /// An engine over these.
    pub fn new(deps: HistoryDeps) -> Arc<Self> {
        Arc::new(Self {
            meters: Meters::new(&deps.metrics),
            queries: QueryRegistry::default(),
            deps,
        })
    }

    /// The moment.
    pub fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.deps.clock.now_nanos())
    }

    /// The shard of a workflow, acquired when it is ours and not yet held.
    pub async fn shard_of(&self, key: &RunKey) -> Result<Shard, Status> {
        let shard = self
            .deps
            .shards
            .for_workflow(&key.namespace_id, &key.workflow_id)
            .await;
        shard.map_err(|e| error::status(HistoryError::Shard(e), key))
    }

    /// A namespace; one this host does not know yet is looked up.
    pub async fn namespace(&self, id: &NamespaceId) -> Result<Arc<Namespace>, Status> {
        let found = self.deps.registry.resolve_id(id).await;
        let found = found.map_err(|error| statuses::unavailable(error.to_string()))?;
        found.ok_or_else(|| {
            let error = HistoryError::NoNamespace(id.as_str().to_owned());
            error::status(error, &RunKey::default())
        })
    }

    /// Refuses new work that an overloaded process cannot do. What is returned is held while the call runs.
    pub fn admit_start(&self, timeout: Option<Duration>) -> Result<Option<InFlight>, Status> {
        let Some(overload) = &self.deps.overload else {
            return Ok(None);
        };
        let admitted = overload.admit(Class::Start, timeout);
        admitted.map(Some).map_err(statuses::overloaded)
    }

    /// Whether this cluster may write to the namespace.
    pub fn is_active(&self, namespace: &Namespace) -> bool {
        namespace.is_active_in(&self.deps.clusters.current_name())
    }

    /// Changes one existing run.
    pub async fn update<T: Send + 'static>(
        &self,
        shard: &Shard,
        key: &RunKey,
        decide: impl FnOnce(&mut MutableState, &DecisionContext<'_>) -> Result<(Transition, T), Refusal>
        + Send,
    ) -> Result<Updated<T>, Status> {
        change::update(shard, key, decide)
            .await
            .map_err(|e| error::status(e.into(), key))
    }

    /// Applies a request to one existing run; the answer is the core's reply.
    pub async fn apply_request(
        &self,
        key: &RunKey,
        request: Request,
    ) -> Result<Updated<()>, Status> {
        let shard = self.shard_of(key).await?;
        change::apply_request(&shard, key, request)
            .await
            .map_err(|e| error::status(e.into(), key))
    }
}

/// How long a call may take: the caller's deadline, else the setting.
pub fn deadline(timeout: Option<Duration>, otherwise: Duration) -> tokio::time::Instant {
    tokio::time::Instant::now() + timeout.unwrap_or(otherwise).min(Duration::from_secs(3_600))
}
