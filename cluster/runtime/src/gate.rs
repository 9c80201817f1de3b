//! Refuses new work and waits for old work. A [`Gate`] hands out guards while it is open; once closed
//! it hands out none, and [`Gate::drained`] returns when the last guard is gone. The invariant: after
//! `close` and `drained`, nobody is inside and nobody can get in.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Notify;

const CLOSED: usize = 1;
const ONE: usize = 2;

/// A door with a count of who is inside. Clones are the same gate.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<Inner>);

/// Proof of being inside; leaving is dropping it.
#[derive(Debug)]
pub struct GateGuard(Arc<Inner>);

/// The gate lets nobody in any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("closed")]
pub struct GateClosed;

#[derive(Debug, Default)]
struct Inner {
    /// Bit 0 says closed, the rest counts guards: one word, so that entering and closing cannot cross.
    state: AtomicUsize,
    empty: Notify,
}

impl Gate {
    /// An open gate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes in, unless the gate is closed.
    pub fn enter(&self) -> Result<GateGuard, GateClosed> {
        let before = self.0.state.fetch_add(ONE, Ordering::AcqRel);
        let guard = GateGuard(self.0.clone());
        // When closed, dropping the guard takes the count back.
        if before & CLOSED != 0 {
            Err(GateClosed)
        } else {
            Ok(guard)
        }
    }

    /// Lets nobody in from now on.
    pub fn close(&self) {
        if self.0.state.fetch_or(CLOSED, Ordering::AcqRel) < ONE {
            self.0.empty.notify_waiters();
        }
    }

    /// Whether the gate is closed.
    pub fn is_closed(&self) -> bool {
        self.0.state.load(Ordering::Acquire) & CLOSED != 0
    }

    /// How many are inside.
    pub fn inside(&self) -> usize {
        self.0.state.load(Ordering::Acquire) / ONE
    }

    /// Closes, and returns when nobody is inside.
    pub async fn drained(&self) {
        self.close();
        loop {
            let empty = self.0.empty.notified();
            tokio::pin!(empty);
            empty.as_mut().enable();
            if self.inside() == 0 {
                return;
            }
            empty.await;
        }
    }
}

impl Drop for GateGuard {
    fn drop(&mut self) {
        if self.0.state.fetch_sub(ONE, Ordering::AcqRel) == ONE + CLOSED {
            self.0.empty.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn drains_only_after_the_last_guard() {
        let gate = Gate::new();
        let (a, b) = (gate.enter().unwrap(), gate.enter().unwrap());
        let waiting = tokio::spawn({
            let gate = gate.clone();
            async move { gate.drained().await }
        });
        while !gate.is_closed() {
            tokio::task::yield_now().await;
        }
        assert_eq!(gate.enter().unwrap_err(), GateClosed);
        drop(a);
        assert_eq!(gate.inside(), 1);
        assert!(!waiting.is_finished());
        drop(b);
        waiting.await.unwrap();
    }

    #[tokio::test]
    async fn an_empty_gate_drains_at_once() {
        Gate::new().drained().await;
    }
}
