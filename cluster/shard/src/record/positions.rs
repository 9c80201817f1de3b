//! Where a shard's queues stand.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use proto_ids::{TaskId, Timestamp};

use super::{RecordError, decode_message, message};

/// Per category the highest id up to which everything is done, how far timer rows have fired, and how far
/// each replication reader has acknowledged (exclusive).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Positions {
    pub(crate) transfer: TaskId,
    pub(crate) timer: TaskId,
    pub(crate) visibility: TaskId,
    pub(crate) replication: TaskId,
    pub(crate) timer_rows: (Timestamp, TaskId),
    pub(crate) readers: BTreeMap<String, TaskId>,
}

impl Positions {
    /// Outbox rows up to here are needed by nobody.
    pub(crate) fn trim(&self) -> TaskId {
        self.transfer
            .min(self.timer)
            .min(self.visibility)
            .min(self.replication)
    }
}

pub(crate) fn encode_positions(p: &Positions) -> Bytes {
    let stored = message::Positions {
        transfer: p.transfer.get(),
        timer: p.timer.get(),
        visibility: p.visibility.get(),
        replication: p.replication.get(),
        timer_row_at: p.timer_rows.0.nanos(),
        timer_row_id: p.timer_rows.1.get(),
        readers: p
            .readers
            .iter()
            .map(|(name, id)| (name.clone(), id.get()))
            .collect(),
    };
    Bytes::from(stored.encode_to_vec())
}

pub(crate) fn decode_positions(data: &[u8]) -> Result<Positions, RecordError> {
    let p: message::Positions = decode_message("queue positions", data)?;
    Ok(Positions {
        transfer: TaskId::new(p.transfer),
        timer: TaskId::new(p.timer),
        visibility: TaskId::new(p.visibility),
        replication: TaskId::new(p.replication),
        timer_rows: (
            Timestamp::from_nanos(p.timer_row_at),
            TaskId::new(p.timer_row_id),
        ),
        readers: p
            .readers
            .into_iter()
            .map(|(name, id)| (name, TaskId::new(id)))
            .collect(),
    })
}
