//! Where a shard's queues stand.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use proto_ids::TaskId;

use super::{RecordError, decode_message, message};
use crate::queue::Reader;

/// Per category the highest id up to which everything is done, how each replication reader stands, and the
/// highest replication task that may have been trimmed. Timer rows have no position: the rows that are left are
/// the ones that are not done, and a fire time of one host's clock says nothing about the rows of another's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AckLevels {
    pub(crate) transfer: TaskId,
    pub(crate) timer: TaskId,
    pub(crate) visibility: TaskId,
    pub(crate) replication: TaskId,
    pub(crate) readers: BTreeMap<String, Reader>,
    pub(crate) dropped: TaskId,
}

impl AckLevels {
    /// Outbox rows up to here are not needed any more.
    pub(crate) fn trim(&self) -> TaskId {
        self.transfer
            .min(self.timer)
            .min(self.visibility)
            .min(self.replication)
    }
}

pub(crate) fn encode_ack_levels(p: &AckLevels) -> Bytes {
    let stored = message::AckLevels {
        transfer: p.transfer.get(),
        timer: p.timer.get(),
        visibility: p.visibility.get(),
        replication: p.replication.get(),
        readers: BTreeMap::new(),
        stands: p
            .readers
            .iter()
            .map(|(name, reader)| (name.clone(), reader_to_record(reader)))
            .collect(),
        dropped: Some(p.dropped.get()),
    };
    Bytes::from(stored.encode_to_vec())
}

pub(crate) fn decode_ack_levels(data: &[u8]) -> Result<AckLevels, RecordError> {
    let p: message::AckLevels = decode_message("queue positions", data)?;
    let replication = TaskId::new(p.replication);
    // Records without it were written when trimming told nobody; all up to the level may be gone by then.
    let dropped = p.dropped.map_or(replication, TaskId::new);
    let stands = p.stands.into_iter();
    let stands = stands.map(|(name, reader)| (name, reader_from_record(reader)));
    // Such a level waited for the readers of then: they have what it passed.
    let older = p.readers.into_iter().map(|(name, acked)| {
        let reader = Reader {
            connected: true,
            acked: TaskId::new(acked).max(dropped.next()),
            ..Reader::default()
        };
        (name, reader)
    });
    Ok(AckLevels {
        transfer: TaskId::new(p.transfer),
        timer: TaskId::new(p.timer),
        visibility: TaskId::new(p.visibility),
        replication,
        readers: older.chain(stands).collect(),
        dropped,
    })
}

fn reader_to_record(reader: &Reader) -> message::Reader {
    message::Reader {
        incarnation: reader.incarnation.clone(),
        acked: reader.acked.get(),
        complete_since: reader.complete_since.get(),
        came_back_empty: reader.came_back_empty,
        connected: reader.connected,
    }
}

fn reader_from_record(reader: message::Reader) -> Reader {
    Reader {
        incarnation: reader.incarnation,
        acked: TaskId::new(reader.acked),
        complete_since: TaskId::new(reader.complete_since),
        came_back_empty: reader.came_back_empty,
        connected: reader.connected,
    }
}
