//! Timers never fire early, and each fires, once.

use std::collections::{BTreeMap, BTreeSet};

use proto_messages::temporal::api::history::v1::{HistoryEvent, history_event::Attributes};
use scenarios_load::script::nanos;

use super::{Case, Judgement, RunKey, is_open, run_name};

/// A fired timer's distance from its due time, in nanoseconds; negative when early.
pub(super) struct Fired {
    pub(super) late_nanos: i128,
    started_event_id: i64,
}

/// All fired timers of a history.
pub(super) fn fired(events: &[HistoryEvent]) -> Vec<Fired> {
    let mut due = BTreeMap::new();
    let mut fired = Vec::new();
    for event in events {
        let at = nanos(event.event_time.as_ref());
        match &event.attributes {
            Some(Attributes::TimerStartedEventAttributes(a)) => {
                let length = a.start_to_fire_timeout.as_ref().map_or(0, |d| {
                    i128::from(d.seconds) * 1_000_000_000 + i128::from(d.nanos)
                });
                due.insert(event.event_id, at + length);
            }
            Some(Attributes::TimerFiredEventAttributes(a)) => fired.push(Fired {
                // A timer without a start is as early as can be.
                late_nanos: due
                    .get(&a.started_event_id)
                    .map_or(i128::MIN, |due| at - due),
                started_event_id: a.started_event_id,
            }),
            _ => {}
        }
    }
    fired
}

/// Judges the timers in the histories of every cluster.
pub(super) fn judge(case: &Case) -> Judgement {
    let mut against = Vec::new();
    let mut count = 0;
    for cluster in &case.clusters {
        for (key, events) in &cluster.runs {
            let fired = fired(events);
            count += fired.len();
            let where_ = |key: &RunKey| format!("{} on {}", run_name(key), cluster.cluster);
            let mut seen = BTreeSet::new();
            for timer in fired {
                let id = timer.started_event_id;
                if timer.late_nanos == i128::MIN {
                    against.push(format!(
                        "{}: timer of event {id} never started",
                        where_(key)
                    ));
                } else if timer.late_nanos < 0 {
                    let early = -timer.late_nanos as f64 / 1e6;
                    against.push(format!(
                        "{}: timer of event {id} {early:.3} ms early",
                        where_(key)
                    ));
                }
                if !seen.insert(id) {
                    against.push(format!("{}: timer of event {id} fired twice", where_(key)));
                }
            }
            for id in missing(events, &seen) {
                against.push(format!("{}: timer of event {id} never fired", where_(key)));
            }
        }
    }
    Judgement::of(
        "every timer fires, once and not early",
        against,
        format!("{count} timers fired"),
        "timers fired early, twice or never",
    )
}

/// Timers that an open run still waits for. Drills are read when everything had time to end.
fn missing(events: &[HistoryEvent], fired: &BTreeSet<i64>) -> Vec<i64> {
    if !is_open(events) {
        return Vec::new();
    }
    let mut waiting = BTreeSet::new();
    for event in events {
        match &event.attributes {
            Some(Attributes::TimerStartedEventAttributes(_)) => {
                waiting.insert(event.event_id);
            }
            Some(Attributes::TimerCanceledEventAttributes(a)) => {
                waiting.remove(&a.started_event_id);
            }
            _ => {}
        }
    }
    waiting.difference(fired).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::{super::crafted::*, *};

    fn timer(seconds: i64, fires: usize) -> Case {
        // Events are one second apart: started at 2 s, fired at 3 s.
        let mut events = vec![started(), timer_started(seconds)];
        events.extend((0..fires).map(|_| timer_fired(2)));
        case(history(events))
    }

    #[test]
    fn early_repeated_and_invented_timers_fail() {
        assert!(judge(&timer(1, 1)).passed, "on time");
        assert!(!judge(&timer(2, 1)).passed, "a second early");
        assert!(!judge(&timer(1, 2)).passed, "twice");
        assert!(!judge(&timer(1, 0)).passed, "never");
        assert!(!judge(&case(history(vec![started(), timer_fired(9)]))).passed);
    }
}
