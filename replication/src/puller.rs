//! The receiving side of streams, on worker hosts. For every enabled remote cluster, every own shard and
//! every remote shard that maps to it there is one stream, opened by the worker host that owns it in the
//! worker ring. A reconciler compares the streams that should be with those that are, woken by changes of
//! the directory and the ring and by a period; a stream that ends is opened again with growing pauses.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use cluster_membership::{Membership, Role};
use cluster_rpc::ReplicationClient;
use cluster_runtime::{
    CancellationToken, Key, Metrics, Settings, SharedClock, TaskKind, Tasks, retry, task::Task,
};
use parking_lot::Mutex;
use proto_ids::{ClusterName, ShardId};
use tokio::time::Instant;
use tracing::Instrument;

use crate::{
    dead_letters::DeadLetters,
    metrics::Received,
    remotes::{self, Remotes},
    route::{self, End, StreamKey},
    watermark::Mark,
};

mod lanes;
mod received;
mod reconnects;
mod stream;

pub use lanes::{Lanes, Mode};

use reconnects::Reconnects;

/// How often wanted and actual streams are compared, without a reason to.
const RECONCILE_EVERY: Duration = Duration::from_secs(2);

const RECONNECT: retry::Policy =
    retry::Policy::exponential(Duration::from_millis(50), Duration::from_secs(5));

/// A stream that held this long begins its next pauses from the shortest.
const HELD_LONG: Duration = Duration::from_secs(10);

/// Tasks of one stream that are waiting or being applied, beyond which the stream is not read.
pub static OUTSTANDING_MAX: Key<usize> = Key::new(
    "history.ReplicationReceiverMaxOutstandingTaskCount",
    500,
    "Tasks of one replication stream that may wait or be applied before it is no longer read.",
);

/// Tasks of one stream that are applied side by side; those of one workflow id never are.
pub static APPLY_AT_ONCE: Key<usize> = Key::new(
    "history.ReplicationProcessorSchedulerWorkerCount",
    64,
    "Tasks of one replication stream that are applied side by side.",
);

/// How long applying one task may take before it is tried again.
pub static APPLY_TIMEOUT: Key<Duration> = Key::new(
    "history.ReplicationTaskApplyTimeout",
    Duration::from_secs(20),
    "How long applying one replication task may take before it is tried again.",
);

/// Attempts to apply one task before it becomes a dead letter.
pub static APPLY_ATTEMPTS_MAX: Key<u32> = Key::new(
    "history.ReplicationTaskProcessorErrorRetryMaxAttempts",
    80,
    "Attempts to apply one replication task before it becomes a dead letter.",
);

/// The dependencies of pullers.
#[derive(Clone)]
pub struct PullerDeps {
    /// Clients of remote clusters, and the directory.
    pub remotes: Remotes,
    /// The membership of this cluster.
    pub membership: Membership,
    /// The applying side, on the hosts that own the shards.
    pub replication: ReplicationClient,
    /// Where tasks go that cannot be applied.
    pub dead_letters: DeadLetters,
    /// The time.
    pub clock: SharedClock,
    /// Live settings.
    pub settings: Settings,
    /// Where metrics are registered.
    pub metrics: Metrics,
    /// The group whose tasks the streams are.
    pub tasks: Tasks,
}

/// How one stream stands, for status and tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullStatus {
    /// The remote cluster.
    pub cluster: ClusterName,
    /// Both ends.
    pub key: StreamKey,
    /// Whether messages have come over the connection of the moment.
    pub connected: bool,
    /// Everything below is done here.
    pub low: Option<Mark>,
    /// Everything below was sent.
    pub high: Option<Mark>,
    /// Tasks waiting or being applied.
    pub pending: usize,
    /// Why the last connection ended.
    pub last_error: Option<String>,
}

/// A handle on the pullers of this host. Cheap to clone.
#[derive(Clone)]
pub struct Pullers(Arc<PullersInner>);

struct PullersInner {
    deps: PullerDeps,
    meters: Received,
    reconnects: Reconnects,
    streams: Mutex<HashMap<Wanted, Running>>,
}

/// A stream that this host has to keep open.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Wanted {
    cluster: ClusterName,
    /// A cluster that moved is a new stream.
    address: String,
    key: StreamKey,
}

struct Running {
    cancel: CancellationToken,
    task: Task<()>,
    status: Arc<Mutex<PullStatus>>,
}

impl Pullers {
    /// Starts the reconciler as a task of `deps.tasks`; streams follow it.
    pub fn start(deps: PullerDeps) -> Self {
        let tasks = deps.tasks.clone();
        tasks.count_restarts(&deps.metrics);
        let meters = Received::new(&deps.metrics);
        let pullers = Self(Arc::new(PullersInner {
            deps,
            reconnects: Reconnects::new(meters.reconnects.clone()),
            meters,
            streams: Mutex::default(),
        }));
        let deps = &pullers.0.deps;
        let (letters, clusters) = (deps.dead_letters.clone(), deps.remotes.clusters().clone());
        let meter = pullers.0.meters.letters.clone();
        tasks.spawn_restarting(TaskKind::Background, "dead-letter-count", move || {
            letters
                .clone()
                .keep_measuring(clusters.clone(), meter.clone())
        });
        let reconciler = pullers.clone();
        tasks.spawn_restarting(TaskKind::Background, "replication-pullers", move || {
            let reconciler = reconciler.clone();
            async move { reconciler.reconcile_for_ever().await }
        });
        pullers
    }

    /// How the streams of this host stand.
    pub fn status(&self) -> Vec<PullStatus> {
        let streams = self.0.streams.lock();
        let mut all: Vec<_> = streams.values().map(|s| s.status.lock().clone()).collect();
        all.sort_by_key(|status| status.key);
        all
    }

    async fn reconcile_for_ever(&self) {
        let mut clusters = self.0.deps.remotes.clusters().watch();
        let mut ring = self.0.deps.membership.watch(Role::Worker);
        loop {
            self.reconcile();
            self.count();
            tokio::select! {
                _ = clusters.changed() => {}
                _ = ring.changed() => {}
                () = tokio::time::sleep(RECONCILE_EVERY) => {}
            }
        }
    }

    fn count(&self) {
        let mut by_cluster: HashMap<ClusterName, (i64, i64)> = HashMap::new();
        for status in self.status() {
            let counts = by_cluster.entry(status.cluster).or_default();
            counts.0 += i64::from(status.connected);
            counts.1 += i64::try_from(status.pending).unwrap_or(i64::MAX);
        }
        for (cluster, (connected, pending)) in by_cluster {
            let label = &[cluster.as_str()];
            self.0
                .meters
                .streams
                .with_label_values(label)
                .set(connected);
            self.0.meters.pending.with_label_values(label).set(pending);
        }
    }

    fn reconcile(&self) {
        let wanted = self.wanted();
        let mut streams = self.0.streams.lock();
        streams.retain(|key, running| {
            let keep = wanted.contains(key) && !running.task.is_finished();
            if !keep {
                running.cancel.cancel();
            }
            keep
        });
        for key in wanted {
            streams.entry(key).or_insert_with_key(|key| self.spawn(key));
        }
    }

    /// The streams that belong to this host.
    fn wanted(&self) -> BTreeSet<Wanted> {
        let deps = &self.0.deps;
        let clusters = deps.remotes.clusters();
        let (own, ring) = (clusters.current(), deps.membership.ring(Role::Worker));
        let mut wanted = BTreeSet::new();
        let all = clusters.remotes().into_iter();
        for remote in all.filter(|remote| remotes::may_replicate(remote, &deps.settings)) {
            if !route::counts_fit(own.shard_count, remote.shard_count) {
                tracing::warn!(
                    remote_cluster = %remote.name,
                    shards = remote.shard_count,
                    own_shards = own.shard_count,
                    shards_max = route::SHARDS_MAX,
                    "shard counts do not fit; nothing is replicated from this cluster"
                );
                continue;
            }
            for shard in (1..=own.shard_count).map(ShardId::new) {
                let owner = ring.owner(&format!("replication/{}/{shard}", remote.name));
                if !owner.is_some_and(|owner| deps.membership.is_me(owner)) {
                    continue;
                }
                let sources = route::mapped_shards(shard, own.shard_count, remote.shard_count);
                wanted.extend(sources.into_iter().map(|source| Wanted {
                    cluster: remote.name.clone(),
                    address: remote.address.clone(),
                    key: StreamKey {
                        client: end(own.initial_failover_version, shard),
                        server: end(remote.initial_failover_version, source),
                    },
                }));
            }
        }
        wanted
    }

    fn spawn(&self, wanted: &Wanted) -> Running {
        let status = Arc::new(Mutex::new(PullStatus {
            cluster: wanted.cluster.clone(),
            key: wanted.key,
            connected: false,
            low: None,
            high: None,
            pending: 0,
            last_error: None,
        }));
        let stream = stream::PullStream {
            cluster: wanted.cluster.clone(),
            key: wanted.key,
            deps: self.0.deps.clone(),
            status: status.clone(),
            applied: AtomicU64::new(0),
            meters: self.0.meters.clone(),
        };
        let reconnects = self.0.reconnects.clone();
        let cancel = CancellationToken::new();
        let cancelled = cancel.clone();
        let name = format!("pull-{}-{}", wanted.cluster, wanted.key.client.shard);
        let span = tracing::info_span!("pull", remote_cluster = %wanted.cluster,
            shard = %wanted.key.client.shard, remote_shard = %wanted.key.server.shard);
        let pulling = async move {
            tokio::select! {
                () = keep_open(stream, reconnects) => {}
                () = cancelled.cancelled() => {}
            }
        };
        let tasks = &self.0.deps.tasks;
        let task = tasks.spawn(TaskKind::Stream, name, pulling.instrument(span));
        Running {
            cancel,
            task,
            status,
        }
    }
}

/// Opens the stream again and again.
async fn keep_open(stream: stream::PullStream, reconnects: Reconnects) {
    let mut pauses = RECONNECT.pauses();
    let mut refused = 0_u32;
    loop {
        let begun = Instant::now();
        let ended = stream.run().await;
        let was_connected = {
            let mut status = stream.status.lock();
            status.last_error = Some(ended.to_string());
            std::mem::take(&mut status.connected)
        };
        if begun.elapsed() > HELD_LONG {
            pauses.reset();
        }
        refused = if was_connected { 0 } else { refused + 1 };
        let (cluster, reason) = (&stream.cluster, ended.to_string());
        if was_connected {
            reconnects.ended(cluster, ended.is_move(), &reason);
        } else {
            reconnects.refused(cluster, refused, &reason);
        }
        tokio::time::sleep(pauses.next_pause()).await;
    }
}

/// Failures in a row are told sparsely. The first ones are not: while two clusters are being made known to each
/// other, one of them always calls too early.
pub(crate) fn is_worth_a_line(failures: u32) -> bool {
    failures >= 4 && failures.is_power_of_two()
}

fn end(initial_failover_version: i64, shard: ShardId) -> End {
    // Admission of a cluster bounds its initial version to 31 bits.
    End {
        cluster: i32::try_from(initial_failover_version).unwrap_or(0),
        shard,
    }
}
