//! The clock of a run and what happened on it. Everything recorded carries milliseconds since the
//! run's beginning, so that calls, faults and role changes can be laid side by side.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use serde::Serialize;

/// The clock of one run; clones tell the same time.
#[derive(Clone, Copy, Debug)]
pub struct RunClock {
    begun: Instant,
    begun_wall: SystemTime,
}

impl RunClock {
    /// A clock that reads zero now.
    pub fn start() -> Self {
        Self {
            begun: Instant::now(),
            begun_wall: SystemTime::now(),
        }
    }

    /// Milliseconds since the beginning.
    pub fn now_ms(&self) -> u64 {
        self.ms_at(Instant::now())
    }

    /// Milliseconds from the beginning to `at`.
    pub fn ms_at(&self, at: Instant) -> u64 {
        millis(at.saturating_duration_since(self.begun))
    }

    /// The beginning in milliseconds since the epoch.
    pub fn begun_unix_ms(&self) -> u64 {
        self.begun_wall.duration_since(UNIX_EPOCH).map_or(0, millis)
    }

    /// The beginning in seconds since the epoch.
    pub fn begun_unix_seconds(&self) -> u64 {
        self.begun_wall
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_secs())
    }
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

/// The kind of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The operator did something.
    Action,
    /// Something was broken on purpose.
    Fault,
    /// A cluster's view of who is active changed.
    Role,
    /// Worth knowing.
    Note,
}

/// One thing that happened.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// When it began.
    pub at_ms: u64,
    /// When it was over; the same as its beginning for moments.
    pub until_ms: u64,
    /// Its kind.
    pub kind: Kind,
    /// The cluster it concerns, if one.
    pub cluster: Option<String>,
    /// The event.
    pub what: String,
}

/// How far behind one cluster was at a moment.
#[derive(Clone, Debug, Serialize)]
pub struct LagSample {
    /// When it was measured.
    pub at_ms: u64,
    /// Where the write was made.
    pub from: String,
    /// Where it showed.
    pub to: String,
    /// How long that took; for a write not seen yet, how long it has been missing.
    pub lag_ms: u64,
    /// Whether it has been seen.
    pub seen: bool,
}

/// Collects what happens; clones share it.
#[derive(Clone)]
pub struct Timeline {
    clock: RunClock,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Default)]
struct Kept {
    entries: Vec<Entry>,
    lag: Vec<LagSample>,
}

impl Timeline {
    /// An empty timeline on a clock.
    pub fn new(clock: RunClock) -> Self {
        Self {
            clock,
            kept: Arc::default(),
        }
    }

    /// The clock it uses.
    pub fn clock(&self) -> RunClock {
        self.clock
    }

    /// Notes something that happens now.
    pub fn mark(&self, kind: Kind, cluster: Option<&str>, what: impl Into<String>) {
        let now = self.clock.now_ms();
        self.span(now, kind, cluster, what);
    }

    /// Notes something that began at `from_ms` and is over now.
    pub fn span(&self, from_ms: u64, kind: Kind, cluster: Option<&str>, what: impl Into<String>) {
        let until_ms = self.clock.now_ms().max(from_ms);
        self.kept.lock().entries.push(Entry {
            at_ms: from_ms,
            until_ms,
            kind,
            cluster: cluster.map(str::to_owned),
            what: what.into(),
        });
    }

    /// Adds a measurement of lag.
    pub fn lag(&self, sample: LagSample) {
        self.kept.lock().lag.push(sample);
    }

    /// Everything noted, in order of time.
    pub fn entries(&self) -> Vec<Entry> {
        let mut entries = self.kept.lock().entries.clone();
        entries.sort_by_key(|e| e.at_ms);
        entries
    }

    /// All measurements of lag, in order of time.
    pub fn lag_samples(&self) -> Vec<LagSample> {
        let mut lag = self.kept.lock().lag.clone();
        lag.sort_by_key(|s| s.at_ms);
        lag
    }
}
