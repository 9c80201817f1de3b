//! Admission control of one process. A server that takes every call when more arrives than it can do
//! finishes nothing: all calls wait until their callers have given up. Here the least important calls are
//! refused at once instead, as many as needed to keep the others quick.
//!
//! The measure is the *standing delay*: the least time anything had to wait within a short window,
//! either for a turn on the runtime's threads or, beyond the commit before it, for its own commit. A burst
//! that drains leaves no standing delay; a queue that never empties does. While there is one, the shares of
//! the [`Class`]es that are let in shrink, the least important first ([`shares`]); when it is gone they grow
//! again. Beside that, the number of calls in flight is bounded, so that a store which answers nothing
//! cannot fill the memory.
//!
//! Work that was let in and waits for workers is part of the load, too: while the process is overloaded, new work is
//! refused for a queue that is [behind](Behind). Otherwise everything that is begun would go on at once and little of
//! it would end. A queue that is behind is no reason by itself: its workers may be slow, or have yet to start.
//!
//! A process that is not overloaded pays two atomic operations per call.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use prometheus::{Gauge, GaugeVec, IntCounterVec, IntGauge};
use tokio::{sync::Notify, time::Instant};

use crate::{
    settings::{AnyKey, Key, Settings},
    task::{TaskKind, Tasks},
    telemetry::Metrics,
};

mod behind;
mod busy;
mod shares;

pub use behind::Behind;
use busy::Busy;
use shares::{Shares, WHOLE};

static DELAY_MAX: Key<Duration> = Key::new(
    "system.overloadDelay",
    Duration::from_secs(2),
    "Standing delay of calls or commits above which calls are refused, new work first; 0 refuses none.",
);
static IN_FLIGHT_MAX: Key<i64> = Key::new(
    "system.maxInFlightRequests",
    2_000,
    "Calls, long polls apart, that one process serves at once; new work may take half of them.",
);

/// The settings of admission control.
pub static SETTINGS: &[&dyn AnyKey] = &[&DELAY_MAX, &IN_FLIGHT_MAX];

/// How long a standing delay is looked for at a time.
const WINDOW: Duration = Duration::from_millis(100);
/// Windows in a row with a standing delay before anything is refused: a machine that stalls is no overload.
const PATIENCE: u32 = 3;
/// Pause between two looks at how late a task gets its turn.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Part of the time in use from which on there is none to spare.
const BUSY: f64 = 0.65;
/// The delay that timers of a millisecond cannot distinguish from none.
const NO_DELAY: Duration = Duration::from_millis(5);
/// Pause between two lines about refused calls.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// How important a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Brings work that has begun to its end, such as a completion. Refused only when too many are in flight.
    Progress,
    /// Changes work that exists.
    Event,
    /// Reads.
    Read,
    /// Begins new work.
    Start,
}

/// Why a call is refused. Nothing of it has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The process has more to do than it can.
    Overloaded,
    /// Too many calls are in flight.
    InFlight,
    /// The work that waits already takes longer than the caller waits.
    Deadline,
    /// The queue that the work is for is behind, and the process is overloaded.
    Behind,
}

/// Admission control of one process. Clones are the same. One that was never [started](Self::start) refuses
/// nothing but calls beyond the number in flight.
#[derive(Clone)]
pub struct Overload(Arc<OverloadInner>);

struct OverloadInner {
    settings: Settings,
    shares: Shares,
    in_flight: AtomicI64,
    in_flight_max: AtomicI64,
    /// Standing delay of the last window, in nanoseconds.
    standing: AtomicU64,
    /// Least excess wait of a commit in this window, in nanoseconds; the maximum when there was none.
    commit_wait: AtomicU64,
    /// When the commit under way began, in nanoseconds since `epoch`; 0 when there is none.
    commit_since: AtomicU64,
    epoch: Instant,
    /// The watcher sleeps because no calls come.
    asleep: AtomicBool,
    called: AtomicBool,
    wake: Notify,
    refused: [AtomicU64; 4],
    /// The runtime's threads had next to no time to spare lately.
    is_busy: AtomicBool,
    /// Whether the queues of a name are behind, by the name of their owner and theirs.
    queues: Mutex<HashMap<QueueName, Vec<Arc<AtomicBool>>>>,
    watched: Watched,
}

/// Its metrics.
struct Watched {
    delay: Gauge,
    busy: Gauge,
    share: GaugeVec,
    in_flight: IntGauge,
    refused: IntCounterVec,
}

/// Names queues: of whom, and the name they share.
type QueueName = (String, String);

/// A call's place among those in flight; dropping it gives the place back.
#[derive(Debug)]
pub struct InFlight(Overload);

impl Class {
    const ALL: [Self; 4] = [Self::Progress, Self::Event, Self::Read, Self::Start];

    /// Its name in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Progress => "progress",
            Self::Event => "event",
            Self::Read => "read",
            Self::Start => "start",
        }
    }

    /// The part of the places in flight it may take, in eighths: what is less important leaves room for
    /// what is more.
    const fn eighths(self) -> i64 {
        match self {
            Self::Progress => 8,
            Self::Event => 7,
            Self::Read => 6,
            Self::Start => 4,
        }
    }
}

impl Refused {
    /// Its name in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Overloaded => "overloaded",
            Self::InFlight => "in_flight",
            Self::Deadline => "deadline",
            Self::Behind => "behind",
        }
    }
}

impl Overload {
    /// One that watches nothing yet.
    pub fn new(settings: Settings, metrics: &Metrics) -> Self {
        let watched = Watched {
            delay: metrics.float_gauge(
                "meridian_overload_delay_seconds",
                "Least time that calls and commits had to wait lately.",
            ),
            busy: metrics.float_gauge(
                "meridian_runtime_busy_share",
                "Part of the last second or so in which the threads that serve calls were not idle.",
            ),
            share: metrics.float_gauges(
                "meridian_admitted_share",
                "Part of the calls that is let in, by class; below 1 the process is overloaded.",
                &["class"],
            ),
            in_flight: metrics.gauge(
                "meridian_requests_in_flight",
                "Calls being served, long polls apart.",
            ),
            refused: metrics.counters(
                "meridian_refused_total",
                "Calls that admission control refused, by class and reason.",
                &["class", "reason"],
            ),
        };
        let inner = OverloadInner {
            in_flight_max: AtomicI64::new(settings.get(&IN_FLIGHT_MAX)),
            settings,
            shares: Shares::default(),
            in_flight: AtomicI64::new(0),
            standing: AtomicU64::new(0),
            commit_wait: AtomicU64::new(u64::MAX),
            commit_since: AtomicU64::new(0),
            epoch: Instant::now(),
            asleep: AtomicBool::new(false),
            called: AtomicBool::new(false),
            wake: Notify::new(),
            refused: Default::default(),
            is_busy: AtomicBool::new(false),
            queues: Mutex::default(),
            watched,
        };
        Self(Arc::new(inner))
    }

    /// Watches from now on.
    pub fn start(&self, tasks: &Tasks) {
        let this = self.clone();
        tasks.spawn_restarting(TaskKind::Background, "overload", move || {
            let this = this.clone();
            async move { this.watch().await }
        });
    }

    /// Lets a call in, which is in flight until what is returned is dropped. `left` is how long its caller
    /// still waits.
    pub fn admit(&self, class: Class, left: Option<Duration>) -> Result<InFlight, Refused> {
        self.admit_long(class)?;
        self.place(class, left)
    }

    /// Lets in a call that is among its class's share. Enough for one that waits by its nature, such as a long
    /// poll, and is therefore not in flight.
    pub fn admit_long(&self, class: Class) -> Result<(), Refused> {
        self.wake();
        match self.0.shares.admit(class) {
            true => Ok(()),
            false => Err(self.refuse(class, Refused::Overloaded)),
        }
    }

    /// A place in flight for a call that is among its class's share.
    pub fn place(&self, class: Class, left: Option<Duration>) -> Result<InFlight, Refused> {
        let inner = &*self.0;
        if let Some(left) = left
            && (left.is_zero() || class != Class::Progress && left < self.delay())
        {
            return Err(self.refuse(class, Refused::Deadline));
        }
        let most = inner.in_flight_max.load(Ordering::Relaxed);
        let before = inner.in_flight.fetch_add(1, Ordering::Relaxed);
        if before >= most * class.eighths() / 8 {
            inner.in_flight.fetch_sub(1, Ordering::Relaxed);
            return Err(self.refuse(class, Refused::InFlight));
        }
        Ok(InFlight(self.clone()))
    }

    /// Refuses new work for a queue that is behind, whatever its kind, while the process is overloaded.
    pub fn admit_to_queue(&self, owner: &str, queue: &str) -> Result<(), Refused> {
        let is_overloaded = self.0.shares.of(Class::Start) < WHOLE;
        if !is_overloaded && !self.0.is_busy.load(Ordering::Relaxed) {
            return Ok(());
        }
        let queues = self.0.queues.lock();
        let named = queues.get(&(owner.to_owned(), queue.to_owned()));
        let mut named = named.into_iter().flatten();
        let is_behind = named.any(|queue| queue.load(Ordering::Relaxed));
        drop(queues);
        match is_behind {
            true => Err(self.refuse(Class::Start, Refused::Behind)),
            false => Ok(()),
        }
    }

    fn wake(&self) {
        let inner = &*self.0;
        if !inner.called.load(Ordering::Relaxed) {
            inner.called.store(true, Ordering::SeqCst);
            if inner.asleep.load(Ordering::SeqCst) {
                inner.wake.notify_one();
            }
        }
    }

    fn refuse(&self, class: Class, why: Refused) -> Refused {
        let labels = [class.as_str(), why.as_str()];
        self.0.watched.refused.with_label_values(&labels).inc();
        self.0.refused[why as usize].fetch_add(1, Ordering::Relaxed);
        why
    }

    /// How long a call that comes now has to expect to wait.
    pub fn delay(&self) -> Duration {
        let standing = self.0.standing.load(Ordering::Relaxed);
        Duration::from_nanos(standing.max(self.commit_age()))
    }

    /// A commit begins. `waited` is how long the first write in it had waited beyond the commit before.
    pub fn commit_begins(&self, waited: Duration) {
        let now = nanos(self.0.epoch.elapsed()).max(1);
        // Of several lanes the oldest counts.
        let _ = self
            .0
            .commit_since
            .compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        let waited = nanos(waited);
        self.0.commit_wait.fetch_min(waited, Ordering::Relaxed);
    }

    /// It has ended.
    pub fn commit_ended(&self) {
        self.0.commit_since.store(0, Ordering::Relaxed);
    }

    /// The age of the commit under way, in nanoseconds.
    fn commit_age(&self) -> u64 {
        match self.0.commit_since.load(Ordering::Relaxed) {
            0 => 0,
            since => nanos(self.0.epoch.elapsed()).saturating_sub(since),
        }
    }

    async fn watch(&self) {
        let inner = &*self.0;
        let (mut late, mut said) = (0, Instant::now());
        let mut busy = Busy::new();
        loop {
            let delay = self.window().await;
            let share = busy.share();
            inner.watched.busy.set(share);
            inner.is_busy.store(share > BUSY, Ordering::Relaxed);
            inner.standing.store(nanos(delay), Ordering::Relaxed);
            let most = inner.settings.get(&DELAY_MAX);
            inner
                .in_flight_max
                .store(inner.settings.get(&IN_FLIGHT_MAX), Ordering::Relaxed);
            late = if !most.is_zero() && delay > most {
                late + 1
            } else {
                0
            };
            match late {
                0 => inner.shares.grow(),
                1..PATIENCE => {}
                // What is begun and read is refused only when refusing new work was not enough.
                _ if delay > 4 * most => inner.shares.shrink(Class::Event),
                _ => inner.shares.shrink(Class::Start),
            }
            self.tell(delay);
            if said.elapsed() >= SAY_EVERY {
                said = Instant::now();
                self.say(delay);
            }
            let is_idle = !inner.called.swap(false, Ordering::Relaxed);
            if is_idle && delay < NO_DELAY && inner.shares.are_whole() {
                self.say(delay);
                inner.asleep.store(true, Ordering::SeqCst);
                if !inner.called.load(Ordering::SeqCst) {
                    inner.wake.notified().await;
                }
                inner.asleep.store(false, Ordering::Relaxed);
            }
        }
    }

    /// The standing delay of the window that begins now.
    async fn window(&self) -> Duration {
        let inner = &*self.0;
        let begun = Instant::now();
        let mut turn = Duration::MAX;
        while begun.elapsed() < WINDOW {
            let due = Instant::now() + LOOK_EVERY;
            tokio::time::sleep_until(due).await;
            // Once around: behind everything that could run before.
            tokio::task::yield_now().await;
            turn = turn.min(due.elapsed());
        }
        let commit = match inner.commit_wait.swap(u64::MAX, Ordering::Relaxed) {
            u64::MAX => 0,
            waited => waited,
        };
        turn.max(Duration::from_nanos(commit))
    }

    fn tell(&self, delay: Duration) {
        let inner = &*self.0;
        inner.watched.delay.set(delay.as_secs_f64());
        let in_flight = inner.in_flight.load(Ordering::Relaxed);
        inner.watched.in_flight.set(in_flight);
        for class in Class::ALL {
            let share = inner.shares.of(class) as f64 / WHOLE as f64;
            let gauge = inner.watched.share.with_label_values(&[class.as_str()]);
            gauge.set(share);
        }
    }

    /// One line for all that were refused since the last one.
    fn say(&self, delay: Duration) {
        let take = |why: Refused| self.0.refused[why as usize].swap(0, Ordering::Relaxed);
        let overloaded = take(Refused::Overloaded);
        let in_flight = take(Refused::InFlight);
        let deadline = take(Refused::Deadline);
        let behind = take(Refused::Behind);
        if overloaded + in_flight + deadline + behind > 0 {
            tracing::warn!(
                overloaded,
                in_flight,
                deadline,
                behind,
                ?delay,
                "calls were refused: the process has more to do than it can"
            );
        }
    }
}

impl Default for Overload {
    fn default() -> Self {
        Self::new(Settings::new(), &Metrics::default())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Overload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let in_flight = self.0.in_flight.load(Ordering::Relaxed);
        write!(f, "Overload({in_flight} in flight, {:?})", self.delay())
    }
}

fn nanos(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
