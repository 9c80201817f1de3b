//! Rate limits by the generic cell rate algorithm: one number per bucket, the moment at which it would
//! be full again. The rate is an argument of every take, so a live setting works from the next call on.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use crate::clock::SharedClock;

/// How much may pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Sustained units per second. Zero or less lets nothing pass.
    pub per_second: f64,
    /// Units that may pass at once after a pause; at least 1 counts.
    pub burst: f64,
}

/// One bucket. Lock-free; share it behind an `Arc`.
#[derive(Debug)]
pub struct Bucket {
    clock: SharedClock,
    /// The theoretical arrival time of the next unit, in nanoseconds.
    full_at: AtomicI64,
}

impl Rate {
    /// A rate whose burst is one second's worth.
    pub fn per_second(per_second: f64) -> Self {
        Self {
            per_second,
            burst: per_second,
        }
    }

    /// The same rate with a burst of `ratio` seconds' worth.
    #[must_use]
    pub fn burst_ratio(self, ratio: f64) -> Self {
        Self {
            burst: self.per_second * ratio,
            ..self
        }
    }
}

impl Bucket {
    /// A bucket that has not been used for long.
    pub fn new(clock: SharedClock) -> Self {
        Self {
            clock,
            full_at: AtomicI64::new(i64::MIN),
        }
    }

    /// Takes `units`, or tells how long to wait until they could be taken. A refusal takes nothing.
    /// More units than the burst pass when the bucket is untouched, so a large unit is never starved.
    pub fn try_take(&self, rate: Rate, units: u32) -> Result<(), Duration> {
        if rate.per_second <= 0.0 || rate.per_second.is_nan() {
            return Err(Duration::MAX);
        }
        let interval = 1e9 / rate.per_second;
        let tolerance = (interval * rate.burst.max(1.0)) as i64;
        let cost = (interval * f64::from(units)) as i64;
        let now = self.clock.now_nanos();
        let mut seen = self.full_at.load(Ordering::Acquire);
        loop {
            let base = seen.max(now);
            let next = base.saturating_add(cost);
            let ahead = next.saturating_sub(now);
            if ahead > tolerance.max(cost) {
                let wait = ahead - tolerance.max(cost);
                return Err(Duration::from_nanos(wait.unsigned_abs()));
            }
            match self.full_at.compare_exchange_weak(
                seen,
                next,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return Ok(()),
                Err(other) => seen = other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn lets_the_burst_pass_then_the_rate() {
        let clock = ManualClock::new(1_000);
        let bucket = Bucket::new(clock.clone());
        let rate = Rate {
            per_second: 10.0,
            burst: 3.0,
        };
        for _ in 0..3 {
            bucket.try_take(rate, 1).unwrap();
        }
        assert_eq!(bucket.try_take(rate, 1), Err(Duration::from_millis(100)));
        clock.advance(Duration::from_millis(100));
        bucket.try_take(rate, 1).unwrap();
        assert!(bucket.try_take(rate, 1).is_err());
        // A raised rate counts at once.
        bucket
            .try_take(
                Rate {
                    per_second: 1000.0,
                    burst: 1000.0,
                },
                1,
            )
            .unwrap();
    }

    #[test]
    fn a_zero_rate_lets_nothing_pass() {
        let bucket = Bucket::new(ManualClock::new(0));
        assert_eq!(
            bucket.try_take(Rate::per_second(0.0), 1),
            Err(Duration::MAX)
        );
    }
}
