//! How much of their time the runtime's threads are in use. A thread that has work and no processor counts as in use:
//! whether this process or another one takes the processors, there is no time to spare.

use std::time::Duration;

use tokio::{runtime::Handle, time::Instant};

/// Weight of the newest look.
const WEIGHT: f64 = 0.5;

/// The part of the time in use, smoothed.
pub(super) struct Busy {
    seen_at: Instant,
    seen: Duration,
    share: f64,
}

impl Busy {
    /// Counts from now on.
    pub(super) fn new() -> Self {
        Self {
            seen_at: Instant::now(),
            seen: total(),
            share: 0.0,
        }
    }

    /// The part of the time since the last call, and a little of that before.
    pub(super) fn share(&mut self) -> f64 {
        let (now, total) = (Instant::now(), total());
        let passed = (now - self.seen_at).as_secs_f64() * threads() as f64;
        if passed > 0.0 {
            let used = total.saturating_sub(self.seen).as_secs_f64() / passed;
            self.share += WEIGHT * (used.min(1.0) - self.share);
        }
        (self.seen_at, self.seen) = (now, total);
        self.share
    }
}

fn threads() -> usize {
    Handle::current().metrics().num_workers()
}

fn total() -> Duration {
    let metrics = Handle::current().metrics();
    let busy = |thread| metrics.worker_total_busy_duration(thread);
    (0..metrics.num_workers()).map(busy).sum()
}
