//! Which shards this process owns: it follows the history ring, takes what the ring gives it, hands over in
//! good order what the ring takes away, and takes back what it lost by accident.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicUsize, atomic::Ordering},
    time::Duration,
};

use cluster_membership::Role;
use cluster_runtime::{CancellationToken, TaskKind};
use futures::{StreamExt, future::join_all, stream};
use parking_lot::RwLock;
use proto_ids::{FailoverVersion, NamespaceId, ShardId, WorkflowId};

use crate::{
    commit::{Driver, Lane},
    error::ShardError,
    flush::Flusher,
    handover::Frozen,
    host::{Host, ShardsDeps},
    limits::NamespaceLimits,
    metrics::Meters,
    options::ShardsOptions,
    queue::{Executors, TimerQueue, VisibilityQueue, WorkerQueue, start_workers},
    record,
    shard::{Shard, ring_key},
};

/// Shards acquired at once.
const PARALLEL: usize = 16;

/// Pause before shards that could not be acquired are tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// Tells apart lanes of several kernels in one process.
static STARTED: AtomicUsize = AtomicUsize::new(0);

/// Starts what drives the queues of all shards.
fn start_queues(host: &Arc<Host>) {
    let tasks = &host.deps.tasks;
    let stop = tasks.token(TaskKind::Queue);
    let (timers, visibility, flusher) = (host.clone(), host.clone(), host.clone());
    let stops = (stop.clone(), stop.clone(), stop);
    tasks.spawn_restarting(TaskKind::Queue, "timers", move || {
        TimerQueue::run(timers.clone(), stops.0.clone())
    });
    tasks.spawn_restarting(TaskKind::Queue, "visibility", move || {
        VisibilityQueue::run(visibility.clone(), stops.1.clone())
    });
    tasks.spawn_restarting(TaskKind::Queue, "flusher", move || {
        Flusher::run(flusher.clone(), stops.2.clone())
    });
}

/// The shards of this process. Cheap to clone.
#[derive(Clone)]
pub struct Shards(Arc<ShardsInner>);

struct ShardsInner {
    host: Arc<Host>,
    /// One per shard of the cluster.
    slots: Vec<Slot>,
    draining: CancellationToken,
}

#[derive(Default)]
struct Slot {
    shard: RwLock<Option<Shard>>,
    acquiring: tokio::sync::Mutex<()>,
}

impl Shards {
    /// Starts the lanes and follows the ring. Tasks wait until [`Self::run_queues`] says who executes them.
    pub fn start(options: ShardsOptions, deps: ShardsDeps) -> Self {
        let tasks = deps.tasks.clone();
        tasks.count_restarts(&deps.metrics);
        let start = STARTED.fetch_add(1, Ordering::Relaxed);
        let unique = uuid::Uuid::new_v4().simple();
        let lanes = (0..options.lanes.max(1))
            .map(|n| {
                Arc::new(Lane::new(
                    format!("{}-{start}-{unique}-{n}", deps.membership.me().id),
                    &options,
                ))
            })
            .collect::<Vec<_>>();
        let slots = (0..options.shard_count.max(1))
            .map(|_| Slot::default())
            .collect();
        let host = Arc::new(Host {
            meters: Meters::new(&deps.metrics),
            limits: NamespaceLimits::new(deps.settings.clone()),
            lanes,
            transfer_queue: WorkerQueue::new("transfer"),
            timer_queue: WorkerQueue::new("timer"),
            timers: TimerQueue::default(),
            visibility_queue: VisibilityQueue::default(),
            flusher: Flusher::default(),
            executors: std::sync::OnceLock::new(),
            frozen: Frozen::default(),
            cache_bytes: AtomicUsize::new(0),
            event_cache_bytes: AtomicUsize::new(0),
            lost: tokio::sync::Notify::new(),
            unreadable: Default::default(),
            options,
            deps,
        });
        for lane in &host.lanes {
            let driver = Driver::new(lane.clone(), host.clone());
            let stop = tasks.token(TaskKind::Lane);
            tasks.spawn(
                TaskKind::Lane,
                format!("commit-{}", lane.name()),
                driver.drive(stop),
            );
        }
        start_queues(&host);
        let shards = Self(Arc::new(ShardsInner {
            host,
            slots,
            draining: CancellationToken::new(),
        }));
        let (ring, namespaces) = (shards.clone(), shards.clone());
        tasks.spawn_restarting(TaskKind::Background, "shard-ownership", move || {
            ring.clone().follow_ring()
        });
        tasks.spawn_restarting(TaskKind::Background, "failover-watch", move || {
            namespaces.clone().follow_namespaces()
        });
        shards
    }

    /// Begins to execute tasks. Only the first call counts.
    pub fn run_queues(&self, executors: Executors) {
        let host = &self.0.host;
        if host.executors.set(executors.clone()).is_err() {
            tracing::warn!("queues run already");
            return;
        }
        let (tasks, options) = (&host.deps.tasks, &host.options);
        start_workers(
            host,
            tasks,
            |h| &h.transfer_queue,
            &executors.transfer,
            options.transfer_workers,
        );
        start_workers(
            host,
            tasks,
            |h| &h.timer_queue,
            &executors.timer,
            options.timer_workers,
        );
    }

    /// Shards of the cluster.
    pub fn count(&self) -> i32 {
        self.0.host.options.shard_count
    }

    /// The shard of a workflow id, if it belongs here.
    pub async fn for_workflow(
        &self,
        namespace_id: &NamespaceId,
        workflow_id: &WorkflowId,
    ) -> Result<Shard, ShardError> {
        self.shard(ShardId::for_workflow(
            namespace_id,
            workflow_id,
            self.count(),
        ))
        .await
    }

    /// A shard, if it belongs here; acquired if it was not yet.
    pub async fn shard(&self, id: ShardId) -> Result<Shard, ShardError> {
        match self.live(id)? {
            Some(shard) => Ok(shard),
            None => self.acquire(id).await,
        }
    }

    /// Shards owned now.
    pub fn owned(&self) -> Vec<Shard> {
        let shards = self
            .0
            .slots
            .iter()
            .filter_map(|slot| slot.shard.read().clone());
        shards.filter(|s| !s.is_lost()).collect()
    }

    /// Hands everything over in good order: no new transactions, state and positions stored, shards given
    /// up. Shards are not taken again afterwards.
    pub async fn drain(&self) {
        self.0.draining.cancel();
        join_all(self.owned().into_iter().map(|shard| self.release(shard))).await;
    }

    pub(crate) fn host(&self) -> &Arc<Host> {
        &self.0.host
    }

    fn slot(&self, id: ShardId) -> Result<&Slot, ShardError> {
        let at = usize::try_from(id.get() - 1).ok();
        at.and_then(|at| self.0.slots.get(at))
            .ok_or(ShardError::NotOwner {
                shard: id,
                owner: None,
            })
    }

    fn live(&self, id: ShardId) -> Result<Option<Shard>, ShardError> {
        let shard = self.slot(id)?.shard.read().clone();
        Ok(shard.filter(|s| s.check().is_ok()))
    }

    fn is_mine(&self, id: ShardId) -> Result<bool, Option<String>> {
        let membership = &self.0.host.deps.membership;
        let ring = membership.ring(Role::History);
        match ring.owner(&ring_key(id)) {
            Some(owner) if membership.is_me(owner) => Ok(true),
            Some(owner) => Err(Some(owner.id.clone())),
            None => Err(None),
        }
    }

    async fn acquire(&self, id: ShardId) -> Result<Shard, ShardError> {
        let slot = self.slot(id)?;
        let _alone = slot.acquiring.lock().await;
        if let Some(shard) = self.live(id)? {
            return Ok(shard);
        }
        self.is_mine(id)
            .map_err(|owner| ShardError::NotOwner { shard: id, owner })?;
        if self.0.draining.is_cancelled() {
            return Err(ShardError::Unavailable(
                "the process is stopping".to_owned(),
            ));
        }
        // A shard that is being handed over is done with only when its last write has ended.
        let before = slot.shard.read().clone();
        if let Some(before) = before {
            self.release(before).await;
        }
        let host = &self.0.host;
        let me = &host.deps.membership.me().id;
        let record = host
            .deps
            .store
            .shard
            .shard_acquire(id, me, host.now())
            .await?;
        // The previous owner may have promised that a namespace is held back: what was stored before now counts.
        host.deps.registry.catch_up().await?;
        let stored = record::decode_ack_levels(&record.state)
            .map_err(|e| ShardError::Corrupt(format!("queue positions of shard {id}: {e}")))?;
        tracing::info!(shard = %id, range = %record.range, "acquired the shard");
        let shard = Shard::new(host.clone(), id, record.range, stored.clone());
        let first = *shard.replication_watermark().borrow();
        *slot.shard.write() = Some(shard.clone());
        self.count_owned();
        shard.recover(stored, first);
        Ok(shard)
    }

    async fn release(&self, shard: Shard) {
        if !shard.is_lost() {
            shard.flush_all().await;
            shard.close();
            // Transactions that were under way when it closed may have left something behind.
            shard.0.lane.barrier().await;
            shard.lose("released");
        }
        if let Ok(slot) = self.slot(shard.id()) {
            let mut held = slot.shard.write();
            if held.as_ref().is_some_and(|s| Arc::ptr_eq(&s.0, &shard.0)) {
                *held = None;
            }
        }
        self.count_owned();
    }

    fn count_owned(&self) {
        let owned = i64::try_from(self.owned().len()).unwrap_or(i64::MAX);
        self.0.host.meters.shards_owned.set(owned);
    }

    /// Compares wanted with actual whenever the ring changes or a shard is lost.
    async fn follow_ring(self) {
        let host = self.0.host.clone();
        let mut ring = host.deps.membership.watch(Role::History);
        loop {
            ring.borrow_and_update();
            let missing = self.reconcile().await;
            tokio::select! {
                changed = ring.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = host.lost.notified() => {}
                () = tokio::time::sleep(AGAIN), if missing > 0 => {}
                () = self.0.draining.cancelled() => return,
            }
        }
    }

    /// Returns how many shards are wanted and not there.
    async fn reconcile(&self) -> usize {
        if self.0.draining.is_cancelled() {
            return 0;
        }
        let not_mine = |s: &Shard| self.is_mine(s.id()).is_err();
        join_all(
            self.owned()
                .into_iter()
                .filter(not_mine)
                .map(|s| self.release(s)),
        )
        .await;
        let wanted = (1..=self.count()).map(ShardId::new);
        let missing =
            wanted.filter(|id| self.is_mine(*id).is_ok() && matches!(self.live(*id), Ok(None)));
        let acquired = stream::iter(missing.collect::<Vec<_>>()).map(|id| async move {
            match self.acquire(id).await {
                Ok(_) | Err(ShardError::NotOwner { .. }) => true,
                Err(error) => {
                    tracing::warn!(shard = %id, %error, "the shard cannot be acquired yet");
                    false
                }
            }
        });
        acquired
            .buffer_unordered(PARALLEL)
            .filter(|ok| std::future::ready(!ok))
            .count()
            .await
    }

    /// Workflow tasks that were made under an earlier version belong to workers of the side that was active
    /// before. Their timeouts are made due at once, so that the new side times them out now instead of after
    /// the rest of the timeout.
    fn time_out_predecessors(
        &self,
        before: &HashMap<NamespaceId, (FailoverVersion, bool)>,
        now: &HashMap<NamespaceId, (FailoverVersion, bool)>,
    ) {
        let deps = &self.0.host.deps;
        let here = deps.clusters.current_name();
        let taken: HashMap<NamespaceId, FailoverVersion> = now
            .iter()
            .filter(|(id, (version, _))| before.get(*id).is_some_and(|(old, _)| old < version))
            .filter(|(id, _)| {
                deps.registry
                    .by_id(id)
                    .is_some_and(|n| n.is_active_in(&here))
            })
            .map(|(id, (version, _))| (id.clone(), *version))
            .collect();
        if taken.is_empty() {
            return;
        }
        let fired = self.0.host.timers.fire_now(self.0.host.now(), |queued| {
            matches!(
                queued.task.kind,
                cluster_core::TaskKind::WorkflowTaskTimeout { .. }
            ) && taken
                .get(&queued.run.namespace_id)
                .is_some_and(|v| queued.task.version < *v)
        });
        if fired > 0 {
            tracing::info!(
                workflow_tasks = fired,
                "timing out workflow tasks of the side that was active before"
            );
        }
    }

    /// Wakes waiting tasks of namespaces that may have become active or standby here.
    async fn follow_namespaces(self) {
        let registry = self.0.host.deps.registry.clone();
        let mut changed = registry.watch();
        let mut known: HashMap<NamespaceId, (FailoverVersion, bool)> = HashMap::new();
        loop {
            changed.borrow_and_update();
            let now: HashMap<_, _> = registry
                .all()
                .into_iter()
                .map(|n| (n.id.clone(), (n.failover_version, n.handover)))
                .collect();
            for shard in self.owned() {
                shard
                    .0
                    .wait_list
                    .wake_namespaces(|id| known.get(id) != now.get(id));
            }
            self.time_out_predecessors(&known, &now);
            known = now;
            if changed.changed().await.is_err() {
                return;
            }
        }
    }
}
