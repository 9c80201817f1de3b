//! The state of a pending timer.

use proto_ids::{EventId, FailoverVersion, Timestamp};

/// A pending timer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TimerInfo {
    /// Version of its started event.
    pub version: FailoverVersion,
    /// Its id.
    pub timer_id: String,
    /// Its started event.
    pub started_event_id: EventId,
    /// When it fires.
    pub expiry: Timestamp,
}
