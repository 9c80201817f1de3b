//! The stored form of the workflow task and of the sticky queue. Fields are only ever added; numbers are never reused. Times are nanoseconds since the Unix
//! epoch, durations nanoseconds; 0 means not set.

// State may gain a field before its record does; a test names every field and fails to compile then.
#![allow(clippy::needless_update)]

use proto_ids::{EventId, FailoverVersion, Timestamp};

use super::{Sticky, WorkflowTask};
use crate::record::{nanos, read_nanos};

/// A scheduled or started workflow task.
#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct StoredWorkflowTask {
    #[prost(int64, tag = "1")]
    pub(crate) version: i64,
    #[prost(int64, tag = "2")]
    pub(crate) scheduled_event_id: i64,
    #[prost(int64, tag = "3")]
    pub(crate) started_event_id: i64,
    #[prost(string, tag = "4")]
    pub(crate) request_id: String,
    #[prost(int32, tag = "5")]
    pub(crate) attempt: i32,
    #[prost(uint64, tag = "6")]
    pub(crate) timeout: u64,
    #[prost(int64, tag = "7")]
    pub(crate) scheduled_time: i64,
    #[prost(int64, tag = "8")]
    pub(crate) started_time: i64,
    #[prost(int64, tag = "9")]
    pub(crate) original_scheduled_time: i64,
    #[prost(string, tag = "10")]
    pub(crate) task_queue: String,
    #[prost(bool, tag = "11")]
    pub(crate) sticky: bool,
    #[prost(string, tag = "12")]
    pub(crate) identity: String,
    #[prost(bool, tag = "13")]
    pub(crate) suggest_continue_as_new: bool,
    #[prost(int64, tag = "14")]
    pub(crate) history_size: i64,
}

/// A sticky queue.
#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct StoredSticky {
    #[prost(string, tag = "1")]
    pub(crate) task_queue: String,
    #[prost(uint64, tag = "2")]
    pub(crate) schedule_to_start_timeout: u64,
}

pub(crate) fn sticky(s: &Sticky) -> StoredSticky {
    StoredSticky {
        task_queue: s.task_queue.clone(),
        schedule_to_start_timeout: nanos(s.schedule_to_start_timeout),
    }
}

pub(crate) fn read_sticky(s: StoredSticky) -> Sticky {
    Sticky {
        task_queue: s.task_queue,
        schedule_to_start_timeout: read_nanos(s.schedule_to_start_timeout),
        ..Sticky::default()
    }
}

pub(crate) fn workflow_task(s: &WorkflowTask) -> StoredWorkflowTask {
    StoredWorkflowTask {
        version: s.version.get(),
        scheduled_event_id: s.scheduled_event_id.get(),
        started_event_id: s.started_event_id.get(),
        request_id: s.request_id.clone(),
        attempt: s.attempt,
        timeout: nanos(s.timeout),
        scheduled_time: s.scheduled_time.nanos(),
        started_time: s.started_time.nanos(),
        original_scheduled_time: s.original_scheduled_time.nanos(),
        task_queue: s.task_queue.clone(),
        sticky: s.sticky,
        identity: s.identity.clone(),
        suggest_continue_as_new: s.suggest_continue_as_new,
        history_size: s.history_size,
    }
}

pub(crate) fn read_workflow_task(s: StoredWorkflowTask) -> WorkflowTask {
    WorkflowTask {
        version: FailoverVersion::new(s.version),
        scheduled_event_id: EventId::new(s.scheduled_event_id),
        started_event_id: EventId::new(s.started_event_id),
        request_id: s.request_id,
        attempt: s.attempt,
        timeout: read_nanos(s.timeout),
        scheduled_time: Timestamp::from_nanos(s.scheduled_time),
        started_time: Timestamp::from_nanos(s.started_time),
        original_scheduled_time: Timestamp::from_nanos(s.original_scheduled_time),
        task_queue: s.task_queue,
        sticky: s.sticky,
        identity: s.identity,
        suggest_continue_as_new: s.suggest_continue_as_new,
        history_size: s.history_size,
        ..WorkflowTask::default()
    }
}
