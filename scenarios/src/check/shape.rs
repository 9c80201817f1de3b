//! Every history is well formed: event ids without gaps, versions that never fall, nothing after the
//! end, each signal and each activity's completion once. A signal whose sender had to repeat it because
//! one attempt was never acknowledged may be there twice after a forced failover: the attempt may have
//! reached the side that lost its role, and come back with it.

use std::collections::BTreeSet;

use proto_messages::temporal::api::history::v1::{HistoryEvent, history_event::Attributes};

use super::{Case, Judgement, closes, run_name};
use crate::{definition::Loss, oracle::Op};

/// Judges every history on every cluster.
pub(super) fn judge(case: &Case) -> Judgement {
    let mut against = Vec::new();
    let repeated = repeated_signals(case);
    let mut events_seen = 0;
    for cluster in &case.clusters {
        for (key, events) in &cluster.runs {
            events_seen += events.len();
            against.extend(
                faults(events, |signal| {
                    repeated.contains(&(key.0.as_str(), signal))
                })
                .into_iter()
                .map(|fault| format!("{} on {}: {fault}", run_name(key), cluster.cluster)),
            );
        }
    }
    Judgement::of(
        "histories are well formed, signals applied once",
        against,
        format!("{events_seen} events"),
        "faults in histories",
    )
}

/// Signals with an attempt of unknown outcome, where that excuses a second one.
fn repeated_signals(case: &Case) -> BTreeSet<(&str, &str)> {
    case.calls
        .iter()
        .filter(|call| case.loss == Loss::AccountedFor && !call.acknowledged())
        .filter_map(|call| match &call.op {
            Op::Signal { name } => Some((call.workflow_id.as_str(), name.as_str())),
            _ => None,
        })
        .collect()
}

fn faults(events: &[HistoryEvent], may_repeat: impl Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    let mut version = i64::MIN;
    let mut signals = BTreeSet::new();
    let mut completions = BTreeSet::new();
    for (event, expected) in events.iter().zip(1..) {
        let id = event.event_id;
        if id != expected {
            found.push(format!("event {id} where {expected} was due"));
            break;
        }
        if event.version < version {
            found.push(format!(
                "event {id} has version {} after {version}",
                event.version
            ));
        }
        version = event.version;
        match &event.attributes {
            Some(Attributes::WorkflowExecutionSignaledEventAttributes(a))
                if !signals.insert(&a.signal_name) && !may_repeat(&a.signal_name) =>
            {
                found.push(format!("signal {:?} again at event {id}", a.signal_name));
            }
            Some(Attributes::ActivityTaskCompletedEventAttributes(a))
                if !completions.insert(a.scheduled_event_id) =>
            {
                let activity = a.scheduled_event_id;
                found.push(format!("activity of event {activity} completed again"));
            }
            _ => {}
        }
    }
    if let Some(end) = events.iter().position(closes)
        && end + 1 != events.len()
    {
        found.push(format!("{} events after the end", events.len() - end - 1));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{super::crafted::*, *};

    #[test]
    fn each_fault_fails() {
        let mut gap = good();
        gap[2].event_id = 4;
        let mut falling = good();
        falling[1].version = 11;
        let twice = history(vec![started(), signaled("a"), signaled("a"), completed()]);
        let after = history(vec![started(), completed(), signaled("a")]);
        for bad in [gap, falling, twice, after] {
            assert!(!judge(&case(bad)).passed);
        }
    }

    #[test]
    fn only_a_repeated_call_under_a_forced_failover_excuses_a_second_signal() {
        let mut case = case(history(vec![
            started(),
            signaled("s1"),
            signaled("s1"),
            completed(),
        ]));
        let mut failed = acknowledged(Op::Signal { name: "s1".into() }, 15);
        failed.error = Some("Unavailable: killed".into());
        case.calls.push(failed);
        assert!(!judge(&case).passed);
        case.loss = Loss::AccountedFor;
        assert!(judge(&case).passed);
    }
}
