//! The stored form of an activity. Fields are only ever added; numbers are never reused. Times are nanoseconds since the Unix
//! epoch, durations nanoseconds; 0 means not set.

// State may gain a field before its record does; a test names every field and fails to compile then.
#![allow(clippy::needless_update)]

use prost::Message;
use proto_ids::{EventId, FailoverVersion, Timestamp};
use proto_messages::temporal::api::{
    common::v1::{ActivityType, Header, Payloads, Priority, RetryPolicy},
    failure::v1::Failure,
    sdk::v1::UserMetadata,
};

use super::{ActivityInfo, Armed};
use crate::record::{RecordError, decode_message, nanos, read_nanos};

/// A pending activity.
#[derive(Clone, PartialEq, ::prost::Message)]
struct StoredActivity {
    #[prost(int64, tag = "1")]
    version: i64,
    #[prost(int64, tag = "2")]
    scheduled_event_id: i64,
    #[prost(int64, tag = "3")]
    scheduled_batch_id: i64,
    #[prost(string, tag = "4")]
    activity_id: String,
    #[prost(message, optional, tag = "5")]
    activity_type: Option<ActivityType>,
    #[prost(string, tag = "6")]
    task_queue: String,
    #[prost(message, optional, tag = "7")]
    input: Option<Payloads>,
    #[prost(message, optional, tag = "8")]
    header: Option<Header>,
    #[prost(int64, tag = "9")]
    scheduled_time: i64,
    #[prost(int64, tag = "10")]
    attempt_scheduled_time: i64,
    #[prost(int64, tag = "11")]
    started_event_id: i64,
    #[prost(int64, tag = "12")]
    started_time: i64,
    #[prost(string, tag = "13")]
    request_id: String,
    #[prost(string, tag = "14")]
    identity: String,
    #[prost(int32, tag = "15")]
    attempt: i32,
    #[prost(uint64, tag = "16")]
    schedule_to_close_timeout: u64,
    #[prost(uint64, tag = "17")]
    schedule_to_start_timeout: u64,
    #[prost(uint64, tag = "18")]
    start_to_close_timeout: u64,
    #[prost(uint64, tag = "19")]
    heartbeat_timeout: u64,
    #[prost(int64, tag = "20")]
    last_heartbeat_time: i64,
    #[prost(message, optional, tag = "21")]
    heartbeat_details: Option<Payloads>,
    #[prost(message, optional, tag = "22")]
    retry_policy: Option<RetryPolicy>,
    #[prost(int64, tag = "23")]
    retry_expiration: i64,
    #[prost(message, optional, tag = "24")]
    last_failure: Option<Failure>,
    #[prost(string, tag = "25")]
    last_worker_identity: String,
    #[prost(int64, tag = "26")]
    last_attempt_complete_time: i64,
    #[prost(int64, tag = "27")]
    cancel_requested_event_id: i64,
    #[prost(bool, tag = "28")]
    eager: bool,
    #[prost(message, optional, tag = "29")]
    priority: Option<Priority>,
    #[prost(message, optional, tag = "30")]
    user_metadata: Option<UserMetadata>,
    #[prost(message, optional, tag = "31")]
    armed: Option<StoredArmed>,
}

/// Timeouts that have a task under way.
#[derive(Clone, PartialEq, ::prost::Message)]
struct StoredArmed {
    #[prost(bool, tag = "1")]
    schedule_to_start: bool,
    #[prost(bool, tag = "2")]
    schedule_to_close: bool,
    #[prost(bool, tag = "3")]
    start_to_close: bool,
    #[prost(bool, tag = "4")]
    heartbeat: bool,
    #[prost(int64, tag = "5")]
    heartbeat_at: i64,
}

pub(super) fn encode(s: &ActivityInfo) -> Vec<u8> {
    to_record(s).encode_to_vec()
}

fn to_record(s: &ActivityInfo) -> StoredActivity {
    StoredActivity {
        version: s.version.get(),
        scheduled_event_id: s.scheduled_event_id.get(),
        scheduled_batch_id: s.scheduled_batch_id.get(),
        activity_id: s.activity_id.clone(),
        activity_type: Some(s.activity_type.clone()),
        task_queue: s.task_queue.clone(),
        input: s.input.clone(),
        header: s.header.clone(),
        scheduled_time: s.scheduled_time.nanos(),
        attempt_scheduled_time: s.attempt_scheduled_time.nanos(),
        started_event_id: s.started_event_id.get(),
        started_time: s.started_time.nanos(),
        request_id: s.request_id.clone(),
        identity: s.identity.clone(),
        attempt: s.attempt,
        schedule_to_close_timeout: nanos(s.schedule_to_close_timeout),
        schedule_to_start_timeout: nanos(s.schedule_to_start_timeout),
        start_to_close_timeout: nanos(s.start_to_close_timeout),
        heartbeat_timeout: nanos(s.heartbeat_timeout),
        last_heartbeat_time: s.last_heartbeat_time.nanos(),
        heartbeat_details: s.heartbeat_details.clone(),
        retry_policy: s.retry_policy.clone(),
        retry_expiration: s.retry_expiration.nanos(),
        last_failure: s.last_failure.clone(),
        last_worker_identity: s.last_worker_identity.clone(),
        last_attempt_complete_time: s.last_attempt_complete_time.nanos(),
        cancel_requested_event_id: s.cancel_requested_event_id.get(),
        eager: s.eager,
        priority: s.priority.clone(),
        user_metadata: s.user_metadata.clone(),
        armed: Some(armed(&s.armed)),
    }
}

pub(super) fn decode(data: &[u8]) -> Result<ActivityInfo, RecordError> {
    let s: StoredActivity = decode_message("activity", data)?;
    Ok(ActivityInfo {
        version: FailoverVersion::new(s.version),
        scheduled_event_id: EventId::new(s.scheduled_event_id),
        scheduled_batch_id: EventId::new(s.scheduled_batch_id),
        activity_id: s.activity_id,
        activity_type: s.activity_type.unwrap_or_default(),
        task_queue: s.task_queue,
        input: s.input,
        header: s.header,
        scheduled_time: Timestamp::from_nanos(s.scheduled_time),
        attempt_scheduled_time: Timestamp::from_nanos(s.attempt_scheduled_time),
        started_event_id: EventId::new(s.started_event_id),
        started_time: Timestamp::from_nanos(s.started_time),
        request_id: s.request_id,
        identity: s.identity,
        attempt: s.attempt,
        schedule_to_close_timeout: read_nanos(s.schedule_to_close_timeout),
        schedule_to_start_timeout: read_nanos(s.schedule_to_start_timeout),
        start_to_close_timeout: read_nanos(s.start_to_close_timeout),
        heartbeat_timeout: read_nanos(s.heartbeat_timeout),
        last_heartbeat_time: Timestamp::from_nanos(s.last_heartbeat_time),
        heartbeat_details: s.heartbeat_details,
        retry_policy: s.retry_policy,
        retry_expiration: Timestamp::from_nanos(s.retry_expiration),
        last_failure: s.last_failure,
        last_worker_identity: s.last_worker_identity,
        last_attempt_complete_time: Timestamp::from_nanos(s.last_attempt_complete_time),
        cancel_requested_event_id: EventId::new(s.cancel_requested_event_id),
        eager: s.eager,
        priority: s.priority,
        user_metadata: s.user_metadata,
        armed: read_armed(s.armed),
        ..ActivityInfo::default()
    })
}

fn armed(s: &Armed) -> StoredArmed {
    StoredArmed {
        schedule_to_start: s.schedule_to_start,
        schedule_to_close: s.schedule_to_close,
        start_to_close: s.start_to_close,
        heartbeat: s.heartbeat,
        heartbeat_at: s.heartbeat_at.nanos(),
    }
}

fn read_armed(s: Option<StoredArmed>) -> Armed {
    let s = s.unwrap_or_default();
    Armed {
        schedule_to_start: s.schedule_to_start,
        schedule_to_close: s.schedule_to_close,
        start_to_close: s.start_to_close,
        heartbeat: s.heartbeat,
        heartbeat_at: Timestamp::from_nanos(s.heartbeat_at),
        ..Armed::default()
    }
}
