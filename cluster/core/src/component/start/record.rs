//! The stored form of what the first event fixed. Fields are only ever added; numbers are never reused. Times are nanoseconds since the Unix
//! epoch, durations nanoseconds; 0 means not set.

// State may gain a field before its record does; a test names every field and fails to compile then.
#![allow(clippy::needless_update)]

use prost::Message;
use proto_ids::{EventId, RunKey, Timestamp};
use proto_messages::temporal::api::{
    common::v1::{
        Header, Memo, Payloads, Priority, RetryPolicy, SearchAttributes, WorkflowExecution,
        WorkflowType,
    },
    failure::v1::Failure,
    sdk::v1::UserMetadata,
};

use super::{Carried, StartInfo};
use crate::{
    record::{RecordError, decode_message, nanos, read_nanos},
    request::Parent,
};

/// The part of a run that never changes.
#[derive(Clone, PartialEq, ::prost::Message)]
struct StoredStart {
    #[prost(message, optional, tag = "1")]
    workflow_type: Option<WorkflowType>,
    #[prost(string, tag = "2")]
    task_queue: String,
    #[prost(message, optional, tag = "3")]
    input: Option<Payloads>,
    #[prost(message, optional, tag = "4")]
    header: Option<Header>,
    #[prost(int64, tag = "5")]
    start_time: i64,
    #[prost(int64, tag = "6")]
    execution_time: i64,
    #[prost(uint64, tag = "7")]
    execution_timeout: u64,
    #[prost(int64, tag = "8")]
    execution_expiration: i64,
    #[prost(uint64, tag = "9")]
    run_timeout: u64,
    #[prost(uint64, tag = "10")]
    task_timeout: u64,
    #[prost(message, optional, tag = "11")]
    parent: Option<StoredParent>,
    #[prost(message, optional, tag = "12")]
    root: Option<WorkflowExecution>,
    #[prost(string, tag = "13")]
    request_id: String,
    #[prost(string, tag = "14")]
    identity: String,
    #[prost(string, tag = "15")]
    first_run_id: String,
    #[prost(string, tag = "16")]
    original_run_id: String,
    #[prost(string, tag = "17")]
    continued_run_id: String,
    #[prost(message, optional, tag = "18")]
    retry_policy: Option<RetryPolicy>,
    #[prost(int32, tag = "19")]
    attempt: i32,
    #[prost(int64, tag = "20")]
    retry_expiration: i64,
    #[prost(string, tag = "21")]
    cron_schedule: String,
    #[prost(message, optional, tag = "22")]
    continued_failure: Option<Failure>,
    #[prost(message, optional, tag = "23")]
    last_completion_result: Option<Payloads>,
    #[prost(message, optional, tag = "24")]
    user_metadata: Option<UserMetadata>,
    #[prost(message, optional, tag = "25")]
    priority: Option<Priority>,
    #[prost(int64, tag = "27")]
    clock: i64,
    #[prost(message, optional, tag = "26")]
    carried: Option<StoredCarried>,
}

/// Attributes that a run was started with and may change.
#[derive(Clone, PartialEq, ::prost::Message)]
struct StoredCarried {
    #[prost(message, optional, tag = "1")]
    memo: Option<Memo>,
    #[prost(message, optional, tag = "2")]
    search_attributes: Option<SearchAttributes>,
}

/// A run's parent.
#[derive(Clone, PartialEq, ::prost::Message)]
struct StoredParent {
    #[prost(string, tag = "1")]
    namespace_id: String,
    #[prost(string, tag = "2")]
    workflow_id: String,
    #[prost(string, tag = "3")]
    run_id: String,
    #[prost(string, tag = "4")]
    namespace: String,
    #[prost(int64, tag = "5")]
    initiated_event_id: i64,
    #[prost(int64, tag = "6")]
    initiated_event_version: i64,
    #[prost(message, optional, tag = "7")]
    root: Option<WorkflowExecution>,
}

pub(crate) fn encode(s: &StartInfo) -> Vec<u8> {
    let stored = StoredStart {
        workflow_type: Some(s.workflow_type.clone()),
        task_queue: s.task_queue.clone(),
        input: s.input.clone(),
        header: s.header.clone(),
        start_time: s.start_time.nanos(),
        execution_time: s.execution_time.nanos(),
        execution_timeout: nanos(s.execution_timeout),
        execution_expiration: s.execution_expiration.nanos(),
        run_timeout: nanos(s.run_timeout),
        task_timeout: nanos(s.task_timeout),
        parent: s.parent.as_ref().map(parent),
        root: s.root.clone(),
        request_id: s.request_id.clone(),
        identity: s.identity.clone(),
        first_run_id: s.first_run_id.to_string(),
        original_run_id: s.original_run_id.to_string(),
        continued_run_id: s.continued_run_id.to_string(),
        retry_policy: s.retry_policy.clone(),
        attempt: s.attempt,
        retry_expiration: s.retry_expiration.nanos(),
        cron_schedule: s.cron_schedule.clone(),
        continued_failure: s.continued_failure.clone(),
        last_completion_result: s.last_completion_result.clone(),
        user_metadata: s.user_metadata.clone(),
        priority: s.priority.clone(),
        carried: s.carried.as_ref().map(|c| StoredCarried {
            memo: c.memo.clone(),
            search_attributes: c.search_attributes.clone(),
        }),
        clock: s.clock,
    };
    stored.encode_to_vec()
}

pub(crate) fn decode(data: &[u8]) -> Result<StartInfo, RecordError> {
    let s: StoredStart = decode_message("start part", data)?;
    Ok(StartInfo {
        workflow_type: s.workflow_type.unwrap_or_default(),
        task_queue: s.task_queue,
        input: s.input,
        header: s.header,
        start_time: Timestamp::from_nanos(s.start_time),
        execution_time: Timestamp::from_nanos(s.execution_time),
        execution_timeout: read_nanos(s.execution_timeout),
        execution_expiration: Timestamp::from_nanos(s.execution_expiration),
        run_timeout: read_nanos(s.run_timeout),
        task_timeout: read_nanos(s.task_timeout),
        parent: s.parent.map(read_parent),
        root: s.root,
        request_id: s.request_id,
        identity: s.identity,
        first_run_id: s.first_run_id.into(),
        original_run_id: s.original_run_id.into(),
        continued_run_id: s.continued_run_id.into(),
        retry_policy: s.retry_policy,
        attempt: s.attempt,
        retry_expiration: Timestamp::from_nanos(s.retry_expiration),
        cron_schedule: s.cron_schedule,
        continued_failure: s.continued_failure,
        last_completion_result: s.last_completion_result,
        user_metadata: s.user_metadata,
        priority: s.priority,
        carried: s.carried.map(|c| Carried {
            memo: c.memo,
            search_attributes: c.search_attributes,
        }),
        clock: s.clock,
        ..StartInfo::default()
    })
}

fn parent(p: &Parent) -> StoredParent {
    StoredParent {
        namespace_id: p.key.namespace_id.to_string(),
        workflow_id: p.key.workflow_id.to_string(),
        run_id: p.key.run_id.to_string(),
        namespace: p.namespace.clone(),
        initiated_event_id: p.initiated_event_id.get(),
        initiated_event_version: p.initiated_event_version,
        root: p.root.clone(),
    }
}

fn read_parent(p: StoredParent) -> Parent {
    Parent {
        key: RunKey::new(p.namespace_id, p.workflow_id, p.run_id),
        namespace: p.namespace,
        initiated_event_id: EventId::new(p.initiated_event_id),
        initiated_event_version: p.initiated_event_version,
        root: p.root,
        ..Parent::default()
    }
}
