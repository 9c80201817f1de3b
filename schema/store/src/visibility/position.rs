//! Where a row stands in the order of lists, and the page token made of it.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use proto_ids::RunId;

use super::VisibilityRecord;
use crate::error::StoreError;

/// A row's place: open rows first, then the newest close, then the newest start, then the run id. The derived
/// order is the order of lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Close time in nanoseconds; `i64::MAX` while open.
    pub close: i64,
    /// Start time in nanoseconds.
    pub start: i64,
    /// The run.
    pub run_id: RunId,
}

impl Position {
    /// Where the row stands.
    pub fn of(record: &VisibilityRecord) -> Self {
        let close = record.close_time;
        Self {
            close: if close.is_zero() {
                i64::MAX
            } else {
                close.nanos()
            },
            start: record.start_time.nanos(),
            run_id: record.run_id.clone(),
        }
    }

    /// As a page token.
    pub fn encode(&self) -> Bytes {
        let mut token = BytesMut::with_capacity(17 + self.run_id.as_str().len());
        token.put_u8(1);
        token.put_i64(self.close);
        token.put_i64(self.start);
        token.put_slice(self.run_id.as_str().as_bytes());
        token.freeze()
    }

    /// From a page token, which came from outside.
    pub fn decode(mut token: &[u8]) -> Result<Self, StoreError> {
        let invalid = || StoreError::Invalid("invalid next page token".to_owned());
        if token.len() < 17 || token.get_u8() != 1 {
            return Err(invalid());
        }
        Ok(Self {
            close: token.get_i64(),
            start: token.get_i64(),
            run_id: RunId::new(std::str::from_utf8(token).map_err(|_| invalid())?),
        })
    }
}

impl Ord for Position {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.close, other.start, &self.run_id).cmp(&(self.close, self.start, &other.run_id))
    }
}

impl PartialOrd for Position {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
