//! The state of a pending cancel of another run.

use proto_ids::{EventId, FailoverVersion};
use proto_messages::temporal::api::common::v1::WorkflowExecution;

/// A pending cancel of another run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RequestCancelInfo {
    /// Version of its initiated event.
    pub version: FailoverVersion,
    /// Its initiated event.
    pub initiated_event_id: EventId,
    /// First event of the batch that holds the initiated event.
    pub initiated_batch_id: EventId,
    /// The target's namespace.
    pub namespace: String,
    /// The target's namespace's id.
    pub namespace_id: String,
    /// The target.
    pub target: WorkflowExecution,
    /// Request id used towards the target, for dedup.
    pub request_id: String,
}
