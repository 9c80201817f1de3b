//! Logs and metrics. Logs go through `tracing` to standard error; metrics live in a registry that is
//! passed by argument, so that several clusters in one process do not share numbers.

use std::{
    collections::{HashMap, HashSet},
    io::{self, IsTerminal},
    sync::Arc,
};

use parking_lot::Mutex;
use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, Registry, TextEncoder, core::Collector,
};
use tracing_subscriber::{
    EnvFilter, field::MakeExt, fmt, layer::SubscriberExt, util::SubscriberInitExt,
};

use crate::log_fields;

/// Upper bounds for latencies in seconds: 0.5 ms to 60 s.
pub const LATENCY_BUCKETS: &[f64] = &[
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0,
];

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For eyes.
    #[default]
    Pretty,
}

/// The logs could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter text cannot be read.
    #[error("read the log filter {0:?}")]
    Filter(String, #[source] tracing_subscriber::filter::ParseError),
    /// Something in this process has set up logs before.
    #[error("logs are set up already")]
    Twice,
}

/// Starts writing logs to standard error. `filter` is in the manner of `info,cluster_shard=debug`; the
/// environment variable `RUST_LOG` goes before it when set.
pub fn init_logs(format: LogFormat, filter: &str) -> Result<(), LogError> {
    let text = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_else(|_| filter.to_owned());
    let filter = EnvFilter::try_new(&text).map_err(|e| LogError::Filter(text, e))?;
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Json => registry
            .with(
                fmt::layer()
                    .json()
                    .flatten_event(true)
                    .with_writer(io::stderr),
            )
            .try_init(),
        LogFormat::Pretty => registry
            .with(
                fmt::layer()
                    .fmt_fields(fmt::format::debug_fn(log_fields::write).delimited(" "))
                    .with_ansi(colours(
                        io::stderr().is_terminal(),
                        std::env::var_os("NO_COLOR").as_deref(),
                    ))
                    .with_writer(io::stderr),
            )
            .try_init(),
    }
    .map_err(|_| LogError::Twice)
}

/// Whether log lines are coloured: on a terminal only, since in a file the codes are noise, and not where the user
/// declines it (<https://no-color.org>).
fn colours(is_terminal: bool, no_color: Option<&std::ffi::OsStr>) -> bool {
    is_terminal && no_color.is_none_or(|set| set.is_empty())
}

/// Label values that come from users, of which only so many are distinguished: the others share one.
pub struct Bounded {
    max: usize,
    seen: Mutex<HashSet<String>>,
}

impl Bounded {
    /// The value of those that are not distinguished.
    pub const OTHERS: &str = "_other_";

    /// Tells `max` values apart, those that come first.
    pub fn new(max: usize) -> Self {
        Self {
            max,
            seen: Mutex::default(),
        }
    }

    /// The value itself, or [`Bounded::OTHERS`].
    pub fn label<'a>(&self, value: &'a str) -> &'a str {
        let mut seen = self.seen.lock();
        if seen.contains(value) {
            return value;
        }
        if seen.len() >= self.max {
            return Self::OTHERS;
        }
        seen.insert(value.to_owned());
        value
    }
}

/// The metrics of one process. Cheap to clone. Asking for the same name twice gives the same metric, so
/// a component may be built again (a shard that comes back).
#[derive(Clone, Default)]
pub struct Metrics(Arc<MetricsInner>);

#[derive(Default)]
struct MetricsInner {
    registry: Registry,
    families: Mutex<HashMap<String, Known>>,
}

/// A metric that was asked for before.
struct Known {
    family: Family,
    labels: Vec<String>,
}

#[derive(Clone)]
enum Family {
    Counter(IntCounterVec),
    Gauge(IntGaugeVec),
    FloatGauge(GaugeVec),
    Histogram(HistogramVec),
}

macro_rules! family {
    ($(#[$doc:meta])* $method:ident, $variant:ident, $vec:ty, $opts:ident) => {
        $(#[$doc])*
        pub fn $method(&self, name: &str, help: &str, labels: &[&str]) -> $vec {
            let mut families = self.0.families.lock();
            let known = families.get(name);
            if let Some(Family::$variant(known)) = known.and_then(|k| k.of(labels)) {
                return known.clone();
            }
            let made = <$vec>::new(Self::$opts(name, help), labels).unwrap_or_else(|error| {
                tracing::error!(metric = name, %error, "metric has an unusable name or label");
                <$vec>::new(Self::$opts("meridian_unusable", help), &[]).expect("a constant name is usable")
            });
            self.add(&mut families, name, labels, Family::$variant(made.clone()), made.clone());
            made
        }
    };
}

impl Known {
    /// The family, if it has these labels.
    fn of(&self, labels: &[&str]) -> Option<&Family> {
        (self.labels == labels).then_some(&self.family)
    }

    /// Why another one of this name cannot be told.
    fn conflict(&self, labels: &[&str], family: &Family) -> String {
        format!(
            "a {} of this name has the labels [{}] already, and a {} with [{}] is asked for: one of them needs another name; \
             what the second one counts is not told",
            self.family.kind(),
            self.labels.join(", "),
            family.kind(),
            labels.join(", "),
        )
    }
}

impl Family {
    const fn kind(&self) -> &'static str {
        match self {
            Self::Counter(_) => "counter",
            Self::Gauge(_) | Self::FloatGauge(_) => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

impl Metrics {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// A registry of one cluster: every metric carries its name, and the CPU, memory and open files of this process
    /// are told, too.
    pub fn of_cluster(cluster: &str) -> Self {
        let labels = HashMap::from([("cluster".to_owned(), cluster.to_owned())]);
        let registry = Registry::new_custom(None, Some(labels)).unwrap_or_else(|error| {
            tracing::error!(%error, "metrics cannot carry the cluster's name");
            Registry::new()
        });
        let metrics = Self(Arc::new(MetricsInner {
            registry,
            families: Mutex::default(),
        }));
        #[cfg(target_os = "linux")]
        metrics.register(
            "process",
            prometheus::process_collector::ProcessCollector::for_self(),
        );
        metrics
    }

    /// The registry, for collectors of one's own.
    pub fn registry(&self) -> &Registry {
        &self.0.registry
    }

    /// Everything, in Prometheus' text format.
    pub fn text(&self) -> String {
        let mut out = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.0.registry.gather(), &mut out) {
            tracing::warn!(%error, "metrics could not be encoded");
        }
        String::from_utf8_lossy(&out).into_owned()
    }

    /// The content type of [`Metrics::text`].
    pub const CONTENT_TYPE: &'static str = "text/plain; version=0.0.4";

    family!(
        /// Counters distinguished by labels.
        counters, Counter, IntCounterVec, opts
    );
    family!(
        /// Whole-numbered gauges distinguished by labels.
        gauges, Gauge, IntGaugeVec, opts
    );
    family!(
        /// Gauges with fractions distinguished by labels.
        float_gauges, FloatGauge, GaugeVec, opts
    );
    family!(
        /// Latency histograms in seconds ([`LATENCY_BUCKETS`]) distinguished by labels.
        latencies, Histogram, HistogramVec, latency_opts
    );

    /// A histogram with upper bounds of its own, distinguished by labels.
    pub fn histograms(
        &self,
        name: &str,
        help: &str,
        bounds: &[f64],
        labels: &[&str],
    ) -> HistogramVec {
        let mut families = self.0.families.lock();
        let known = families.get(name);
        if let Some(Family::Histogram(known)) = known.and_then(|k| k.of(labels)) {
            return known.clone();
        }
        let opts = HistogramOpts::new(name, help).buckets(bounds.to_vec());
        let Ok(made) = HistogramVec::new(opts, labels) else {
            drop(families);
            tracing::error!(metric = name, "histogram has unusable bounds");
            return self.latencies(name, help, labels);
        };
        let family = Family::Histogram(made.clone());
        self.add(&mut families, name, labels, family, made.clone());
        made
    }

    /// Registers a metric. One whose name means something else already can be used, but is not told: whoever asked
    /// for it must not fail later where it counts.
    fn add(
        &self,
        families: &mut HashMap<String, Known>,
        name: &str,
        labels: &[&str],
        family: Family,
        collector: impl Collector + 'static,
    ) {
        if let Some(known) = families.get(name) {
            let error = known.conflict(labels, &family);
            tracing::error!(metric = name, error, "metric could not be registered");
            return;
        }
        self.register(name, collector);
        let labels = labels.iter().map(|l| (*l).to_owned()).collect();
        families.insert(name.to_owned(), Known { family, labels });
    }

    /// One counter.
    pub fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.counters(name, help, &[])
            .with_label_values::<&str>(&[])
    }

    /// One whole-numbered gauge.
    pub fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.gauges(name, help, &[]).with_label_values::<&str>(&[])
    }

    /// One gauge with fractions.
    pub fn float_gauge(&self, name: &str, help: &str) -> Gauge {
        self.float_gauges(name, help, &[])
            .with_label_values::<&str>(&[])
    }

    /// One latency histogram.
    pub fn latency(&self, name: &str, help: &str) -> Histogram {
        self.latencies(name, help, &[])
            .with_label_values::<&str>(&[])
    }

    fn opts(name: &str, help: &str) -> Opts {
        Opts::new(name, help)
    }

    fn latency_opts(name: &str, help: &str) -> HistogramOpts {
        HistogramOpts::new(name, help).buckets(LATENCY_BUCKETS.to_vec())
    }

    fn register(&self, name: &str, collector: impl Collector + 'static) {
        if let Err(error) = self.0.registry.register(Box::new(collector)) {
            tracing::error!(metric = name, %error, "metric could not be registered and will not be told");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_name_is_the_same_metric() {
        let metrics = Metrics::of_cluster("west");
        metrics
            .counters("requests_total", "Requests.", &["operation"])
            .with_label_values(&["start"])
            .inc();
        metrics
            .counters("requests_total", "Requests.", &["operation"])
            .with_label_values(&["start"])
            .inc();
        metrics.latency("commit_seconds", "Commits.").observe(0.003);
        let text = metrics.text();
        assert!(
            text.contains("requests_total{operation=\"start\",cluster=\"west\"} 2"),
            "{text}"
        );
        assert!(
            text.contains("commit_seconds_bucket{cluster=\"west\",le=\"0.005\"} 1"),
            "{text}"
        );
    }

    #[test]
    fn a_name_that_has_other_labels_is_an_error_and_harms_nobody() {
        let metrics = Metrics::new();
        let first = metrics.counters("calls_total", "Calls.", &["operation"]);
        first.with_label_values(&["start"]).inc();
        // Neither of these may fail where it is used.
        let second = metrics.counters("calls_total", "Calls.", &["operation", "namespace"]);
        second.with_label_values(&["start", "orders"]).inc();
        let third = metrics.gauges("calls_total", "Calls.", &["operation"]);
        third.with_label_values(&["start"]).set(7);
        let again = metrics.counters("calls_total", "Calls.", &["operation"]);
        again.with_label_values(&["start"]).inc();
        let text = metrics.text();
        assert!(
            text.contains("calls_total{operation=\"start\"} 2\n"),
            "{text}"
        );
        assert!(!text.contains("orders") && !text.contains(" 7\n"), "{text}");

        let families = metrics.0.families.lock();
        let told =
            families["calls_total"].conflict(&["operation", "namespace"], &Family::Counter(second));
        for words in [
            "a counter of this name has the labels [operation]",
            "[operation, namespace]",
        ] {
            assert!(told.contains(words), "{told}");
        }
    }

    #[test]
    fn logs_are_coloured_on_a_terminal_only() {
        assert!(colours(true, None));
        assert!(colours(true, Some("".as_ref())));
        assert!(!colours(true, Some("1".as_ref())));
        assert!(!colours(false, None));
    }

    #[test]
    fn values_from_users_are_told_apart_up_to_a_limit() {
        let queues = Bounded::new(2);
        assert_eq!(
            ["a", "b", "c", "a"].map(|q| queues.label(q)),
            ["a", "b", Bounded::OTHERS, "a"]
        );
    }
}
