//! State that all shards of one process share: the store, the lanes, the queues' workers and the context of a
//! decision.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicUsize, Ordering},
};

use cluster_membership::Membership;
use cluster_runtime::{Metrics, Overload, Settings, SharedClock, Tasks};
use hashbrown::HashSet;
use namespaces::{Clusters, Namespace, Registry};
use parking_lot::Mutex;
use proto_ids::{NamespaceId, RunKey, ShardId, Timestamp};
use schema_store::Store;

use crate::{
    commit::Lane,
    error::TxnError,
    flush::Flusher,
    handover::Frozen,
    limits::NamespaceLimits,
    metrics::Meters,
    options::ShardsOptions,
    queue::{Executors, TimerQueue, VisibilityQueue, WorkerQueue},
};

/// The dependencies of the kernel.
#[derive(Clone)]
pub struct ShardsDeps {
    /// The store.
    pub store: Store,
    /// The membership of this cluster, which decides ownership.
    pub membership: Membership,
    /// Namespaces.
    pub registry: Registry,
    /// The cluster directory.
    pub clusters: Clusters,
    /// The time.
    pub clock: SharedClock,
    /// The group all tasks are spawned in.
    pub tasks: Tasks,
    /// Is notified of how long commits wait.
    pub overload: Overload,
    /// Live settings.
    pub settings: Settings,
    /// Metrics.
    pub metrics: Metrics,
}

pub(crate) struct Host {
    pub(crate) options: ShardsOptions,
    pub(crate) deps: ShardsDeps,
    pub(crate) meters: Meters,
    pub(crate) limits: NamespaceLimits,
    pub(crate) lanes: Vec<Arc<Lane>>,
    pub(crate) transfer_queue: WorkerQueue,
    pub(crate) timer_queue: WorkerQueue,
    pub(crate) timers: TimerQueue,
    pub(crate) visibility_queue: VisibilityQueue,
    pub(crate) flusher: Flusher,
    pub(crate) executors: OnceLock<Executors>,
    /// Namespaces frozen by an explicit barrier.
    pub(crate) frozen: Frozen,
    /// Notified when a shard is lost.
    pub(crate) lost: tokio::sync::Notify,
    pub(crate) cache_bytes: AtomicUsize,
    pub(crate) event_cache_bytes: AtomicUsize,
    /// Runs of which the log says that they cannot be read.
    pub(crate) unreadable: Mutex<HashSet<RunKey>>,
}

/// Unreadable runs that are remembered; more are told again.
const UNREADABLE_MAX: usize = 1_000;

impl Host {
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.deps.clock.now_nanos())
    }

    /// The lane a shard is pinned to.
    pub(crate) fn lane_of(&self, shard: ShardId) -> Arc<Lane> {
        let n = usize::try_from(shard.get()).unwrap_or(0) % self.lanes.len();
        self.lanes[n].clone()
    }

    /// The namespace, from the cache if it is there.
    pub(crate) async fn namespace<E>(
        &self,
        id: &NamespaceId,
    ) -> Result<Arc<Namespace>, TxnError<E>> {
        if let Some(known) = self.deps.registry.by_id(id) {
            return Ok(known);
        }
        let found = self.deps.registry.resolve_id(id).await;
        found
            .map_err(|e| TxnError::Shard(e.into()))?
            .ok_or_else(|| TxnError::NamespaceNotFound(id.clone()))
    }

    /// Whether the namespace may be written here now.
    pub(crate) fn admit<E>(&self, namespace: &Namespace) -> Result<(), TxnError<E>> {
        let current = self.deps.clusters.current_name();
        if !namespace.is_active_in(&current) {
            return Err(TxnError::NotActive {
                namespace: namespace.name.clone(),
                current,
                active: namespace.active_cluster.clone(),
            });
        }
        if namespace.handover || self.frozen.read().contains(&namespace.id) {
            return Err(TxnError::Handover(namespace.name.clone()));
        }
        Ok(())
    }

    /// Whether nobody was told yet that the run cannot be read.
    pub(crate) fn is_first_told_unreadable(&self, run: &RunKey) -> bool {
        let mut told = self.unreadable.lock();
        if told.len() >= UNREADABLE_MAX {
            told.clear();
        }
        told.insert(run.clone())
    }

    /// Accounts for a change of a cached size.
    pub(crate) fn recount(total: &AtomicUsize, before: usize, after: usize) {
        if after >= before {
            total.fetch_add(after - before, Ordering::Relaxed);
        } else {
            let _ = total.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| {
                Some(n.saturating_sub(before - after))
            });
        }
    }
}
