//! The state of the workflow task, and of the queue that its worker prefers.

use std::time::Duration;

use proto_ids::{EventId, FailoverVersion, Timestamp};

/// A workflow task that is scheduled or started.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WorkflowTask {
    /// Version it was made under.
    pub version: FailoverVersion,
    /// Its scheduled event (for an attempt after the first: the id that event would get).
    pub scheduled_event_id: EventId,
    /// Its started event; 0 while not started.
    pub started_event_id: EventId,
    /// Request that started it.
    pub request_id: String,
    /// Attempt, from 1; later ones keep their events out of history until they end.
    pub attempt: i32,
    /// Start-to-close timeout.
    pub timeout: Duration,
    /// When this attempt was scheduled.
    pub scheduled_time: Timestamp,
    /// When it was started; zero while not.
    pub started_time: Timestamp,
    /// When the first of a chain of heartbeating tasks was scheduled.
    pub original_scheduled_time: Timestamp,
    /// Queue it was scheduled on (sticky or normal).
    pub task_queue: String,
    /// Whether that queue is sticky.
    pub sticky: bool,
    /// The identity of the worker that took it.
    pub identity: String,
    /// Told to the worker with the started event.
    pub suggest_continue_as_new: bool,
    /// History bytes told to the worker with the started event.
    pub history_size: i64,
}

/// A sticky queue.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sticky {
    /// Its name.
    pub task_queue: String,
    /// How long a task may wait there.
    pub schedule_to_start_timeout: Duration,
}
