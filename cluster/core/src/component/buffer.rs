//! Events that wait for the workflow task in flight to end: the worker has not seen them, so they have no place
//! in history yet. Their effects on state are there already.

use std::ops::Deref;

use prost::Message;
use proto_messages::temporal::api::history::v1::{History, HistoryEvent};

use super::{Component, is_result};
use crate::{
    record::{Rows, decode_message},
    transition::ItemKey,
};

pub(super) const COMPONENT: Component = Component {
    rows: Some(ROWS),
    replicate: |ms, to| to.buffered_events = ms.buffered.to_vec(),
    ..Component::NONE
};

/// The number under which the buffer is stored.
const KIND: i16 = 7;

/// All buffered events are one row.
const ROWS: Rows = Rows {
    kind: KIND,
    is_empty: |run| run.buffered.is_empty(),
    keys: |run, keys| keys.extend((!run.buffered.is_empty()).then(item_key)),
    encode: |run, _| {
        let events = || History {
            events: run.buffered.to_vec(),
        };
        (!run.buffered.is_empty()).then(|| events().encode_to_vec())
    },
    decode: |run, _, data| {
        run.buffered.0 = decode_message::<History>("buffered events", data)?.events;
        Ok(())
    },
};

/// The key of the buffer in a change of state.
pub(crate) fn item_key() -> ItemKey {
    ItemKey::text(KIND, "")
}

/// Events without an event id, in the order in which they arrived.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Buffer(Vec<HistoryEvent>);

impl Deref for Buffer {
    type Target = [HistoryEvent];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl FromIterator<HistoryEvent> for Buffer {
    fn from_iter<I: IntoIterator<Item = HistoryEvent>>(events: I) -> Self {
        Self(events.into_iter().collect())
    }
}

impl Buffer {
    pub(crate) fn push(&mut self, event: HistoryEvent) {
        self.0.push(event);
    }

    /// Takes an event back that will not be part of history.
    pub(crate) fn take_back(&mut self, index: usize) -> HistoryEvent {
        self.0.remove(index)
    }

    /// Empties the buffer, in the order in which its events become history: results go last.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = HistoryEvent> + use<> {
        let (results, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.0)
            .into_iter()
            .partition(|event| is_result(event.event_type()));
        others.into_iter().chain(results)
    }
}
