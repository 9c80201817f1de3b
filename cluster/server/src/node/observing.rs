//! Metrics of the node as a whole: its build, its store, its dead
//! letter queues, and which namespaces are held back or active. Names are Temporal's where there is one.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use cluster_runtime::{
    task::{TaskKind, Tasks},
    telemetry::Metrics,
};
use namespaces::{Clusters, Registry};
use parking_lot::Mutex;
use prometheus::{HistogramVec, IntCounter, IntCounterVec, IntGaugeVec};
use schema_sql::{Stats, WalCounters};
use schema_store::{
    observed::{Failure, Observer, Part},
    queue::{QueueInfo, QueueStore},
};

/// How often the store's counters go to the metrics.
const STATS_EVERY: Duration = Duration::from_secs(1);
/// How often the lengths of dead letter queues are read.
const LETTERS_EVERY: Duration = Duration::from_secs(10);

/// Tells once which program runs, so that a dashboard can show versions and restarts.
pub(super) fn program(metrics: &Metrics) {
    let labels = ["build_version", "build_platform"];
    let platform = format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS);
    metrics
        .gauges(
            "build_information",
            "Always 1; the labels tell the program.",
            &labels,
        )
        .with_label_values(&[env!("CARGO_PKG_VERSION"), &platform])
        .set(1);
    metrics
        .counter("restarts", "1 for each start of the process.")
        .inc();
}

/// Counts the store's calls.
pub(super) struct StoreMetrics {
    main: PartMetrics,
    visibility: PartMetrics,
}

struct PartMetrics {
    requests: IntCounterVec,
    errors: IntCounterVec,
    by_type: IntCounterVec,
    latency: HistogramVec,
}

impl StoreMetrics {
    pub(super) fn new(metrics: &Metrics) -> Arc<Self> {
        Arc::new(Self {
            main: PartMetrics::new(metrics, "persistence"),
            visibility: PartMetrics::new(metrics, "visibility_persistence"),
        })
    }
}

impl PartMetrics {
    fn new(metrics: &Metrics, prefix: &str) -> Self {
        let name = |what: &str| format!("{prefix}_{what}");
        Self {
            requests: metrics.counters(&name("requests"), "Calls of the store.", &["operation"]),
            errors: metrics.counters(
                &name("errors"),
                "Calls of the store that failed, and not because of what they asked.",
                &["operation"],
            ),
            by_type: metrics.counters(
                &name("error_with_type"),
                "Calls of the store that failed, by the kind of error.",
                &["operation", "error_type"],
            ),
            latency: metrics.latencies(
                &name("latency"),
                "Seconds that calls of the store took.",
                &["operation"],
            ),
        }
    }
}

impl Observer for StoreMetrics {
    fn called(
        &self,
        part: Part,
        operation: &'static str,
        took: Duration,
        failure: Option<Failure>,
    ) {
        let part = match part {
            Part::Main => &self.main,
            Part::Visibility => &self.visibility,
        };
        let labels = [operation];
        part.requests.with_label_values(&labels).inc();
        part.latency
            .with_label_values(&labels)
            .observe(took.as_secs_f64());
        let Some(failure) = failure else { return };
        part.by_type
            .with_label_values(&[operation, failure.kind])
            .inc();
        if failure.is_the_stores {
            part.errors.with_label_values(&labels).inc();
        }
    }
}

/// A counter that follows a number counted elsewhere.
struct Followed {
    counter: IntCounter,
    seen: AtomicU64,
}

impl Followed {
    fn new(counter: IntCounter) -> Self {
        let seen = AtomicU64::new(0);
        Self { counter, seen }
    }

    /// Adds what was added. A number that fell was reset where it is counted, and what it counts since is added.
    fn follow(&self, now: &AtomicU64) {
        let now = now.load(Ordering::Relaxed);
        let seen = self.seen.swap(now, Ordering::Relaxed);
        self.counter.inc_by(now.checked_sub(seen).unwrap_or(now));
    }
}

/// The store's counters of its log.
pub(super) fn log_counters(
    stats: Arc<Stats>,
    counters: WalCounters,
    metrics: &Metrics,
    tasks: &Tasks,
) {
    let syncs = Followed::new(metrics.counter(
        "meridian_store_fsyncs_total",
        "Syncs of the store's write-ahead log; for PostgreSQL of the whole server",
    ));
    let bytes = Followed::new(metrics.counter(
        "meridian_store_wal_bytes_total",
        "Bytes of write-ahead log, where the store tells",
    ));
    let followed = Arc::new((counters, stats, syncs, bytes));
    tasks.spawn_restarting(TaskKind::Background, "store-stats", move || {
        let followed = followed.clone();
        async move {
            let (counters, stats, syncs, bytes) = &*followed;
            loop {
                if let Err(error) = counters.read().await {
                    tracing::debug!(%error, "the store's counters cannot be read");
                }
                syncs.follow(&stats.wal_syncs);
                bytes.follow(&stats.wal_bytes);
                tokio::time::sleep(STATS_EVERY).await;
            }
        }
    });
}

/// How many messages wait in each dead letter queue.
pub(super) fn dead_letters(queues: Arc<dyn QueueStore>, metrics: &Metrics, tasks: &Tasks) {
    let waiting = metrics.gauges(
        "meridian_dead_letters",
        "Messages in each dead letter queue of the store.",
        &["queue"],
    );
    let known = Arc::new(Mutex::new(HashSet::new()));
    tasks.spawn_restarting(TaskKind::Background, "dead-letter-count", move || {
        let (queues, waiting, known) = (queues.clone(), waiting.clone(), known.clone());
        async move {
            loop {
                match queues.queue_list("").await {
                    Ok(found) => tell_dead_letters(found, &waiting, &mut known.lock()),
                    Err(error) => tracing::debug!(%error, "dead letters cannot be counted"),
                }
                tokio::time::sleep(LETTERS_EVERY).await;
            }
        }
    });
}

/// A queue that was told of before and is gone has nothing waiting any more.
fn tell_dead_letters(found: Vec<QueueInfo>, waiting: &IntGaugeVec, known: &mut HashSet<String>) {
    let mut gone = std::mem::take(known);
    for queue in found.into_iter().filter(|q| is_dead_letters(&q.name)) {
        waiting.with_label_values(&[&queue.name]).set(queue.len);
        gone.remove(&queue.name);
        known.insert(queue.name);
    }
    for name in gone {
        waiting.with_label_values(&[&name]).set(0);
    }
}

/// Namespace replication keeps its log in a queue, too; that one is never empty and nobody has to look at it.
fn is_dead_letters(queue: &str) -> bool {
    queue != namespaces::QUEUE
}

/// Which namespaces are active here, their versions, and how long their writes were held back.
pub(super) fn namespaces(registry: Registry, clusters: Clusters, metrics: &Metrics, tasks: &Tasks) {
    let active = metrics.gauges(
        "meridian_namespace_active",
        "1 where this cluster is the active one of the namespace.",
        &["namespace"],
    );
    let version = metrics.gauges(
        "meridian_namespace_failover_version",
        "The namespace's failover version.",
        &["namespace"],
    );
    let held = metrics.gauges(
        "meridian_namespace_handover",
        "1 while writes of the namespace are held back for a hand-over.",
        &["namespace"],
    );
    let holds = metrics.latencies(
        "meridian_namespace_handover_seconds",
        "Seconds that writes of a namespace were held back, as this process saw it.",
        &["namespace"],
    );
    let told = Arc::new(NamespaceMetrics {
        active,
        version,
        held,
        holds,
    });
    tasks.spawn_restarting(TaskKind::Background, "namespace-metrics", move || {
        let (registry, clusters, told) = (registry.clone(), clusters.clone(), told.clone());
        async move { told.follow(&registry, &clusters).await }
    });
}

struct NamespaceMetrics {
    active: IntGaugeVec,
    version: IntGaugeVec,
    held: IntGaugeVec,
    holds: HistogramVec,
}

impl NamespaceMetrics {
    async fn follow(&self, registry: &Registry, clusters: &Clusters) {
        let mut changed = registry.watch();
        let mut since = HashMap::new();
        loop {
            changed.borrow_and_update();
            let here = clusters.current_name();
            for namespace in registry.all() {
                let labels = [namespace.name.as_str()];
                let gauge =
                    |gauge: &IntGaugeVec, value| gauge.with_label_values(&labels).set(value);
                gauge(&self.active, i64::from(namespace.is_active_in(&here)));
                gauge(&self.version, namespace.failover_version.get());
                gauge(&self.held, i64::from(namespace.handover));
                if namespace.handover {
                    since
                        .entry(namespace.id.clone())
                        .or_insert_with(Instant::now);
                } else if let Some(begun) = since.remove(&namespace.id) {
                    let seconds = begun.elapsed().as_secs_f64();
                    self.holds.with_label_values(&labels).observe(seconds);
                }
            }
            if changed.changed().await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_never_falls_when_its_source_starts_again() {
        let metrics = Metrics::new();
        let followed = Followed::new(metrics.counter("x_total", "x"));
        for (now, told) in [(5, 5), (7, 7), (2, 9), (3, 10)] {
            followed.follow(&AtomicU64::new(now));
            assert_eq!(followed.counter.get(), told);
        }
    }

    #[test]
    fn the_stores_failures_are_told_apart_from_refusals() {
        let metrics = Metrics::of_cluster("west");
        let store = StoreMetrics::new(&metrics);
        let ended = |failure| store.called(Part::Main, "GetShard", Duration::ZERO, failure);
        ended(None);
        ended(Some(Failure {
            kind: "ConditionFailed",
            is_the_stores: false,
        }));
        ended(Some(Failure {
            kind: "Unavailable",
            is_the_stores: true,
        }));
        program(&metrics);
        let text = metrics.text();
        for line in [
            "persistence_requests{operation=\"GetShard\",cluster=\"west\"} 3",
            "persistence_errors{operation=\"GetShard\",cluster=\"west\"} 1",
            "persistence_error_with_type{error_type=\"ConditionFailed\",operation=\"GetShard\",cluster=\"west\"} 1",
            "restarts{cluster=\"west\"} 1",
            "build_information{build_platform=",
        ] {
            assert!(text.contains(line), "{line} is missing:\n{text}");
        }
    }
}
