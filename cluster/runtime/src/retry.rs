//! Retries with growing, jittered pauses. The only user of the crate `backoff`, and only for the
//! arithmetic of the pauses; replacing it is a change of this file.

use std::{future::Future, time::Duration};

use backoff::{ExponentialBackoff, ExponentialBackoffBuilder, backoff::Backoff};
use tokio::time::Instant;

/// When to try again, and when to stop trying.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// The first pause, before jitter.
    pub initial: Duration,
    /// No pause is longer, before jitter.
    pub max: Duration,
    /// Each pause is this many times the one before.
    pub multiplier: f64,
    /// A pause is spread evenly over plus and minus this part of itself, 0 to 1.
    pub jitter: f64,
    /// Attempts in all, the first included; `None` means no limit.
    pub attempts: Option<u32>,
    /// No attempt starts later than this after the first; `None` means no limit.
    pub within: Option<Duration>,
}

/// The pauses of one run of attempts; endless, for callers with a loop of their own.
#[derive(Debug)]
pub struct Pauses(ExponentialBackoff);

impl Policy {
    /// Doubling pauses with 20 % jitter and no end.
    pub const fn exponential(initial: Duration, max: Duration) -> Self {
        Self {
            initial,
            max,
            multiplier: 2.0,
            jitter: 0.2,
            attempts: None,
            within: None,
        }
    }

    /// The same with a limit of attempts, the first included.
    #[must_use]
    pub const fn attempts(self, attempts: u32) -> Self {
        Self {
            attempts: Some(attempts),
            ..self
        }
    }

    /// The same with a limit of time from the first attempt on.
    #[must_use]
    pub const fn within(self, within: Duration) -> Self {
        Self {
            within: Some(within),
            ..self
        }
    }

    /// The pauses of this policy, without its limits.
    pub fn pauses(&self) -> Pauses {
        Pauses(
            ExponentialBackoffBuilder::new()
                .with_initial_interval(self.initial)
                .with_max_interval(self.max.max(self.initial))
                .with_multiplier(self.multiplier.max(1.0))
                .with_randomization_factor(self.jitter.clamp(0.0, 1.0))
                .with_max_elapsed_time(None)
                .build(),
        )
    }
}

impl Pauses {
    /// The pause before the next attempt.
    pub fn next_pause(&mut self) -> Duration {
        let fallback = self.0.max_interval;
        self.0.next_backoff().unwrap_or(fallback)
    }

    /// Begins again with the first pause, after a success.
    pub fn reset(&mut self) {
        self.0.reset();
    }
}

/// Runs `op` until it succeeds, fails in a way `is_retryable` refuses, or the policy's limits are met;
/// the last error is the answer. Dropping the future stops it, in a pause or inside `op`.
pub async fn retry<T, E, F, Op>(
    policy: &Policy,
    is_retryable: impl Fn(&E) -> bool,
    mut op: Op,
) -> Result<T, E>
where
    Op: FnMut() -> F,
    F: Future<Output = Result<T, E>>,
{
    let begun = Instant::now();
    let mut pauses = policy.pauses();
    let mut attempt = 1_u32;
    loop {
        let error = match op().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let pause = pauses.next_pause();
        let spent = policy.attempts.is_some_and(|limit| attempt >= limit)
            || policy
                .within
                .is_some_and(|limit| begun.elapsed() + pause > limit);
        if spent || !is_retryable(&error) {
            return Err(error);
        }
        attempt = attempt.saturating_add(1);
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy =
        Policy::exponential(Duration::from_millis(10), Duration::from_millis(40));

    async fn attempts_of(policy: Policy, fatal_at: u32) -> u32 {
        let mut made = 0;
        let result: Result<(), u32> = retry(
            &policy,
            |e| *e < fatal_at,
            || {
                made += 1;
                let made = made;
                async move { Err(made) }
            },
        )
        .await;
        assert_eq!(result, Err(made));
        made
    }

    #[tokio::test(start_paused = true)]
    async fn stops_at_each_limit() {
        assert_eq!(attempts_of(POLICY.attempts(4), 100).await, 4);
        assert_eq!(attempts_of(POLICY.attempts(4), 2).await, 2);
        let made = attempts_of(POLICY.within(Duration::from_millis(200)), 1000).await;
        assert!((5..=9).contains(&made), "{made}");
    }

    #[test]
    fn pauses_grow_to_the_maximum_and_begin_again() {
        let mut pauses = Policy {
            jitter: 0.0,
            ..POLICY
        }
        .pauses();
        let seen: Vec<_> = (0..4).map(|_| pauses.next_pause().as_millis()).collect();
        assert_eq!(seen, [10, 20, 40, 40]);
        pauses.reset();
        assert_eq!(pauses.next_pause().as_millis(), 10);
    }
}
