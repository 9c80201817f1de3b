//! Log lines that would come thousands at a time, such as one per refused call: one a second is logged, with the
//! number of those that were not.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Pause between two lines.
const PAUSE: Duration = Duration::from_secs(1);

/// One kind of line.
#[derive(Debug, Default)]
pub struct Sampled(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    told: Option<Instant>,
    untold: u64,
}

impl Sampled {
    /// One that has logged nothing yet.
    pub const fn new() -> Self {
        Self(Mutex::new(State {
            told: None,
            untold: 0,
        }))
    }

    /// Logs the line, given the number of lines dropped since the last one; or drops and counts it.
    pub fn say(&self, line: impl FnOnce(u64)) {
        let mut state = self.0.lock();
        if state.told.is_some_and(|at| at.elapsed() < PAUSE) {
            state.untold += 1;
            return;
        }
        state.told = Some(Instant::now());
        let untold = std::mem::take(&mut state.untold);
        drop(state);
        line(untold);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_lines_becomes_one_that_counts_the_others() {
        let sampled = Sampled::new();
        let mut told = Vec::new();
        for _ in 0..1_000 {
            sampled.say(|untold| told.push(untold));
        }
        assert_eq!(told, [0]);
        // As if a second had passed.
        sampled.0.lock().told = None;
        sampled.say(|untold| told.push(untold));
        assert_eq!(told, [0, 999]);
    }
}
