//! The stored form of a signal to another run. Fields are only ever added; numbers are never reused. Times are nanoseconds since the Unix
//! epoch, durations nanoseconds; 0 means not set.

// State may gain a field before its record does; a test names every field and fails to compile then.
#![allow(clippy::needless_update)]

use prost::Message;
use proto_ids::{EventId, FailoverVersion};
use proto_messages::temporal::api::common::v1::WorkflowExecution;

use super::SignalInfo;
use crate::record::{RecordError, decode_message};

/// A pending signal to another run.
#[derive(Clone, PartialEq, ::prost::Message)]
struct StoredExternalSignal {
    #[prost(int64, tag = "1")]
    version: i64,
    #[prost(int64, tag = "2")]
    initiated_event_id: i64,
    #[prost(int64, tag = "3")]
    initiated_batch_id: i64,
    #[prost(string, tag = "4")]
    namespace: String,
    #[prost(string, tag = "5")]
    namespace_id: String,
    #[prost(message, optional, tag = "6")]
    target: Option<WorkflowExecution>,
    #[prost(string, tag = "7")]
    control: String,
    #[prost(string, tag = "8")]
    request_id: String,
}

pub(super) fn encode(s: &SignalInfo) -> Vec<u8> {
    to_record(s).encode_to_vec()
}

fn to_record(s: &SignalInfo) -> StoredExternalSignal {
    StoredExternalSignal {
        version: s.version.get(),
        initiated_event_id: s.initiated_event_id.get(),
        initiated_batch_id: s.initiated_batch_id.get(),
        namespace: s.namespace.clone(),
        namespace_id: s.namespace_id.clone(),
        target: Some(s.target.clone()),
        control: s.control.clone(),
        request_id: s.request_id.clone(),
    }
}

pub(super) fn decode(data: &[u8]) -> Result<SignalInfo, RecordError> {
    let s: StoredExternalSignal = decode_message("external signal", data)?;
    Ok(SignalInfo {
        version: FailoverVersion::new(s.version),
        initiated_event_id: EventId::new(s.initiated_event_id),
        initiated_batch_id: EventId::new(s.initiated_batch_id),
        namespace: s.namespace,
        namespace_id: s.namespace_id,
        target: s.target.unwrap_or_default(),
        control: s.control,
        request_id: s.request_id,
        ..SignalInfo::default()
    })
}
