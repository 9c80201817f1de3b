//! Signals, and starts that found the run open and attached themselves: both are told apart by request ids.

mod apply;
mod attach;
mod request;

use std::{collections::BTreeSet, ops::Deref};

use proto_messages::temporal::{
    api::enums::v1::EventType, server::api::persistence::v1::WorkflowMutableState,
};

pub(crate) use self::{
    attach::{attach, record_attached},
    request::{signal, signaled},
};
use super::Component;
use crate::{
    MutableState,
    record::Rows,
    transition::{ItemId, ItemKey},
};

pub(super) const COMPONENT: Component = Component {
    events: &[
        EventType::WorkflowExecutionSignaled,
        EventType::WorkflowExecutionOptionsUpdated,
    ],
    apply: apply::apply,
    rows: Some(ROWS),
    replicate,
    ..Component::NONE
};

fn replicate(ms: &MutableState, to: &mut WorkflowMutableState) {
    to.signal_requested_ids = ms.signal_request_ids.iter().cloned().collect();
    let info = to.execution_info.get_or_insert_default();
    info.signal_count = ms.execution_info.signal_count;
}

/// The number under which request ids are stored.
const KIND: i16 = 6;

/// A row says by its key alone that the id was seen.
const ROWS: Rows = Rows {
    kind: KIND,
    is_empty: |run| run.signal_request_ids.is_empty(),
    keys: |run, keys| {
        keys.extend(
            run.signal_request_ids
                .iter()
                .map(|id| ItemKey::text(KIND, id)),
        )
    },
    encode: |run, id| match id {
        ItemId::Text(id) => run.signal_request_ids.contains(id).then(Vec::new),
        ItemId::Event(_) => None,
    },
    decode: |run, id, _| {
        run.signal_request_ids.0.insert(id);
        Ok(())
    },
};

/// Request ids of signals already taken, and of starts that attached themselves.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SignalRequestIds(BTreeSet<String>);

impl Deref for SignalRequestIds {
    type Target = BTreeSet<String>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl FromIterator<String> for SignalRequestIds {
    fn from_iter<I: IntoIterator<Item = String>>(ids: I) -> Self {
        Self(ids.into_iter().collect())
    }
}
