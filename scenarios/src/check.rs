//! The judges. Each takes the recorded calls and the histories read from every cluster, and says pass or
//! fail with its evidence. They share no code with the server and trust nothing but what clients were
//! told and what histories hold.

mod acknowledged;
mod equal;
mod heartbeats;
mod limits;
mod open;
mod shape;
mod timers;

use std::collections::BTreeMap;

use proto_messages::temporal::api::{
    enums::v1::EventType,
    history::v1::{HistoryEvent, history_event::Attributes},
};
use serde::Serialize;

pub(crate) use acknowledged::{Holdings, runs_of_lost};
pub(crate) use equal::difference as equal_difference;
pub use limits::{Measured, within};
pub(crate) use limits::{first_write_after, timer_lateness_ms, trouble_until, write_pause};

use crate::{definition::Loss, oracle::Call};

/// A run's name: workflow id, then run id.
pub type RunKey = (String, String);

/// All histories one cluster holds of the drill's workflows, read from that cluster's own data.
#[derive(Clone, Debug, Default)]
pub struct Histories {
    /// The cluster.
    pub cluster: String,
    /// Events of each run in order.
    pub runs: BTreeMap<RunKey, Vec<HistoryEvent>>,
    /// Runs that could not be read, with the reason.
    pub unreadable: BTreeMap<RunKey, String>,
}

/// A branch of a run's history that lost a conflict, as a cluster keeps it in its own data.
#[derive(Clone, Debug, PartialEq)]
pub struct LosingBranch {
    /// The cluster.
    pub cluster: String,
    /// The run.
    pub run: RunKey,
    /// All its events, those it shares with the winning branch included.
    pub events: Vec<HistoryEvent>,
}

impl std::fmt::Display for LosingBranch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (run, events) = (run_name(&self.run), self.events.len());
        write!(f, "{run} on {}: {events} events", self.cluster)
    }
}

/// Everything a judge may look at.
#[derive(Clone, Debug)]
pub struct Case {
    /// The beginning of the run's clock, in milliseconds since the epoch.
    pub begun_unix_ms: u64,
    /// Every recorded call.
    pub calls: Vec<Call>,
    /// The histories of each cluster at the end.
    pub clusters: Vec<Histories>,
    /// The cluster that is active at the end; its histories are the surviving ones.
    pub active: String,
    /// Whether acknowledged writes may be lost.
    pub loss: Loss,
    /// The losing branches of runs that lack an acknowledged write.
    pub losing: Vec<LosingBranch>,
    /// Why losing branches could not be read.
    pub unread: Vec<String>,
    /// When the sides of a forced failover had met again. What a losing branch holds of signals, cancellations
    /// and terminations must then come back to every run that is still open.
    pub met_again_ms: Option<u64>,
}

impl Case {
    pub(crate) fn surviving(&self) -> Option<&Histories> {
        self.clusters.iter().find(|c| c.cluster == self.active)
    }
}

/// The finding of a judge.
#[derive(Clone, Debug, Serialize)]
pub struct Judgement {
    /// The rule that was judged.
    pub rule: String,
    /// Whether it held.
    pub passed: bool,
    /// The finding in one line.
    pub finding: String,
    /// What it rests on; at most [`EVIDENCE_MAX`] lines.
    pub evidence: Vec<String>,
}

/// Lines of evidence a judgement keeps; the finding says how many there were.
pub const EVIDENCE_MAX: usize = 50;

impl Judgement {
    /// Passes when there is nothing against it.
    fn of(rule: &str, against: Vec<String>, good: String, bad: &str) -> Self {
        let passed = against.is_empty();
        let finding = if passed {
            good
        } else {
            format!("{}: {bad}", against.len())
        };
        Self {
            rule: rule.to_owned(),
            passed,
            finding,
            evidence: against.into_iter().take(EVIDENCE_MAX).collect(),
        }
    }
}

/// All judgements that rest on calls and histories.
pub fn judge(case: &Case) -> Vec<Judgement> {
    let mut judgements = vec![
        acknowledged::judge(case),
        open::one_open_run(case),
        equal::judge(case),
        timers::judge(case),
        open::nothing_stuck(case),
        shape::judge(case),
    ];
    judgements.extend(heartbeats::judge(case));
    judgements
}

/// Whether an event ends its run.
fn closes(event: &HistoryEvent) -> bool {
    matches!(
        event.event_type(),
        EventType::WorkflowExecutionCompleted
            | EventType::WorkflowExecutionFailed
            | EventType::WorkflowExecutionTimedOut
            | EventType::WorkflowExecutionCanceled
            | EventType::WorkflowExecutionTerminated
            | EventType::WorkflowExecutionContinuedAsNew
    )
}

/// Whether a run with these events is still open.
pub(crate) fn is_open(events: &[HistoryEvent]) -> bool {
    !events.iter().any(closes)
}

/// The activity id of each scheduled event, for matching completions.
fn activity_ids(events: &[HistoryEvent]) -> BTreeMap<i64, &str> {
    events
        .iter()
        .filter_map(|e| match e.attributes.as_ref()? {
            Attributes::ActivityTaskScheduledEventAttributes(a) => {
                Some((e.event_id, a.activity_id.as_str()))
            }
            _ => None,
        })
        .collect()
}

/// Names a run in evidence.
fn run_name((workflow_id, run_id): &RunKey) -> String {
    format!("{workflow_id} run {run_id}")
}

/// Builders of small histories for the judges' tests.
#[cfg(test)]
mod crafted {
    use proto_messages::temporal::api::history::v1::{
        TimerFiredEventAttributes, TimerStartedEventAttributes,
        WorkflowExecutionCompletedEventAttributes, WorkflowExecutionSignaledEventAttributes,
        WorkflowExecutionStartedEventAttributes, WorkflowTaskCompletedEventAttributes,
    };

    use super::*;
    use crate::oracle::Op;

    /// Events with ids 1, 2, 3… one second apart, of version 1.
    pub(super) fn history(attributes: Vec<Attributes>) -> Vec<HistoryEvent> {
        attributes
            .into_iter()
            .zip(1..)
            .map(|(attributes, id)| HistoryEvent {
                event_id: id,
                event_time: Some(prost_types::Timestamp {
                    seconds: id,
                    nanos: 0,
                }),
                event_type: kind(&attributes) as i32,
                version: 1,
                attributes: Some(attributes),
                ..Default::default()
            })
            .collect()
    }

    fn kind(attributes: &Attributes) -> EventType {
        match attributes {
            Attributes::WorkflowExecutionStartedEventAttributes(_) => {
                EventType::WorkflowExecutionStarted
            }
            Attributes::WorkflowExecutionSignaledEventAttributes(_) => {
                EventType::WorkflowExecutionSignaled
            }
            Attributes::WorkflowTaskCompletedEventAttributes(_) => EventType::WorkflowTaskCompleted,
            Attributes::TimerStartedEventAttributes(_) => EventType::TimerStarted,
            Attributes::TimerFiredEventAttributes(_) => EventType::TimerFired,
            Attributes::WorkflowExecutionCompletedEventAttributes(_) => {
                EventType::WorkflowExecutionCompleted
            }
            _ => EventType::Unspecified,
        }
    }

    pub(super) fn started() -> Attributes {
        Attributes::WorkflowExecutionStartedEventAttributes(
            WorkflowExecutionStartedEventAttributes::default(),
        )
    }

    pub(super) fn signaled(name: &str) -> Attributes {
        Attributes::WorkflowExecutionSignaledEventAttributes(
            WorkflowExecutionSignaledEventAttributes {
                signal_name: name.into(),
                ..Default::default()
            },
        )
    }

    pub(super) fn answered(started_event_id: i64) -> Attributes {
        Attributes::WorkflowTaskCompletedEventAttributes(WorkflowTaskCompletedEventAttributes {
            started_event_id,
            ..Default::default()
        })
    }

    pub(super) fn timer_started(seconds: i64) -> Attributes {
        Attributes::TimerStartedEventAttributes(TimerStartedEventAttributes {
            start_to_fire_timeout: Some(prost_types::Duration { seconds, nanos: 0 }),
            ..Default::default()
        })
    }

    pub(super) fn timer_fired(started_event_id: i64) -> Attributes {
        Attributes::TimerFiredEventAttributes(TimerFiredEventAttributes {
            started_event_id,
            ..Default::default()
        })
    }

    pub(super) fn completed() -> Attributes {
        Attributes::WorkflowExecutionCompletedEventAttributes(
            WorkflowExecutionCompletedEventAttributes::default(),
        )
    }

    /// A run that started, was signalled and completed.
    pub(super) fn good() -> Vec<HistoryEvent> {
        history(vec![started(), signaled("s1"), completed()])
    }

    pub(super) fn acknowledged(op: Op, at_ms: u64) -> Call {
        Call {
            at_ms,
            took_ms: 1,
            cluster: "west".into(),
            op,
            workflow_id: "order-1".into(),
            run_id: "run-1".into(),
            error: None,
        }
    }

    /// Both clusters hold `events` for order-1, run-1.
    pub(super) fn case(events: Vec<HistoryEvent>) -> Case {
        let key = ("order-1".to_owned(), "run-1".to_owned());
        let cluster = |name: &str| Histories {
            cluster: name.into(),
            runs: BTreeMap::from([(key.clone(), events.clone())]),
            unreadable: BTreeMap::new(),
        };
        Case {
            begun_unix_ms: 0,
            calls: vec![
                acknowledged(Op::Start, 10),
                acknowledged(Op::Signal { name: "s1".into() }, 20),
            ],
            clusters: vec![cluster("west"), cluster("east")],
            active: "east".into(),
            loss: Loss::None,
            losing: Vec::new(),
            unread: Vec::new(),
            met_again_ms: None,
        }
    }

    #[test]
    fn a_good_record_passes_every_judge() {
        for judgement in judge(&case(good())) {
            assert!(judgement.passed, "{judgement:?}");
        }
    }
}
