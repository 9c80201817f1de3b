//! The measurements of a run, and whether it kept the drill's limits.

use serde::Serialize;

use super::{Histories, Judgement, timers};
use crate::{
    definition::Span,
    oracle::{Call, Op},
};

/// The values a drill measures, in milliseconds. Absent where the drill has no such thing.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Measured {
    /// How far back the oldest acknowledged write lies that the new active side lacked when it was
    /// forced to take over, counted from the fault.
    pub rpo_ms: Option<u64>,
    /// How many acknowledged writes it lacked then.
    pub rpo_writes: Option<usize>,
    /// From the fault until writes succeeded again.
    pub rto_ms: Option<u64>,
    /// The longest time without one acknowledged write of a client.
    pub write_pause_ms: Option<u64>,
    /// When that pause began.
    pub write_pause_at_ms: Option<u64>,
    /// The latest timer.
    pub timer_lateness_ms: Option<u64>,
    /// How long all clusters took to become equal at the end.
    pub converge_ms: Option<u64>,
    /// Median of the measured replication lag.
    pub lag_p50_ms: Option<u64>,
    /// 99th percentile of the measured replication lag.
    pub lag_p99_ms: Option<u64>,
}

impl Measured {
    /// A planned change has no fault to count from. What it promises is judged all the same: no acknowledged write is
    /// lost, which is a recovery point of nothing, and recovery takes as long as writes paused.
    pub(crate) fn planned(&mut self, judgements: &[Judgement]) {
        let nothing_lost = judgements
            .iter()
            .any(|j| j.rule == super::acknowledged::RULE && j.passed);
        if self.rpo_writes.is_none() && nothing_lost {
            self.rpo_writes = Some(0);
            self.rpo_ms = Some(0);
        }
        self.rto_ms = self.rto_ms.or(self.write_pause_ms);
    }
}

/// Judges one measured value.
pub fn within(rule: &str, measured_ms: Option<u64>, limit: Option<Span>) -> Option<Judgement> {
    let limit = limit?;
    let limit_ms = limit.get().as_millis();
    let (passed, finding) = match measured_ms {
        Some(ms) => (
            u128::from(ms) <= limit_ms,
            format!("{:.3} s of at most {limit}", ms as f64 / 1000.0),
        ),
        None => (
            false,
            format!("could not be measured; at most {limit} is allowed"),
        ),
    };
    Some(Judgement {
        rule: rule.to_owned(),
        passed,
        finding,
        evidence: Vec::new(),
    })
}

/// The longest time without an acknowledged start or signal between two moments, and when it began.
pub(crate) fn write_pause(calls: &[Call], from_ms: u64, until_ms: u64) -> Option<(u64, u64)> {
    let mut marks: Vec<u64> = calls
        .iter()
        .filter(|c| c.acknowledged() && is_client(c))
        .map(|c| c.at_ms)
        .filter(|at| (from_ms..=until_ms).contains(at))
        .collect();
    marks.push(from_ms);
    marks.push(until_ms);
    marks.sort_unstable();
    marks.windows(2).map(|w| (w[1] - w[0], w[0])).max()
}

/// The first acknowledged call of a client to `cluster` after a moment, counted from it.
pub(crate) fn first_write_after(calls: &[Call], cluster: &str, from_ms: u64) -> Option<u64> {
    calls
        .iter()
        .filter(|c| c.acknowledged() && is_client(c) && c.cluster == cluster)
        // A call under way when the fault struck says nothing about recovery.
        .filter(|c| c.at_ms.saturating_sub(c.took_ms) >= from_ms)
        .map(|c| c.at_ms - from_ms)
        .min()
}

/// Calls that took longer than this count as troubled, like failed ones.
const SLOW_MS: u64 = 1_000;

/// Until the last call of a client that failed or was slow and was under way or made between two
/// moments, counted from the first; 0 without any.
pub(crate) fn trouble_until(calls: &[Call], from_ms: u64, until_ms: u64) -> u64 {
    calls
        .iter()
        .filter(|c| is_client(c) && (!c.acknowledged() || c.took_ms >= SLOW_MS))
        .filter(|c| c.at_ms >= from_ms && c.at_ms.saturating_sub(c.took_ms) < until_ms)
        .map(|c| c.at_ms - from_ms)
        .max()
        .unwrap_or(0)
}

/// The latest timer of one cluster's histories.
pub(crate) fn timer_lateness_ms(histories: &Histories) -> Option<u64> {
    histories
        .runs
        .values()
        .flat_map(|events| timers::fired(events))
        .filter_map(|timer| u64::try_from(timer.late_nanos / 1_000_000).ok())
        .max()
}

fn is_client(call: &Call) -> bool {
    matches!(call.op, Op::Start | Op::Signal { .. })
}

#[cfg(test)]
mod tests {
    use super::{super::crafted::*, *};

    #[test]
    fn limits_fail_when_exceeded_or_unmeasured() {
        let limit = Some(Span::seconds(2));
        assert!(within("r", Some(2_000), limit).is_some_and(|j| j.passed));
        assert!(within("r", Some(2_001), limit).is_some_and(|j| !j.passed));
        assert!(within("r", None, limit).is_some_and(|j| !j.passed));
        assert!(within("r", None, None).is_none());
    }

    #[test]
    fn a_planned_change_has_a_recovery_point_and_a_recovery_time() {
        let judged = |passed| Judgement {
            rule: super::super::acknowledged::RULE.to_owned(),
            passed,
            finding: String::new(),
            evidence: Vec::new(),
        };
        let mut kept = Measured {
            write_pause_ms: Some(40),
            ..Default::default()
        };
        let mut lost = kept.clone();
        kept.planned(&[judged(true)]);
        assert_eq!((kept.rpo_writes, kept.rto_ms), (Some(0), Some(40)));
        lost.planned(&[judged(false)]);
        assert_eq!(lost.rpo_writes, None);
    }

    #[test]
    fn pauses_and_recoveries_are_read_off_the_calls() {
        let at = |ms| acknowledged(Op::Start, ms);
        let mut failed = at(1_500);
        failed.error = Some("Unavailable: x".into());
        let task = acknowledged(
            Op::Activity {
                activity_id: "1".into(),
            },
            1_900,
        );
        let calls = [at(100), at(1_000), failed, task, at(4_000)];
        assert_eq!(write_pause(&calls, 0, 4_500), Some((3_000, 1_000)));
        assert_eq!(first_write_after(&calls, "west", 1_200), Some(2_800));
        assert_eq!(first_write_after(&calls, "east", 1_200), None);
        assert_eq!(trouble_until(&calls, 1_200, 9_000), 300);
        let mut slow = at(2_500);
        slow.took_ms = 1_400;
        assert_eq!(trouble_until(&[slow], 1_200, 9_000), 1_300);
    }
}
