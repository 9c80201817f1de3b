//! The stored form of a run: a row with the small state that most decisions change, rewritten by every update, and
//! what the first event fixed, written once, beside one row per pending item. Each component has the form of its
//! items; the shard kernel puts the bytes into rows.

mod execution_info;

use std::{collections::BTreeMap, time::Duration};

use prost::Message;
use proto_ids::{EventId, RunKey};

use crate::{
    MutableState, component,
    component::start,
    transition::{Delta, ItemId, ItemKey},
};

/// A stored record that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Not the encoding it should be.
    #[error("decode {0}: {1}")]
    Encoding(&'static str, prost::DecodeError),
    /// A value this version does not know.
    #[error("{0} has the unknown value {1}")]
    Unknown(&'static str, String),
}

/// How the items of a component are stored: a row each.
pub(crate) struct Rows {
    /// The number under which the rows are stored; never reused.
    pub(crate) kind: i16,
    /// Whether there is none.
    pub(crate) is_empty: fn(&MutableState) -> bool,
    /// The keys of all rows.
    pub(crate) keys: fn(&MutableState, &mut Vec<ItemKey>),
    /// The row of a key; `None` when it is to be deleted.
    pub(crate) encode: fn(&MutableState, &ItemId) -> Option<Vec<u8>>,
    /// Takes a row, with its id, into the state.
    pub(crate) decode: fn(&mut MutableState, String, &[u8]) -> Result<(), RecordError>,
}

/// A row of a run's pending item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemRow {
    /// The kind of item; never reused for another one.
    pub kind: i16,
    /// Which of its kind.
    pub id: String,
    /// The record; `None` deletes the row.
    pub value: Option<Vec<u8>>,
}

impl MutableState {
    /// The record of the small state and of the history's branches.
    pub fn encode_execution_info(&self) -> Vec<u8> {
        execution_info::encode(self)
    }

    /// The record of what the first event fixed.
    pub fn encode_start(&self) -> Vec<u8> {
        start::encode(&self.start)
    }

    /// Whether the run has any rows of its own besides the run's row.
    pub fn has_items(&self) -> bool {
        let mut rows = component::all().iter().filter_map(|c| c.rows.as_ref());
        rows.any(|rows| !(rows.is_empty)(self))
    }

    /// Rows for the items a delta names: those that are gone are deletes. A replacing delta names all.
    pub fn encode_items(&self, delta: &Delta) -> Vec<ItemRow> {
        if !delta.replaced {
            return delta
                .items
                .iter()
                .map(|key| self.encode_item(key))
                .collect();
        }
        let mut keys = Vec::new();
        for rows in component::all().iter().filter_map(|c| c.rows.as_ref()) {
            (rows.keys)(self, &mut keys);
        }
        keys.sort_unstable();
        keys.iter().map(|key| self.encode_item(key)).collect()
    }

    fn encode_item(&self, key: &ItemKey) -> ItemRow {
        let rows = component::of_rows(key.kind);
        ItemRow {
            kind: key.kind,
            id: key.id.to_text(),
            value: rows.and_then(|rows| (rows.encode)(self, &key.id)),
        }
    }

    /// A run from its records. Items are the kind, the id and the record of each row.
    pub fn from_records(
        key: RunKey,
        execution_info: &[u8],
        start: &[u8],
        items: impl IntoIterator<Item = (i16, String, impl AsRef<[u8]>)>,
    ) -> Result<MutableState, RecordError> {
        let (execution_info, versions) = execution_info::decode(execution_info)?;
        let mut ms = MutableState {
            key,
            start: start::decode(start)?,
            execution_info,
            versions,
            ..MutableState::default()
        };
        for (kind, id, record) in items {
            let Some(rows) = component::of_rows(kind) else {
                return Err(RecordError::Unknown("item kind", kind.to_string()));
            };
            (rows.decode)(&mut ms, id, record.as_ref())?;
        }
        Ok(ms)
    }
}

pub(crate) fn decode_message<M: Message + Default>(
    what: &'static str,
    data: &[u8],
) -> Result<M, RecordError> {
    M::decode(data).map_err(|e| RecordError::Encoding(what, e))
}

pub(crate) fn nanos(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}

pub(crate) fn read_nanos(n: u64) -> Duration {
    Duration::from_nanos(n)
}

/// The id by which items are found: an event or a text.
pub(crate) trait RowId: Ord + Sized {
    fn to_item_id(&self) -> ItemId;
    fn find<'a, T>(items: &'a BTreeMap<Self, T>, id: &ItemId) -> Option<&'a T>;
}

impl RowId for EventId {
    fn to_item_id(&self) -> ItemId {
        ItemId::Event(*self)
    }

    fn find<'a, T>(items: &'a BTreeMap<Self, T>, id: &ItemId) -> Option<&'a T> {
        match id {
            ItemId::Event(id) => items.get(id),
            ItemId::Text(_) => None,
        }
    }
}

impl RowId for String {
    fn to_item_id(&self) -> ItemId {
        ItemId::Text(self.clone())
    }

    fn find<'a, T>(items: &'a BTreeMap<Self, T>, id: &ItemId) -> Option<&'a T> {
        match id {
            ItemId::Event(_) => None,
            ItemId::Text(id) => items.get(id),
        }
    }
}
