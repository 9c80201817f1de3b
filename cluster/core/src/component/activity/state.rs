//! The state of a pending activity.

use std::time::Duration;

use proto_ids::{EventId, FailoverVersion, Timestamp};
use proto_messages::temporal::api::{
    common::v1::{ActivityType, Header, Payloads, Priority, RetryPolicy},
    failure::v1::Failure,
    sdk::v1::UserMetadata,
};

/// A pending activity.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ActivityInfo {
    /// Version of its last change.
    pub version: FailoverVersion,
    /// Its scheduled event.
    pub scheduled_event_id: EventId,
    /// First event of the batch that holds the scheduled event.
    pub scheduled_batch_id: EventId,
    /// Its id.
    pub activity_id: String,
    /// Its type.
    pub activity_type: ActivityType,
    /// Its queue.
    pub task_queue: String,
    /// The input.
    pub input: Option<Payloads>,
    /// The header.
    pub header: Option<Header>,
    /// When it was first scheduled.
    pub scheduled_time: Timestamp,
    /// When the current attempt was (or will be) scheduled.
    pub attempt_scheduled_time: Timestamp,
    /// Its started event; 0 while that event is not written (attempts that may be retried write it at the end).
    pub started_event_id: EventId,
    /// When the current attempt was started; zero while not.
    pub started_time: Timestamp,
    /// Request that started the current attempt.
    pub request_id: String,
    /// The identity of the worker that runs it.
    pub identity: String,
    /// Attempt, from 1.
    pub attempt: i32,
    /// Scheduled to closed, over all attempts.
    pub schedule_to_close_timeout: Duration,
    /// Scheduled to started.
    pub schedule_to_start_timeout: Duration,
    /// Started to closed, each attempt.
    pub start_to_close_timeout: Duration,
    /// Between heartbeats; zero for none.
    pub heartbeat_timeout: Duration,
    /// Last heartbeat.
    pub last_heartbeat_time: Timestamp,
    /// Last heartbeat's details.
    pub heartbeat_details: Option<Payloads>,
    /// Retry policy, defaults filled in; none for no retries.
    pub retry_policy: Option<RetryPolicy>,
    /// When retries end; zero for never.
    pub retry_expiration: Timestamp,
    /// Last attempt's failure.
    pub last_failure: Option<Failure>,
    /// Last attempt's worker.
    pub last_worker_identity: String,
    /// When the last attempt ended.
    pub last_attempt_complete_time: Timestamp,
    /// Cancellation was requested by this event; 0 for not.
    pub cancel_requested_event_id: EventId,
    /// The same worker may be given it with the completion that scheduled it.
    pub eager: bool,
    /// Priority.
    pub priority: Option<Priority>,
    /// User metadata.
    pub user_metadata: Option<UserMetadata>,
    /// Which timeouts are armed as tasks, so that none is armed twice.
    pub armed: Armed,
}

/// Timeouts that have a task under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Armed {
    /// Schedule-to-start.
    pub schedule_to_start: bool,
    /// Schedule-to-close.
    pub schedule_to_close: bool,
    /// Start-to-close.
    pub start_to_close: bool,
    /// Heartbeat.
    pub heartbeat: bool,
    /// When the heartbeat task fires: later heartbeats do not move it, it is armed again when it fired.
    pub heartbeat_at: Timestamp,
}
