//! No acknowledged write is lost; or, after a forced failover, each one that the winning histories lack is found
//! in a losing branch that a cluster keeps. Nothing is excused by the time at which it happened: a write that is
//! in no branch of any cluster is gone, and named.

use std::collections::BTreeSet;

use proto_messages::temporal::api::history::v1::{HistoryEvent, history_event::Attributes};
use scenarios_load::script::nanos;

use super::{Case, EVIDENCE_MAX, Histories, Judgement, LosingBranch, RunKey, activity_ids};
use crate::{
    definition::Loss,
    oracle::{Call, Op},
};

pub(super) const RULE: &str = "no acknowledged write is lost unaccounted";

/// The histories, indexed for looking calls up.
#[derive(Default)]
pub(crate) struct Holdings {
    runs: BTreeSet<String>,
    signals: BTreeSet<(String, String)>,
    cancellations: BTreeSet<(String, String)>,
    terminations: BTreeSet<(String, String)>,
    tasks: BTreeSet<(String, i64)>,
    activities: BTreeSet<(String, String)>,
}

impl Holdings {
    /// Arranges one cluster's histories.
    pub(crate) fn of(histories: &Histories) -> Self {
        let mut held = Self::default();
        for (run, events) in &histories.runs {
            held.add(run, events);
        }
        held
    }

    /// Arranges losing branches.
    fn of_branches(branches: &[LosingBranch]) -> Self {
        let mut held = Self::default();
        for branch in branches {
            held.add(&branch.run, &branch.events);
        }
        held
    }

    fn add(&mut self, (workflow_id, run_id): &RunKey, events: &[HistoryEvent]) {
        let activities = activity_ids(events);
        let named = |name: &String| (workflow_id.clone(), name.clone());
        for event in events {
            match &event.attributes {
                Some(Attributes::WorkflowExecutionStartedEventAttributes(_)) => {
                    self.runs.insert(run_id.clone());
                }
                Some(Attributes::WorkflowExecutionSignaledEventAttributes(a)) => {
                    self.signals.insert(named(&a.signal_name));
                }
                Some(Attributes::WorkflowExecutionCancelRequestedEventAttributes(a)) => {
                    self.cancellations.insert(named(&a.cause));
                }
                Some(Attributes::WorkflowExecutionTerminatedEventAttributes(a)) => {
                    self.terminations.insert(named(&a.reason));
                }
                Some(Attributes::WorkflowTaskCompletedEventAttributes(a)) => {
                    self.tasks.insert((run_id.clone(), a.started_event_id));
                }
                Some(Attributes::ActivityTaskCompletedEventAttributes(a)) => {
                    if let Some(id) = activities.get(&a.scheduled_event_id) {
                        self.activities.insert((run_id.clone(), (*id).to_owned()));
                    }
                }
                _ => {}
            }
        }
    }

    /// Whether a call's effect is there.
    pub(crate) fn hold(&self, call: &Call) -> bool {
        let named = |name: &String| (call.workflow_id.clone(), name.clone());
        match &call.op {
            Op::Start => self.runs.contains(&call.run_id),
            Op::Reset { new_run_id } => self.runs.contains(new_run_id),
            Op::Signal { name } => self.signals.contains(&named(name)),
            Op::Cancel { reason } => self.cancellations.contains(&named(reason)),
            Op::Terminate { reason } => self.terminations.contains(&named(reason)),
            Op::WorkflowTask {
                started_event_id, ..
            } => self
                .tasks
                .contains(&(call.run_id.clone(), *started_event_id)),
            Op::Activity { activity_id } => self
                .activities
                .contains(&(call.run_id.clone(), activity_id.clone())),
            // In no history; the next attempt tells.
            Op::Heartbeat { .. } | Op::Attempt { .. } => true,
        }
    }
}

/// Acknowledged calls whose effect some histories lack.
fn lost<'a>(calls: &'a [Call], held: &Holdings) -> Vec<&'a Call> {
    calls
        .iter()
        .filter(|c| c.acknowledged() && !held.hold(c))
        .collect()
}

/// The runs whose losing branches may hold what the surviving histories lack.
pub(crate) fn runs_of_lost(
    calls: &[Call],
    surviving: &Histories,
    all: &[Histories],
) -> BTreeSet<RunKey> {
    let mut runs = BTreeSet::new();
    for call in lost(calls, &Holdings::of(surviving)) {
        if !call.run_id.is_empty() {
            runs.insert((call.workflow_id.clone(), call.run_id.clone()));
            continue;
        }
        let known = all.iter().flat_map(|cluster| cluster.runs.keys());
        runs.extend(known.filter(|(id, _)| *id == call.workflow_id).cloned());
    }
    runs
}

/// Judges every acknowledged call.
pub(super) fn judge(case: &Case) -> Judgement {
    let Some(surviving) = case.surviving() else {
        let nothing = vec![format!("no histories of {} were read", case.active)];
        return Judgement::of(RULE, nothing, String::new(), "nothing to judge by");
    };
    let held = Holdings::of(surviving);
    let acknowledged = case.calls.iter().filter(|c| c.acknowledged()).count();
    let kept_aside = Holdings::of_branches(&case.losing);
    let (accounted, unexplained): (Vec<&Call>, Vec<&Call>) =
        lost(&case.calls, &held).into_iter().partition(|call| {
            case.loss == Loss::AccountedFor
                && kept_aside.hold(call)
                && !should_have_come_back(case, surviving, call)
        });
    let good = if accounted.is_empty() {
        format!(
            "all {acknowledged} acknowledged writes are in the histories of {}",
            case.active
        )
    } else {
        format!(
            "{} of {acknowledged} acknowledged writes did not survive, each is in a losing branch that is kept",
            accounted.len()
        )
    };
    let mut against: Vec<String> = unexplained.iter().map(|c| c.describe()).collect();
    if !against.is_empty() {
        let unread = case.unread.iter();
        against.extend(unread.map(|why| format!("a losing branch could not be read: {why}")));
    }
    let mut judgement = Judgement::of(
        RULE,
        against,
        good,
        "acknowledged writes are in no branch that is kept, or should have been applied again",
    );
    let room = EVIDENCE_MAX - judgement.evidence.len();
    judgement.evidence.extend(
        accounted
            .iter()
            .take(room)
            .map(|c| format!("in a losing branch: {}", c.describe())),
    );
    judgement
}

/// Whether the effect of a call should have been applied again: outside events are, to runs that are open.
fn should_have_come_back(case: &Case, surviving: &Histories, call: &Call) -> bool {
    match &call.op {
        Op::Signal { .. } | Op::Cancel { .. } | Op::Terminate { .. } => case
            .met_again_ms
            .is_some_and(|met| open_long_after(case, surviving, call, met)),
        Op::Start
        | Op::Reset { .. }
        | Op::WorkflowTask { .. }
        | Op::Activity { .. }
        | Op::Heartbeat { .. }
        | Op::Attempt { .. } => false,
    }
}

/// How long after the sides have met a losing branch's signals may take to come back.
const RETURN_MS: u64 = 15_000;

/// Whether the surviving run that an outside event was meant for stayed open long enough to be given it again.
fn open_long_after(case: &Case, surviving: &Histories, call: &Call, met_ms: u64) -> bool {
    let at = |ms: u64| (i128::from(case.begun_unix_ms) + i128::from(ms)) * 1_000_000;
    let (sent, given) = (at(call.at_ms), at(met_ms.saturating_add(RETURN_MS)));
    let time = |event: Option<&HistoryEvent>| nanos(event.and_then(|e| e.event_time.as_ref()));
    surviving.runs.iter().any(|((id, _), events)| {
        *id == call.workflow_id && time(events.first()) <= sent && time(events.last()) > given
    })
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
            Op::Cancel {
                reason: "because".into(),
            },
            Op::Terminate {
                reason: "because".into(),
            },
            Op::Reset {
                new_run_id: "run-of-nobody".into(),
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

    /// West keeps a branch of order-1 that ends in these events.
    fn losing(attributes: Vec<Attributes>) -> LosingBranch {
        LosingBranch {
            cluster: "west".into(),
            run: ("order-1".into(), "run-1".into()),
            events: history(attributes),
        }
    }

    #[test]
    fn a_lost_write_must_be_in_a_losing_branch_that_is_kept() {
        let mut case = case(good());
        let signal = Op::Signal { name: "s2".into() };
        case.calls.push(acknowledged(signal, 5_000));
        case.loss = Loss::AccountedFor;
        assert!(!judge(&case).passed, "it is nowhere");
        case.losing = vec![losing(vec![started(), signaled("another")])];
        case.unread = vec!["order-2: timeout".into()];
        let judgement = judge(&case);
        assert!(!judgement.passed, "the branch holds something else");
        assert_eq!(judgement.evidence.len(), 2, "{judgement:?}");
        case.losing = vec![losing(vec![started(), signaled("s2")])];
        let judgement = judge(&case);
        assert!(judgement.passed, "{judgement:?}");
        assert!(judgement.evidence[0].starts_with("in a losing branch"));
        case.loss = Loss::None;
        assert!(!judge(&case).passed, "a planned move loses nothing");
    }

    #[test]
    fn the_branches_of_a_lost_writes_runs_are_looked_for() {
        let mut case = case(good());
        let of = |case: &Case| runs_of_lost(&case.calls, &case.clusters[1], &case.clusters);
        assert!(of(&case).is_empty());
        let mut by_id = acknowledged(Op::Signal { name: "s2".into() }, 30);
        by_id.run_id = String::new();
        case.calls.push(by_id);
        let run = ("order-1".to_owned(), "run-1".to_owned());
        assert_eq!(of(&case).into_iter().collect::<Vec<_>>(), [run]);
    }

    #[test]
    fn an_outside_event_that_should_have_come_back_is_lost_although_a_branch_holds_it() {
        // The run starts at 1 s and ends at 40 s; both sides have met at 6 s.
        let mut events = good();
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        events[2].event_time = at(40);
        let mut case = case(events);
        case.loss = Loss::AccountedFor;
        case.calls
            .push(acknowledged(Op::Signal { name: "s2".into() }, 5_000));
        case.losing = vec![losing(vec![started(), signaled("s2")])];
        case.met_again_ms = Some(6_000);
        assert!(!judge(&case).passed, "open for long after");
        for cluster in &mut case.clusters {
            cluster
                .runs
                .values_mut()
                .for_each(|e| e[2].event_time = at(8));
        }
        assert!(judge(&case).passed, "it had ended");
    }
}
