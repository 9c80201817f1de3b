//! Histograms of the steps a workflow goes through, and counts of failed calls. Recording is switched
//! on for the measured part of a run only, so that warm-up does not show.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde::Serialize;
use tonic::Code;

/// Everything that is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Timed {
    /// The start call, from its intended time.
    StartRpc,
    /// From the intended start to the first workflow task in a worker's hands.
    StartToFirstTask,
    /// The answer to a workflow task.
    RespondRpc,
    /// The answer to an activity task.
    ActivityRespondRpc,
    /// A signal call.
    SignalRpc,
    /// From the intended start to the result seen by a long poll.
    StartToResult,
    /// How late a timer fired by the server's own record.
    TimerLateness,
    /// How late a worker held the task of a fired timer, by the worker's clock.
    TimerToWorker,
    /// From the acknowledgement on one cluster until a long poll on the other shows the write.
    ReplicationLag,
}

impl Timed {
    /// All of them, in the order of a report.
    pub const ALL: [Self; 9] = [
        Self::StartRpc,
        Self::StartToFirstTask,
        Self::RespondRpc,
        Self::ActivityRespondRpc,
        Self::SignalRpc,
        Self::StartToResult,
        Self::TimerLateness,
        Self::TimerToWorker,
        Self::ReplicationLag,
    ];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::StartRpc => "start call",
            Self::StartToFirstTask => "start to first task",
            Self::RespondRpc => "respond call",
            Self::ActivityRespondRpc => "activity respond call",
            Self::SignalRpc => "signal call",
            Self::StartToResult => "start to result",
            Self::TimerLateness => "timer lateness (event times)",
            Self::TimerToWorker => "timer lateness (at worker)",
            Self::ReplicationLag => "replication lag",
        }
    }
}

/// Longest time a histogram holds; longer ones count as this long.
const MICROS_MAX: u64 = 600_000_000;

/// Shared by every loop of a run.
pub struct Recorder {
    on: AtomicBool,
    histograms: [Mutex<Histogram<u64>>; Timed::ALL.len()],
    errors: Mutex<BTreeMap<(&'static str, String), u64>>,
    completed: AtomicU64,
}

impl Recorder {
    /// A recorder that does not record yet.
    pub fn new() -> anyhow::Result<Self> {
        let blank = Histogram::<u64>::new_with_bounds(1, MICROS_MAX, 3)?;
        Ok(Self {
            on: AtomicBool::new(false),
            histograms: Timed::ALL.map(|_| Mutex::new(blank.clone())),
            errors: Mutex::default(),
            completed: AtomicU64::new(0),
        })
    }

    /// Begins recording.
    pub fn begin(&self) {
        self.on.store(true, Ordering::Release);
    }

    /// Ends recording.
    pub fn end(&self) {
        self.on.store(false, Ordering::Release);
    }

    /// Adds one value.
    pub fn time(&self, what: Timed, took: Duration) {
        if self.on.load(Ordering::Acquire) {
            let micros = u64::try_from(took.as_micros()).unwrap_or(MICROS_MAX);
            self.histograms[what as usize]
                .lock()
                .saturating_record(micros.max(1));
        }
    }

    /// Counts a failed call.
    pub fn failed(&self, call: &'static str, code: Code) {
        if self.on.load(Ordering::Acquire) {
            *self
                .errors
                .lock()
                .entry((call, format!("{code:?}")))
                .or_default() += 1;
        }
    }

    /// Counts a workflow that ended.
    pub fn completed(&self) {
        if self.on.load(Ordering::Acquire) {
            self.completed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Workflows that ended so far while recording.
    pub fn completed_count(&self) -> u64 {
        self.completed.load(Ordering::Relaxed)
    }

    /// The summary of each step that has values.
    pub fn summaries(&self) -> Vec<Summary> {
        Timed::ALL
            .into_iter()
            .filter_map(|what| {
                let histogram = self.histograms[what as usize].lock();
                (!histogram.is_empty()).then(|| Summary::of(what.name(), &histogram))
            })
            .collect()
    }

    /// Failed calls by call and code.
    pub fn errors(&self) -> Vec<Failures> {
        self.errors
            .lock()
            .iter()
            .map(|((call, code), count)| Failures {
                call: (*call).to_owned(),
                code: code.clone(),
                count: *count,
            })
            .collect()
    }
}

/// Failed calls of one kind.
#[derive(Clone, Debug, Serialize)]
pub struct Failures {
    /// Which call.
    pub call: String,
    /// Its gRPC code.
    pub code: String,
    /// How many.
    pub count: u64,
}

/// A histogram in a few numbers, all in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The operation that was timed.
    pub step: String,
    /// How many values.
    pub count: u64,
    /// Median.
    pub p50_ms: f64,
    /// 90th percentile.
    pub p90_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// 99.9th percentile.
    pub p999_ms: f64,
    /// Largest.
    pub max_ms: f64,
}

impl Summary {
    /// Reads the numbers off a histogram of microseconds.
    pub fn of(step: &str, histogram: &Histogram<u64>) -> Self {
        let at = |q: f64| histogram.value_at_quantile(q) as f64 / 1000.0;
        Self {
            step: step.to_owned(),
            count: histogram.len(),
            p50_ms: at(0.50),
            p90_ms: at(0.90),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: histogram.max() as f64 / 1000.0,
        }
    }
}
