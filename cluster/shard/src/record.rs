//! Workflow state to stored records and back. The stored form is this crate's own: small protobuf messages
//! that change only by adding fields, so that yesterday's rows can be read (frozen samples are a test). A run
//! is a row with the execution info, rewritten by every update, and a start part, written once, beside one row per
//! pending item.

// Core's state may gain a field before its record does; the tests name every field and fail to compile then.
#![allow(clippy::needless_update)]

use bytes::Bytes;
use cluster_core::{
    BranchToken, Delta, ItemKey, MutableState, VersionHistories, VersionHistory, VersionItem,
    version::BranchAncestor,
};
use prost::Message;
use proto_ids::{EventId, FailoverVersion, RunKey, ShardId};
use proto_messages::temporal::api::history::v1::History;
use schema_store::execution::{BranchRecord, ItemRowKey, ItemWrite, RunRecord};

mod ack_levels;
mod dlq;
mod execution_info;
mod item;
mod message;
mod start;
mod task;

#[cfg(test)]
mod tests;

pub(crate) use ack_levels::{AckLevels, decode_ack_levels, encode_ack_levels};
pub(crate) use dlq::{decode_dlq_entry, encode_dlq_entry};
pub(crate) use execution_info::encode_execution_info;
pub(crate) use start::encode_start;
pub(crate) use task::{decode_tasks, encode_tasks, run_of_tasks};

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

/// Item kinds as stored; never reused.
mod kind {
    pub(super) const ACTIVITY: i16 = 1;
    pub(super) const TIMER: i16 = 2;
    pub(super) const CHILD: i16 = 3;
    pub(super) const EXTERNAL_CANCEL: i16 = 4;
    pub(super) const EXTERNAL_SIGNAL: i16 = 5;
    pub(super) const SIGNAL_REQUEST: i16 = 6;
    pub(super) const BUFFERED: i16 = 7;
}

pub(crate) fn decode_message<M: Message + Default>(
    what: &'static str,
    data: &[u8],
) -> Result<M, RecordError> {
    M::decode(data).map_err(|e| RecordError::Encoding(what, e))
}

/// The store's form of a branch.
pub(crate) fn branch_record(shard: ShardId, branch: &BranchToken) -> BranchRecord {
    BranchRecord {
        shard,
        tree_id: branch.tree_id.clone(),
        branch_id: branch.branch_id.clone(),
        ancestors: branch
            .ancestors
            .iter()
            .map(|a| (a.branch_id.clone(), a.begin.get(), a.end.get()))
            .collect(),
    }
}

/// Whether the run has any rows of its own besides the run's row.
pub(crate) fn has_items(w: &MutableState) -> bool {
    !(w.activities.is_empty()
        && w.timers.is_empty()
        && w.children.is_empty()
        && w.external_cancels.is_empty()
        && w.external_signals.is_empty()
        && w.signal_request_ids.is_empty()
        && w.buffered.is_empty())
}

/// Writes for the items a delta names: those that are gone are deletes. A replacing delta names all.
pub(crate) fn encode_items(w: &MutableState, delta: &Delta) -> Vec<ItemWrite> {
    if !delta.replaced {
        return delta.items.iter().map(|key| encode_item(w, key)).collect();
    }
    let mut keys: Vec<ItemKey> = Vec::new();
    keys.extend(w.activities.keys().map(|id| ItemKey::Activity(*id)));
    keys.extend(w.timers.keys().map(|id| ItemKey::Timer(id.clone())));
    keys.extend(w.children.keys().map(|id| ItemKey::Child(*id)));
    keys.extend(
        w.external_cancels
            .keys()
            .map(|id| ItemKey::ExternalCancel(*id)),
    );
    keys.extend(
        w.external_signals
            .keys()
            .map(|id| ItemKey::ExternalSignal(*id)),
    );
    keys.extend(
        w.signal_request_ids
            .iter()
            .map(|id| ItemKey::SignalRequestId(id.clone())),
    );
    if !w.buffered.is_empty() {
        keys.push(ItemKey::Buffered);
    }
    keys.iter().map(|key| encode_item(w, key)).collect()
}

fn encode_item(w: &MutableState, key: &ItemKey) -> ItemWrite {
    let row = |kind, id: String| ItemRowKey { kind, id };
    let (key, value) = match key {
        ItemKey::Activity(id) => (
            row(kind::ACTIVITY, id.to_string()),
            w.activities
                .get(id)
                .map(|a| item::activity(a).encode_to_vec()),
        ),
        ItemKey::Timer(id) => (
            row(kind::TIMER, id.clone()),
            w.timers.get(id).map(|t| item::timer(t).encode_to_vec()),
        ),
        ItemKey::Child(id) => (
            row(kind::CHILD, id.to_string()),
            w.children.get(id).map(|c| item::child(c).encode_to_vec()),
        ),
        ItemKey::ExternalCancel(id) => (
            row(kind::EXTERNAL_CANCEL, id.to_string()),
            w.external_cancels
                .get(id)
                .map(|c| item::external_cancel(c).encode_to_vec()),
        ),
        ItemKey::ExternalSignal(id) => (
            row(kind::EXTERNAL_SIGNAL, id.to_string()),
            w.external_signals
                .get(id)
                .map(|s| item::external_signal(s).encode_to_vec()),
        ),
        ItemKey::SignalRequestId(id) => (
            row(kind::SIGNAL_REQUEST, id.clone()),
            w.signal_request_ids.contains(id).then(Vec::new),
        ),
        ItemKey::Buffered => (
            row(kind::BUFFERED, String::new()),
            (!w.buffered.is_empty()).then(|| {
                History {
                    events: w.buffered.clone(),
                }
                .encode_to_vec()
            }),
        ),
    };
    ItemWrite {
        key,
        value: value.map(Bytes::from),
    }
}

/// A run from its stored form.
pub(crate) fn decode(key: RunKey, stored: RunRecord) -> Result<MutableState, RecordError> {
    let (execution_info, versions) = execution_info::decode(&stored.hot)?;
    let mut w = MutableState {
        key,
        start: start::decode(&stored.start)?,
        execution_info,
        versions,
        ..MutableState::default()
    };
    for (key, value) in stored.items {
        match key.kind {
            kind::ACTIVITY => {
                let activity = item::read_activity(&value)?;
                w.activities.insert(activity.scheduled_event_id, activity);
            }
            kind::TIMER => {
                let timer = item::read_timer(&value)?;
                w.timers.insert(timer.timer_id.clone(), timer);
            }
            kind::CHILD => {
                let child = item::read_child(&value)?;
                w.children.insert(child.initiated_event_id, child);
            }
            kind::EXTERNAL_CANCEL => {
                let cancel = item::read_external_cancel(&value)?;
                w.external_cancels.insert(cancel.initiated_event_id, cancel);
            }
            kind::EXTERNAL_SIGNAL => {
                let signal = item::read_external_signal(&value)?;
                w.external_signals.insert(signal.initiated_event_id, signal);
            }
            kind::SIGNAL_REQUEST => {
                w.signal_request_ids.insert(key.id);
            }
            kind::BUFFERED => {
                w.buffered = decode_message::<History>("buffered events", &value)?.events
            }
            other => return Err(RecordError::Unknown("item kind", other.to_string())),
        }
    }
    Ok(w)
}

fn versions(from: &VersionHistories) -> message::Versions {
    let branch = |h: &VersionHistory| message::Branch {
        tree_id: h.branch.tree_id.clone(),
        branch_id: h.branch.branch_id.clone(),
        ancestors: h
            .branch
            .ancestors
            .iter()
            .map(|a| message::Ancestor {
                branch_id: a.branch_id.clone(),
                begin: a.begin.get(),
                end: a.end.get(),
            })
            .collect(),
        items: h
            .items
            .iter()
            .map(|i| message::VersionItem {
                event_id: i.event_id.get(),
                version: i.version.get(),
            })
            .collect(),
    };
    message::Versions {
        current: from.current as u32,
        branches: from.histories.iter().map(branch).collect(),
    }
}

fn read_versions(from: message::Versions) -> Result<VersionHistories, RecordError> {
    let histories: Vec<_> = from
        .branches
        .into_iter()
        .map(|b| VersionHistory {
            branch: BranchToken {
                tree_id: b.tree_id,
                branch_id: b.branch_id,
                ancestors: b
                    .ancestors
                    .into_iter()
                    .map(|a| BranchAncestor {
                        branch_id: a.branch_id,
                        begin: EventId::new(a.begin),
                        end: EventId::new(a.end),
                    })
                    .collect(),
            },
            items: b
                .items
                .into_iter()
                .map(|i| VersionItem {
                    event_id: EventId::new(i.event_id),
                    version: FailoverVersion::new(i.version),
                })
                .collect(),
        })
        .collect();
    let current = from.current as usize;
    if current >= histories.len().max(1) {
        return Err(RecordError::Unknown("current branch", current.to_string()));
    }
    Ok(VersionHistories { current, histories })
}
