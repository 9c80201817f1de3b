//! Between the wire's messages and the core's words: version items, branch tokens, batches of events, and
//! tasks as they arrive. What a peer sends is checked here, once; behind this module a batch is gapless and
//! of one version.

use bytes::Bytes;
use cluster_core::{BranchToken, EventBatch, VersionHistory, VersionItem, version::BranchAncestor};
use prost::Message;
use proto_ids::EventId;
use proto_messages::Wire;
use proto_messages::temporal::{
    api::{
        common::v1::DataBlob,
        enums::v1::EncodingType,
        history::v1::{History, HistoryEvent},
    },
    server::api::{
        history::v1::{VersionHistory as WireHistory, VersionHistoryItem},
        persistence::v1::{HistoryBranch, HistoryBranchRange},
    },
};

mod incoming;
mod run;
pub mod state;

pub(crate) use incoming::current_items;
pub use incoming::{IncomingHistory, IncomingTask, Kind, NewRun, run_key};
pub use run::{non_history_from_wire, non_history_to_wire};

/// A message that cannot be what its sender meant. The task goes to the dead letters at once.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);

/// Items as they travel.
pub fn items_to_wire(items: &[VersionItem]) -> Vec<VersionHistoryItem> {
    items
        .iter()
        .map(|item| VersionHistoryItem {
            event_id: item.event_id.get(),
            version: item.version.get(),
        })
        .collect()
}

/// Items as they came, unchecked.
pub fn items_from_wire(items: &[VersionHistoryItem]) -> Vec<VersionItem> {
    items
        .iter()
        .map(|item| VersionItem {
            event_id: item.event_id.into(),
            version: item.version.into(),
        })
        .collect()
}

/// A branch as it travels, with its token.
pub fn history_to_wire(history: &VersionHistory) -> WireHistory {
    WireHistory {
        branch_token: token_to_wire(&history.branch),
        items: items_to_wire(&history.items),
    }
}

/// A branch token in the form a peer can take apart.
pub fn token_to_wire(token: &BranchToken) -> Bytes {
    let ancestors = token
        .ancestors
        .iter()
        .map(|ancestor| HistoryBranchRange {
            branch_id: ancestor.branch_id.clone(),
            begin_node_id: ancestor.begin.get(),
            end_node_id: ancestor.end.get(),
        })
        .collect();
    let branch = HistoryBranch {
        tree_id: token.tree_id.clone(),
        branch_id: token.branch_id.clone(),
        ancestors,
    };
    branch.encode_to_vec().into()
}

/// A branch token as it came.
pub fn token_from_wire(token: &[u8]) -> Result<BranchToken, Malformed> {
    let branch = HistoryBranch::decode(token)
        .map_err(|e| Malformed(format!("the branch token cannot be read: {e}")))?;
    Ok(BranchToken {
        tree_id: branch.tree_id,
        branch_id: branch.branch_id,
        ancestors: branch
            .ancestors
            .into_iter()
            .map(|range| BranchAncestor {
                branch_id: range.branch_id,
                begin: range.begin_node_id.into(),
                end: range.end_node_id.into(),
            })
            .collect(),
    })
}

/// Encoded events as they travel.
pub fn blob(data: Bytes) -> DataBlob {
    DataBlob {
        encoding_type: EncodingType::Proto3 as i32,
        data,
    }
}

/// Events as they travel.
pub fn events_to_blob(events: &[HistoryEvent]) -> DataBlob {
    let history = History {
        events: events.to_vec(),
    };
    blob(history.to_wire())
}

/// Events as they came, unchecked.
pub fn events_from_blob(blob: &DataBlob) -> Result<Vec<HistoryEvent>, Malformed> {
    if blob.encoding_type != EncodingType::Proto3 as i32 {
        return Err(Malformed(format!(
            "events come in encoding {}",
            blob.encoding_type
        )));
    }
    let history = History::from_wire(blob.data.clone())
        .map_err(|e| Malformed(format!("events cannot be read: {e}")))?;
    Ok(history.events)
}

/// One batch as it came.
pub fn batch_from_blob(blob: &DataBlob) -> Result<EventBatch, Malformed> {
    batch(events_from_blob(blob)?)
}

/// Checks that events make a batch: at least one, gapless, of one version.
pub fn batch(events: Vec<HistoryEvent>) -> Result<EventBatch, Malformed> {
    let first = events
        .first()
        .ok_or_else(|| Malformed("a batch holds no events".to_owned()))?;
    if first.event_id < 1 || first.event_id > i64::MAX / 2 {
        return Err(Malformed(format!(
            "a batch begins with event {}",
            first.event_id
        )));
    }
    for (offset, event) in events.iter().enumerate() {
        if event.event_id != first.event_id + offset as i64 || event.version != first.version {
            return Err(Malformed(format!(
                "event {}@{} does not belong into the batch that begins with {}@{}",
                event.event_id, event.version, first.event_id, first.version
            )));
        }
    }
    Ok(EventBatch { events })
}

/// Batches as they came: each a batch, gapless from one to the next.
pub fn batches_from_blobs<'a>(
    blobs: impl IntoIterator<Item = &'a DataBlob>,
) -> Result<Vec<EventBatch>, Malformed> {
    let mut batches: Vec<EventBatch> = Vec::new();
    for blob in blobs {
        let batch = batch_from_blob(blob)?;
        if let Some(before) = batches.last().map(EventBatch::next_event_id)
            && batch.first_event_id() != before
        {
            return Err(Malformed(format!(
                "a batch begins with event {} where {before} is next",
                batch.first_event_id()
            )));
        }
        batches.push(batch);
    }
    Ok(batches)
}

/// The part of a batch from `first` on; none when that is nothing.
pub fn cut_before(batch: EventBatch, first: EventId) -> Option<EventBatch> {
    if batch.first_event_id() >= first {
        return Some(batch);
    }
    let events: Vec<_> = batch
        .events
        .into_iter()
        .filter(|e| e.event_id >= first.get())
        .collect();
    (!events.is_empty()).then_some(EventBatch { events })
}
