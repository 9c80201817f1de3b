//! Stored records: rows of runs, whose form is the core's, and the records of this crate: tasks, the queues'
//! acknowledgement levels, dead letters. Records are small protobuf messages that change only by adding fields, so that
//! yesterday's rows can be read (frozen samples are a test).

use bytes::Bytes;
use cluster_core::{BranchToken, Delta, ItemRow, MutableState};
use prost::Message;
use proto_ids::{RunKey, ShardId};
use schema_store::execution::{BranchRecord, ItemRowKey, ItemWrite, RunRecord};

mod ack_levels;
mod dlq;
mod message;
mod task;

#[cfg(test)]
mod tests;

pub(crate) use ack_levels::{AckLevels, decode_ack_levels, encode_ack_levels};
pub use cluster_core::RecordError;
pub(crate) use dlq::{decode_dlq_entry, encode_dlq_entry};
pub(crate) use task::{decode_tasks, encode_tasks, run_of_tasks};

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

/// The run's record that every update writes.
pub(crate) fn encode_execution_info(w: &MutableState) -> Bytes {
    Bytes::from(w.encode_execution_info())
}

/// The run's record that is written once.
pub(crate) fn encode_start(w: &MutableState) -> Bytes {
    Bytes::from(w.encode_start())
}

/// Writes for the items a delta names: those that are gone are deletes. A replacing delta names all.
pub(crate) fn encode_items(w: &MutableState, delta: &Delta) -> Vec<ItemWrite> {
    let write = |row: ItemRow| ItemWrite {
        key: ItemRowKey {
            kind: row.kind,
            id: row.id,
        },
        value: row.value.map(Bytes::from),
    };
    w.encode_items(delta).into_iter().map(write).collect()
}

/// A run from its stored form.
pub(crate) fn decode(key: RunKey, stored: RunRecord) -> Result<MutableState, RecordError> {
    let items = stored.items.into_iter();
    let items = items.map(|(key, record)| (key.kind, key.id, record));
    MutableState::from_records(key, &stored.hot, &stored.start, items)
}
