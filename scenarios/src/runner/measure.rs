//! Takes the measures of a run: what was lacking at a forced failover, how long recovery took, how long
//! writes paused.

use std::collections::BTreeSet;

use proto_messages::temporal::api::history::v1::{HistoryEvent, history_event::Attributes};

use crate::{
    check::{
        Case, Holdings, Measured, RunKey, first_write_after, timer_lateness_ms, trouble_until,
        write_pause,
    },
    oracle::Call,
    reading,
    timeline::{Entry, Kind, LagSample},
    workload::Side,
};

/// Acknowledged writes a side lacks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lacking {
    /// How many.
    pub(super) writes: usize,
    /// The age of the oldest at the fault.
    pub(super) age_ms: u64,
}

/// Faults of a run and what they led to.
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) load_from_ms: u64,
    pub(super) load_until_ms: u64,
    pub(super) converge_ms: Option<u64>,
    pub(super) rpo: Option<Lacking>,
    struck: Vec<u64>,
    mended: Vec<u64>,
    /// Forced failovers: from whom, to whom, and the fault that led to it.
    forced: Vec<(String, String, u64)>,
}

impl Faults {
    pub(super) fn struck(&mut self, at_ms: u64) {
        self.struck.push(at_ms);
    }

    pub(super) fn mended(&mut self, at_ms: u64) {
        self.mended.push(at_ms);
    }

    pub(super) fn last_struck(&self) -> Option<u64> {
        self.struck.last().copied()
    }

    pub(super) fn forced(&mut self, from: String, to: &str, fault_ms: u64) {
        self.forced.push((from, to.to_owned(), fault_ms));
    }

    /// When every side that lost its role was seen to know the new active one, and both talked to each other
    /// again.
    pub(super) fn met_again_ms(&self, entries: &[Entry]) -> Option<u64> {
        let learned = |(from, to, fault_ms): &(String, String, u64)| {
            let knows = format!("{to} active");
            let learned = entries.iter().find(|e| {
                e.kind == Kind::Role
                    && e.cluster.as_ref() == Some(from)
                    && e.at_ms >= *fault_ms
                    && e.what.starts_with(&knows)
            });
            learned.map(|e| e.at_ms)
        };
        let learned: Option<Vec<u64>> = self.forced.iter().map(learned).collect();
        learned?.into_iter().max()
    }

    /// All measured values.
    pub(super) fn measured(&self, case: &Case, lag: &[LagSample]) -> Measured {
        let pause = write_pause(&case.calls, self.load_from_ms, self.load_until_ms);
        let mut lags: Vec<u64> = lag.iter().filter(|s| s.seen).map(|s| s.lag_ms).collect();
        lags.sort_unstable();
        let at = |q: f64| {
            lags.get(((lags.len().max(1) - 1) as f64 * q).round() as usize)
                .copied()
        };
        let surviving = case.clusters.iter().find(|c| c.cluster == case.active);
        Measured {
            rpo_ms: self.rpo.map(|r| r.age_ms),
            rpo_writes: self.rpo.map(|r| r.writes),
            rto_ms: self.rto_ms(&case.calls),
            write_pause_ms: pause.map(|p| p.0),
            write_pause_at_ms: pause.map(|p| p.1),
            timer_lateness_ms: surviving.and_then(timer_lateness_ms),
            converge_ms: self.converge_ms,
            lag_p50_ms: at(0.5),
            lag_p99_ms: at(0.99),
        }
    }

    /// After a forced failover: until the new active side acknowledged a write. Otherwise: until the last
    /// call before the fault was mended that failed or was slow.
    fn rto_ms(&self, calls: &[Call]) -> Option<u64> {
        if let Some((_, to, fault)) = self.forced.first() {
            return first_write_after(calls, to, *fault);
        }
        let fault = *self.struck.first()?;
        let until = self
            .mended
            .iter()
            .copied()
            .find(|m| *m >= fault)
            .unwrap_or(self.load_until_ms);
        Some(trouble_until(calls, fault, until))
    }
}

/// Which writes acknowledged between two moments a side does not hold now.
pub(super) async fn lacking(side: &Side, calls: &[Call], from_ms: u64, until_ms: u64) -> Lacking {
    let recent: Vec<&Call> = calls
        .iter()
        .filter(|c| c.acknowledged() && (from_ms..=until_ms).contains(&c.at_ms))
        .collect();
    let touched: BTreeSet<&str> = recent.iter().map(|c| c.workflow_id.as_str()).collect();
    let runs: BTreeSet<RunKey> = reading::runs_of(calls)
        .into_iter()
        .filter(|(id, _)| touched.contains(id.as_str()))
        .collect();
    let held = Holdings::of(&reading::histories(side, &runs).await);
    let lost: Vec<&&Call> = recent.iter().filter(|c| !held.hold(c)).collect();
    let oldest = lost.iter().map(|c| c.at_ms).min();
    Lacking {
        writes: lost.len(),
        age_ms: oldest.map_or(0, |at| until_ms.saturating_sub(at)),
    }
}

/// Whether a history holds a signal of this name.
pub(super) fn has_signal(events: &[HistoryEvent], name: &str) -> bool {
    events.iter().any(|e| match &e.attributes {
        Some(Attributes::WorkflowExecutionSignaledEventAttributes(a)) => a.signal_name == name,
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sides_have_met_when_the_old_one_knows() {
        let mut faults = Faults::default();
        let role = |at_ms, cluster: &str, what: &str| Entry {
            at_ms,
            until_ms: at_ms,
            kind: Kind::Role,
            cluster: Some(cluster.into()),
            what: what.into(),
        };
        let entries = [
            role(2_000, "east", "east active, version 2"),
            role(3_000, "west", "west active, version 1"),
            role(4_000, "west", "east active, version 2"),
        ];
        assert_eq!(faults.met_again_ms(&entries), None);
        faults.forced("west".into(), "east", 1_000);
        assert_eq!(faults.met_again_ms(&entries), Some(4_000));
        faults.forced("east".into(), "west", 5_000);
        assert_eq!(faults.met_again_ms(&entries), None, "that one never heard");
    }
}
