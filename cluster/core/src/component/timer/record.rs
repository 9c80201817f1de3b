//! The stored form of a timer. Fields are only ever added; numbers are never reused. Times are nanoseconds since the Unix
//! epoch, durations nanoseconds; 0 means not set.

// State may gain a field before its record does; a test names every field and fails to compile then.
#![allow(clippy::needless_update)]

use prost::Message;
use proto_ids::{EventId, FailoverVersion, Timestamp};

use super::TimerInfo;
use crate::record::{RecordError, decode_message};

/// A pending timer.
#[derive(Clone, PartialEq, ::prost::Message)]
struct StoredUserTimer {
    #[prost(int64, tag = "1")]
    version: i64,
    #[prost(string, tag = "2")]
    timer_id: String,
    #[prost(int64, tag = "3")]
    started_event_id: i64,
    #[prost(int64, tag = "4")]
    expiry: i64,
}

pub(super) fn encode(s: &TimerInfo) -> Vec<u8> {
    to_record(s).encode_to_vec()
}

fn to_record(s: &TimerInfo) -> StoredUserTimer {
    StoredUserTimer {
        version: s.version.get(),
        timer_id: s.timer_id.clone(),
        started_event_id: s.started_event_id.get(),
        expiry: s.expiry.nanos(),
    }
}

pub(super) fn decode(data: &[u8]) -> Result<TimerInfo, RecordError> {
    let s: StoredUserTimer = decode_message("timer", data)?;
    Ok(TimerInfo {
        version: FailoverVersion::new(s.version),
        timer_id: s.timer_id,
        started_event_id: EventId::new(s.started_event_id),
        expiry: Timestamp::from_nanos(s.expiry),
        ..TimerInfo::default()
    })
}
