//! Reapplication to the winner of events of a losing branch, or of a run that lost its place: the events of
//! it that [`is_reappliable`] names, unless they were delivered before or are not lost at all.

use proto_ids::{EventId, RunId};
use proto_messages::temporal::api::history::v1::HistoryEvent;

use cluster_core::{VersionHistories, VersionItem};

use crate::{branch, runs::RunFacts};

pub use cluster_core::request::is_reappliable;

/// The identity under which the server itself acts.
pub const SERVER_IDENTITY: &str = cluster_core::SERVER;

/// Events to deliver again, with the run they come from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reappliable {
    /// The run that lost them.
    pub run_id: RunId,
    /// In the order in which they stood.
    pub events: Vec<HistoryEvent>,
}

/// The local knowledge about the run that events come from.
#[derive(Clone, Debug)]
pub struct Source<'a> {
    /// Its place among the runs of the workflow id.
    pub facts: RunFacts,
    /// Its branches.
    pub versions: &'a VersionHistories,
    /// It lost to the current run.
    pub is_zombie: bool,
}

impl Source<'_> {
    /// Whether an event of this run is lost to the workflow id whose current run is `current`: no run that
    /// counts has it in its history.
    pub fn lost(&self, event: &HistoryEvent, current: &RunFacts) -> bool {
        let item = VersionItem {
            event_id: EventId::new(event.event_id),
            version: event.version.into(),
        };
        let is_kept = branch::contains(&self.versions.current().items, item);
        !is_kept || (self.is_zombie && !self.facts.precedes(current))
    }
}

impl Reappliable {
    /// Picks from `events` of `run_id`, leaving out what was `delivered` before. The key is the run, the event
    /// id and the version: an event that is sent twice, or found on two ways, counts once.
    pub fn pick<'a>(
        run_id: &RunId,
        events: impl IntoIterator<Item = &'a HistoryEvent>,
        delivered: impl Fn(&(RunId, i64, i64)) -> bool,
    ) -> Self {
        let events = events
            .into_iter()
            .filter(|event| is_reappliable(event))
            .filter(|event| !delivered(&key(run_id, event)))
            .cloned()
            .collect();
        Self {
            run_id: run_id.clone(),
            events,
        }
    }

    /// Whether there is nothing to deliver.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// The keys that mark the events as reapplied.
    pub fn keys(&self) -> impl Iterator<Item = (RunId, i64, i64)> + '_ {
        self.events.iter().map(|event| key(&self.run_id, event))
    }
}

fn key(run_id: &RunId, event: &HistoryEvent) -> (RunId, i64, i64) {
    (run_id.clone(), event.event_id, event.version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    use cluster_core::VersionHistory;
    use proto_messages::temporal::api::{
        enums::v1::EventType,
        history::v1::{self as history, history_event::Attributes},
    };

    fn event(
        id: i64,
        version: i64,
        kind: EventType,
        attributes: Option<Attributes>,
    ) -> HistoryEvent {
        HistoryEvent {
            event_id: id,
            version,
            event_type: kind as i32,
            attributes,
            ..Default::default()
        }
    }

    fn signal(id: i64) -> HistoryEvent {
        let attributes = Attributes::WorkflowExecutionSignaledEventAttributes(Default::default());
        event(
            id,
            1,
            EventType::WorkflowExecutionSignaled,
            Some(attributes),
        )
    }

    fn terminated(id: i64, identity: &str) -> HistoryEvent {
        let attributes = Attributes::WorkflowExecutionTerminatedEventAttributes(
            history::WorkflowExecutionTerminatedEventAttributes {
                identity: identity.to_owned(),
                ..Default::default()
            },
        );
        event(
            id,
            1,
            EventType::WorkflowExecutionTerminated,
            Some(attributes),
        )
    }

    #[test]
    fn what_came_from_outside_is_delivered_once_again() {
        let cancel =
            Attributes::WorkflowExecutionCancelRequestedEventAttributes(Default::default());
        let events = [
            signal(6),
            event(7, 1, EventType::TimerFired, None),
            signal(8),
            event(
                9,
                1,
                EventType::WorkflowExecutionCancelRequested,
                Some(cancel),
            ),
            terminated(10, "somebody"),
            terminated(11, SERVER_IDENTITY),
            terminated(12, cluster_core::RESETTER),
        ];
        let run = RunId::new("run");
        let seen = BTreeSet::from([(run.clone(), 6, 1)]);
        let ids = |seen: &BTreeSet<_>| {
            let picked = Reappliable::pick(&run, &events, |key| seen.contains(key));
            picked.events.iter().map(|e| e.event_id).collect::<Vec<_>>()
        };
        assert_eq!(ids(&BTreeSet::new()), [6, 8, 9, 10]);
        assert_eq!(ids(&seen), [8, 9, 10]);
    }

    #[test]
    fn an_event_is_lost_when_no_run_that_counts_has_it() {
        let items = |list: &[(i64, i64)]| VersionHistory {
            items: list
                .iter()
                .map(|&(e, v)| VersionItem {
                    event_id: e.into(),
                    version: v.into(),
                })
                .collect(),
            ..Default::default()
        };
        let versions = VersionHistories {
            current: 1,
            histories: vec![items(&[(9, 1)]), items(&[(5, 1), (8, 2)])],
        };
        let facts = |id: &str, version: i64| RunFacts {
            run_id: id.into(),
            last_version: version.into(),
            first_version: version.into(),
            original: id.into(),
            ..RunFacts::default()
        };
        let source = |is_zombie| Source {
            facts: facts("run", 1),
            versions: &versions,
            is_zombie,
        };
        // On the branch that lost, on the one that won, and of a run that lost as a whole.
        assert!(source(false).lost(&signal(7), &facts("run", 1)));
        assert!(!source(false).lost(&signal(4), &facts("run", 1)));
        assert!(source(true).lost(&signal(4), &facts("other", 2)));
        let continues = RunFacts {
            continues: "run".into(),
            ..facts("other", 2)
        };
        assert!(!source(true).lost(&signal(4), &continues));
    }
}
