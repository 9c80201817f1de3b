//! Tasks that were set aside, as their queue holds them.

use bytes::Bytes;
use prost::Message;
use proto_ids::{RunKey, ShardId, Timestamp};

use super::{RecordError, decode_message, message};
use crate::dlq::DlqEntry;

pub(crate) fn encode_dlq_entry(entry: &DlqEntry) -> Bytes {
    let stored = message::DlqEntry {
        shard: entry.shard.get(),
        category: entry.category,
        kind: entry.kind.clone(),
        namespace_id: entry.run.namespace_id.to_string(),
        workflow_id: entry.run.workflow_id.to_string(),
        run_id: entry.run.run_id.to_string(),
        cause: entry.cause.clone(),
        time: entry.time.nanos(),
        attempts: entry.attempts,
        row: entry.row.clone(),
    };
    Bytes::from(stored.encode_to_vec())
}

pub(crate) fn decode_dlq_entry(data: &[u8]) -> Result<DlqEntry, RecordError> {
    let stored: message::DlqEntry = decode_message("dead-letter queue entry", data)?;
    Ok(DlqEntry {
        shard: ShardId::new(stored.shard),
        category: stored.category,
        kind: stored.kind,
        run: RunKey::new(stored.namespace_id, stored.workflow_id, stored.run_id),
        cause: stored.cause,
        time: Timestamp::from_nanos(stored.time),
        attempts: stored.attempts,
        row: stored.row,
    })
}
