//! The state of a pending child.

use proto_ids::{EventId, FailoverVersion, RunId};
use proto_messages::temporal::api::{common::v1::WorkflowType, enums::v1::ParentClosePolicy};

/// A pending child workflow.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChildExecutionInfo {
    /// Version of its initiated event.
    pub version: FailoverVersion,
    /// Its initiated event.
    pub initiated_event_id: EventId,
    /// First event of the batch that holds the initiated event.
    pub initiated_batch_id: EventId,
    /// Its started event; 0 while not started.
    pub started_event_id: EventId,
    /// Its namespace.
    pub namespace: String,
    /// Its namespace's id.
    pub namespace_id: String,
    /// Its workflow id.
    pub workflow_id: String,
    /// Its run; empty while not started.
    pub run_id: RunId,
    /// Its type.
    pub workflow_type: WorkflowType,
    /// Request id its start uses, for dedup.
    pub create_request_id: String,
    /// Its parent-close policy.
    pub parent_close_policy: ParentClosePolicy,
}
