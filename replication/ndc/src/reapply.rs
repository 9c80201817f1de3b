//! What of a losing branch, or of a run that lost its place, is delivered again to the winner. Signals and
//! cancel requests come from outside and were acknowledged to somebody; everything else on a losing branch
//! is work that the winner does in its own way.

use std::collections::BTreeSet;

use proto_ids::RunId;
use proto_messages::temporal::api::{
    enums::v1::EventType,
    history::v1::{HistoryEvent, history_event::Attributes},
};

/// The identity under which the server itself acts; its requests are consequences, not wishes.
pub const SERVER_IDENTITY: &str = "history-service";

/// Events to deliver again, with the run they come from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reappliable {
    /// The run that lost them.
    pub run_id: RunId,
    /// In the order in which they stood.
    pub events: Vec<HistoryEvent>,
}

impl Reappliable {
    /// Picks from `events` of `run_id`, leaving out what `seen` says was delivered before. The key is the
    /// run, the event id and the version: an event that is sent twice, or found on two ways, counts once.
    pub fn pick<'a>(
        run_id: &RunId,
        events: impl IntoIterator<Item = &'a HistoryEvent>,
        seen: &BTreeSet<(RunId, i64, i64)>,
    ) -> Self {
        let events = events
            .into_iter()
            .filter(|event| is_reappliable(event))
            .filter(|event| !seen.contains(&(run_id.clone(), event.event_id, event.version)))
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
}

/// Whether an event is one of those that survive the loss of their branch.
pub fn is_reappliable(event: &HistoryEvent) -> bool {
    match (event.event_type(), &event.attributes) {
        (EventType::WorkflowExecutionSignaled, Some(_)) => true,
        (
            EventType::WorkflowExecutionCancelRequested,
            Some(Attributes::WorkflowExecutionCancelRequestedEventAttributes(cancel)),
        ) => cancel.identity != SERVER_IDENTITY,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto_messages::temporal::api::history::v1 as history;

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
            ..HistoryEvent::default()
        }
    }

    #[test]
    fn picks_signals_once_and_leaves_work_behind() {
        let signal = Some(Attributes::WorkflowExecutionSignaledEventAttributes(
            history::WorkflowExecutionSignaledEventAttributes::default(),
        ));
        let cancel = |identity: &str| {
            Some(Attributes::WorkflowExecutionCancelRequestedEventAttributes(
                history::WorkflowExecutionCancelRequestedEventAttributes {
                    identity: identity.to_owned(),
                    ..Default::default()
                },
            ))
        };
        let events = [
            event(6, 1, EventType::WorkflowExecutionSignaled, signal.clone()),
            event(7, 1, EventType::TimerFired, None),
            event(8, 1, EventType::WorkflowExecutionSignaled, signal),
            event(
                9,
                1,
                EventType::WorkflowExecutionCancelRequested,
                cancel("somebody"),
            ),
            event(
                10,
                1,
                EventType::WorkflowExecutionCancelRequested,
                cancel(SERVER_IDENTITY),
            ),
        ];
        let run = RunId::new("run");
        let seen = BTreeSet::from([(run.clone(), 6, 1)]);
        let ids = |seen: &BTreeSet<_>| {
            let picked = Reappliable::pick(&run, &events, seen);
            picked.events.iter().map(|e| e.event_id).collect::<Vec<_>>()
        };
        assert_eq!(ids(&BTreeSet::new()), [6, 8, 9]);
        assert_eq!(ids(&seen), [8, 9]);
    }
}
