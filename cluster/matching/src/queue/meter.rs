//! A rate over about half a minute, cheaply.

use proto_ids::Timestamp;

/// Events per second over about half a minute, cheaply.
#[derive(Debug, Default)]
pub(super) struct RateMeter {
    rate: f64,
    /// The last event.
    pub(super) at: Timestamp,
}

impl RateMeter {
    pub(super) fn note(&mut self, now: Timestamp) {
        self.decay(now);
        self.rate += 1.0 / 30.0;
    }

    /// Takes back what was noted a moment ago.
    pub(super) fn forget(&mut self, now: Timestamp) {
        self.decay(now);
        self.rate = (self.rate - 1.0 / 30.0).max(0.0);
    }

    fn decay(&mut self, now: Timestamp) {
        let dt = now.since(self.at).as_secs_f64();
        self.rate *= (-dt / 30.0).exp();
        self.at = now;
    }

    /// Events per second.
    pub(super) fn read(&mut self, now: Timestamp) -> f32 {
        self.decay(now);
        self.rate as f32
    }
}
