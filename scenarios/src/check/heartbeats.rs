//! Whoever takes an activity over is told of all progress that was acknowledged.

use std::collections::BTreeMap;

use super::{Case, Judgement};
use crate::{definition::Loss, oracle::Op};

const RULE: &str = "the next attempt is told of every acknowledged heartbeat";

/// Judges every attempt by the heartbeats before it. Where acknowledged writes may be lost, so may these.
pub(super) fn judge(case: &Case) -> Option<Judgement> {
    if case.loss == Loss::AccountedFor {
        return None;
    }
    // Each run has one activity and one who reports: numbers rise.
    let mut acknowledged: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut attempts, mut against) = (0, Vec::new());
    for call in case.calls.iter().filter(|call| call.acknowledged()) {
        match &call.op {
            Op::Heartbeat { number } => {
                let last = acknowledged.entry(&call.run_id).or_default();
                *last = (*last).max(*number);
            }
            Op::Attempt { found } => {
                let Some(last) = acknowledged.get(call.run_id.as_str()) else {
                    continue;
                };
                attempts += 1;
                if found < last {
                    against.push(format!(
                        "{}: heartbeat {last} was acknowledged before",
                        call.describe()
                    ));
                }
            }
            _ => {}
        }
    }
    if acknowledged.is_empty() {
        return None;
    }
    let good = format!("{attempts} attempts");
    Some(Judgement::of(RULE, against, good, "attempts were not told"))
}

#[cfg(test)]
mod tests {
    use super::{super::crafted::*, *};

    fn judged(ops: Vec<Op>) -> Option<bool> {
        let mut case = case(good());
        let calls = (0..).zip(ops);
        case.calls = calls.map(|(at, op)| acknowledged(op, at)).collect();
        judge(&case).map(|judgement| judgement.passed)
    }

    #[test]
    fn an_attempt_that_is_not_told_of_acknowledged_progress_fails() {
        let beat = |number| Op::Heartbeat { number };
        let attempt = |found| Op::Attempt { found };
        assert_eq!(judged(vec![attempt(0)]), None);
        assert_eq!(
            judged(vec![attempt(0), beat(1), beat(2), attempt(2)]),
            Some(true)
        );
        // One of which the answer was lost may have arrived.
        assert_eq!(judged(vec![attempt(0), beat(1), attempt(2)]), Some(true));
        assert_eq!(
            judged(vec![attempt(0), beat(1), beat(2), attempt(1)]),
            Some(false)
        );
        assert_eq!(judged(vec![attempt(0), beat(1), attempt(0)]), Some(false));
    }
}
