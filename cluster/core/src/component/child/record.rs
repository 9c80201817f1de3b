//! The stored form of a child. Fields are only ever added; numbers are never reused. Times are nanoseconds since the Unix
//! epoch, durations nanoseconds; 0 means not set.

// State may gain a field before its record does; a test names every field and fails to compile then.
#![allow(clippy::needless_update)]

use prost::Message;
use proto_ids::{EventId, FailoverVersion};
use proto_messages::temporal::api::{common::v1::WorkflowType, enums::v1::ParentClosePolicy};

use super::ChildExecutionInfo;
use crate::record::{RecordError, decode_message};

/// A pending child workflow.
#[derive(Clone, PartialEq, ::prost::Message)]
struct StoredChild {
    #[prost(int64, tag = "1")]
    version: i64,
    #[prost(int64, tag = "2")]
    initiated_event_id: i64,
    #[prost(int64, tag = "3")]
    initiated_batch_id: i64,
    #[prost(int64, tag = "4")]
    started_event_id: i64,
    #[prost(string, tag = "5")]
    namespace: String,
    #[prost(string, tag = "6")]
    namespace_id: String,
    #[prost(string, tag = "7")]
    workflow_id: String,
    #[prost(string, tag = "8")]
    run_id: String,
    #[prost(message, optional, tag = "9")]
    workflow_type: Option<WorkflowType>,
    #[prost(string, tag = "10")]
    create_request_id: String,
    #[prost(int32, tag = "11")]
    parent_close_policy: i32,
}

pub(super) fn encode(s: &ChildExecutionInfo) -> Vec<u8> {
    to_record(s).encode_to_vec()
}

fn to_record(s: &ChildExecutionInfo) -> StoredChild {
    StoredChild {
        version: s.version.get(),
        initiated_event_id: s.initiated_event_id.get(),
        initiated_batch_id: s.initiated_batch_id.get(),
        started_event_id: s.started_event_id.get(),
        namespace: s.namespace.clone(),
        namespace_id: s.namespace_id.clone(),
        workflow_id: s.workflow_id.clone(),
        run_id: s.run_id.to_string(),
        workflow_type: Some(s.workflow_type.clone()),
        create_request_id: s.create_request_id.clone(),
        parent_close_policy: s.parent_close_policy as i32,
    }
}

pub(super) fn decode(data: &[u8]) -> Result<ChildExecutionInfo, RecordError> {
    let s: StoredChild = decode_message("child", data)?;
    let policy = ParentClosePolicy::try_from(s.parent_close_policy).map_err(|_| {
        RecordError::Unknown("parent close policy", s.parent_close_policy.to_string())
    })?;
    Ok(ChildExecutionInfo {
        version: FailoverVersion::new(s.version),
        initiated_event_id: EventId::new(s.initiated_event_id),
        initiated_batch_id: EventId::new(s.initiated_batch_id),
        started_event_id: EventId::new(s.started_event_id),
        namespace: s.namespace,
        namespace_id: s.namespace_id,
        workflow_id: s.workflow_id,
        run_id: s.run_id.into(),
        workflow_type: s.workflow_type.unwrap_or_default(),
        create_request_id: s.create_request_id,
        parent_close_policy: policy,
        ..ChildExecutionInfo::default()
    })
}
