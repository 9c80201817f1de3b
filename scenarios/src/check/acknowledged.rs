//! No acknowledged write is lost; or, after a forced failover, each lost one was acknowledged at a time
//! and place that explains the loss.

use std::collections::BTreeSet;

use proto_messages::temporal::api::history::v1::{HistoryEvent, history_event::Attributes};
use scenarios_load::script::nanos;

use super::{Case, EVIDENCE_MAX, Excuse, Histories, Judgement, activity_ids};
use crate::{
    definition::Loss,
    oracle::{Call, Op},
};

const RULE: &str = "no acknowledged write is lost unaccounted";

/// What histories hold, arranged for looking calls up.
#[derive(Default)]
pub(crate) struct Holdings {
    runs: BTreeSet<String>,
    signals: BTreeSet<(String, String)>,
    tasks: BTreeSet<(String, i64)>,
    activities: BTreeSet<(String, String)>,
}

impl Holdings {
    /// Arranges one cluster's histories.
    pub(crate) fn of(histories: &Histories) -> Self {
        let mut held = Self::default();
        for ((workflow_id, run_id), events) in &histories.runs {
            let activities = activity_ids(events);
            for event in events {
                match &event.attributes {
                    Some(Attributes::WorkflowExecutionStartedEventAttributes(_)) => {
                        held.runs.insert(run_id.clone());
                    }
                    Some(Attributes::WorkflowExecutionSignaledEventAttributes(a)) => {
                        held.signals
                            .insert((workflow_id.clone(), a.signal_name.clone()));
                    }
                    Some(Attributes::WorkflowTaskCompletedEventAttributes(a)) => {
                        held.tasks.insert((run_id.clone(), a.started_event_id));
                    }
                    Some(Attributes::ActivityTaskCompletedEventAttributes(a)) => {
                        if let Some(id) = activities.get(&a.scheduled_event_id) {
                            held.activities.insert((run_id.clone(), (*id).to_owned()));
                        }
                    }
                    _ => {}
                }
            }
        }
        held
    }

    /// Whether a call's effect is there.
    pub(crate) fn hold(&self, call: &Call) -> bool {
        match &call.op {
            Op::Start => self.runs.contains(&call.run_id),
            Op::Signal { name } => self
                .signals
                .contains(&(call.workflow_id.clone(), name.clone())),
            Op::WorkflowTask {
                started_event_id, ..
            } => self
                .tasks
                .contains(&(call.run_id.clone(), *started_event_id)),
            Op::Activity { activity_id } => self
                .activities
                .contains(&(call.run_id.clone(), activity_id.clone())),
        }
    }
}

/// Judges every acknowledged call.
pub(super) fn judge(case: &Case) -> Judgement {
    let Some(surviving) = case.surviving() else {
        let nothing = vec![format!("no histories of {} were read", case.active)];
        return Judgement::of(RULE, nothing, String::new(), "nothing to judge by");
    };
    let held = Holdings::of(surviving);
    let acknowledged = case.calls.iter().filter(|c| c.acknowledged()).count();
    let lost: Vec<&Call> = case
        .calls
        .iter()
        .filter(|c| c.acknowledged() && !held.hold(c))
        .collect();
    let (accounted, unexplained): (Vec<&Call>, Vec<&Call>) = lost
        .into_iter()
        .partition(|call| case.loss == Loss::AccountedFor && excused(case, surviving, call));
    let good = if accounted.is_empty() {
        format!(
            "all {acknowledged} acknowledged writes are in the histories of {}",
            case.active
        )
    } else {
        format!(
            "{} of {acknowledged} acknowledged writes did not survive, each accounted for",
            accounted.len()
        )
    };
    let against = unexplained.iter().map(|c| c.describe()).collect();
    let mut judgement = Judgement::of(
        RULE,
        against,
        good,
        "acknowledged writes are gone without an explanation",
    );
    let room = EVIDENCE_MAX - judgement.evidence.len();
    judgement.evidence.extend(
        accounted
            .iter()
            .take(room)
            .map(|c| format!("accounted for: {}", c.describe())),
    );
    judgement
}

/// Whether something explains that a call's effect is gone.
fn excused(case: &Case, surviving: &Histories, call: &Call) -> bool {
    let mut covering = case.excuses.iter().filter(|e| e.covers(call));
    match &call.op {
        Op::Signal { .. } => covering.any(|e| {
            !e.met_again_ms
                .is_some_and(|met| open_long_after(case, surviving, call, met))
        }),
        _ => covering.next().is_some(),
    }
}

/// How long after the sides have met a losing branch's signals may take to come back.
const RETURN_MS: u64 = 15_000;

/// Whether the surviving run that the signal was meant for stayed open long enough to be given it again.
fn open_long_after(case: &Case, surviving: &Histories, call: &Call, met_ms: u64) -> bool {
    let at = |ms: u64| (i128::from(case.begun_unix_ms) + i128::from(ms)) * 1_000_000;
    let (sent, given) = (at(call.at_ms), at(met_ms.saturating_add(RETURN_MS)));
    let time = |event: Option<&HistoryEvent>| nanos(event.and_then(|e| e.event_time.as_ref()));
    surviving.runs.iter().any(|((id, _), events)| {
        *id == call.workflow_id && time(events.first()) <= sent && time(events.last()) > given
    })
}

impl Excuse {
    fn covers(&self, call: &Call) -> bool {
        // Under way at any moment of it: a call forwarded before a link was cut may be acknowledged after
        // the link is mended, by the side that took it then.
        let begun_ms = call.at_ms.saturating_sub(call.took_ms);
        call.at_ms >= self.from_ms
            && begun_ms <= self.until_ms
            && self.cluster.as_ref().is_none_or(|c| *c == call.cluster)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::crafted::*, *};

    #[test]
    fn a_lost_write_of_each_kind_fails() {
        let ops = [
            Op::Signal { name: "s2".into() },
            Op::WorkflowTask {
                started_event_id: 7,
                closing: false,
            },
            Op::Activity {
                activity_id: "1".into(),
            },
        ];
        for op in ops {
            let mut case = case(good());
            case.calls.push(acknowledged(op.clone(), 30));
            let judgement = judge(&case);
            assert!(!judgement.passed, "{op:?}");
            assert_eq!(judgement.evidence.len(), 1);
        }
        let mut start = case(good());
        start.calls[0].run_id = "run-of-nobody".into();
        assert!(!judge(&start).passed);
    }

    #[test]
    fn a_kept_task_answer_is_found_and_a_refused_call_proves_nothing() {
        let mut case = case(history(vec![
            started(),
            signaled("s1"),
            answered(2),
            completed(),
        ]));
        case.calls.push(acknowledged(
            Op::WorkflowTask {
                started_event_id: 2,
                closing: true,
            },
            30,
        ));
        let mut refused = acknowledged(
            Op::Signal {
                name: "never".into(),
            },
            40,
        );
        refused.error = Some("Unavailable: gone".into());
        case.calls.push(refused);
        assert!(judge(&case).passed);
    }

    #[test]
    fn a_loss_needs_an_excuse_of_the_right_time_and_place() {
        let mut case = case(good());
        case.calls
            .push(acknowledged(Op::Signal { name: "s2".into() }, 5_000));
        case.loss = Loss::AccountedFor;
        assert!(!judge(&case).passed, "nothing explains it");
        let excuse = |from_ms, until_ms, cluster: &str| Excuse {
            from_ms,
            until_ms,
            cluster: Some(cluster.into()),
            met_again_ms: None,
            reason: String::new(),
        };
        case.excuses = vec![excuse(4_000, 6_000, "east"), excuse(0, 4_900, "west")];
        assert!(!judge(&case).passed, "wrong place, wrong time");
        let mut forwarded = case.clone();
        if let Some(call) = forwarded.calls.last_mut() {
            call.took_ms = 1_000;
        }
        assert!(judge(&forwarded).passed, "under way while the excuse held");
        case.excuses.push(excuse(4_000, 6_000, "west"));
        let judgement = judge(&case);
        assert!(judgement.passed);
        assert!(judgement.evidence[0].starts_with("accounted for"));
        case.loss = Loss::None;
        assert!(!judge(&case).passed, "a planned move excuses nothing");
    }

    #[test]
    fn a_signal_that_should_have_come_back_has_no_excuse() {
        // The run starts at 1 s and ends at 40 s; both sides have met at 6 s.
        let mut events = good();
        events[2].event_time = Some(prost_types::Timestamp {
            seconds: 40,
            nanos: 0,
        });
        let mut case = case(events);
        case.loss = Loss::AccountedFor;
        case.calls
            .push(acknowledged(Op::Signal { name: "s2".into() }, 5_000));
        case.excuses.push(Excuse {
            from_ms: 4_000,
            until_ms: 6_000,
            cluster: None,
            met_again_ms: Some(6_000),
            reason: String::new(),
        });
        assert!(!judge(&case).passed, "open for long after");
        for cluster in &mut case.clusters {
            cluster.runs.values_mut().for_each(|e| {
                e[2].event_time = Some(prost_types::Timestamp {
                    seconds: 8,
                    nanos: 0,
                });
            });
        }
        assert!(judge(&case).passed, "it had ended");
    }
}
