//! One run's state. Plain data with public fields: rules change it only through the applier; the shard
//! kernel's `record` module turns it into stored rows and back.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proto_ids::{EventId, FailoverVersion, RunId, RunKey, Timestamp};
use proto_messages::temporal::api::{
    common::v1::{
        ActivityType, Header, Memo, Payloads, Priority, RetryPolicy, SearchAttributes,
        WorkflowExecution, WorkflowType,
    },
    enums::v1::{ParentClosePolicy, WorkflowExecutionStatus},
    failure::v1::Failure,
    history::v1::HistoryEvent,
    sdk::v1::UserMetadata,
    workflow::v1::ResetPoints,
};

use crate::{request::Parent, version::VersionHistories};

/// A run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MutableState {
    /// Which run.
    pub key: RunKey,
    /// The part that never changes after the first event.
    pub start: StartInfo,
    /// Small state that most decisions change.
    pub execution_info: ExecutionInfo,
    /// Branches of the history.
    pub versions: VersionHistories,
    /// Pending activities, by scheduled event.
    pub activities: BTreeMap<EventId, ActivityInfo>,
    /// Pending timers, by timer id.
    pub timers: BTreeMap<String, TimerInfo>,
    /// Pending children, by initiated event.
    pub children: BTreeMap<EventId, ChildExecutionInfo>,
    /// Pending cancels of other runs, by initiated event.
    pub external_cancels: BTreeMap<EventId, RequestCancelInfo>,
    /// Pending signals to other runs, by initiated event.
    pub external_signals: BTreeMap<EventId, SignalInfo>,
    /// Request ids of signals already taken.
    pub signal_request_ids: BTreeSet<String>,
    /// Events that wait for the workflow task in flight to end; they have no event id yet.
    pub buffered: Vec<HistoryEvent>,
}

/// The part of the state that the first event determined.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StartInfo {
    /// The type.
    pub workflow_type: WorkflowType,
    /// The queue of its workflow tasks.
    pub task_queue: String,
    /// The input.
    pub input: Option<Payloads>,
    /// The header.
    pub header: Option<Header>,
    /// When the run started.
    pub start_time: Timestamp,
    /// When its first workflow task may run (start time plus back-off).
    pub execution_time: Timestamp,
    /// Timeout over all runs of the chain; zero for none.
    pub execution_timeout: Duration,
    /// When the chain expires; zero for never.
    pub execution_expiration: Timestamp,
    /// Timeout of this run; zero for none.
    pub run_timeout: Duration,
    /// Timeout of its workflow tasks.
    pub task_timeout: Duration,
    /// The parent.
    pub parent: Option<Parent>,
    /// The root of the tree of workflows.
    pub root: Option<WorkflowExecution>,
    /// Request id of the start, for dedup.
    pub request_id: String,
    /// The identity of the client that started it.
    pub identity: String,
    /// First run of the chain.
    pub first_run_id: RunId,
    /// Run id the history was first written under (survives reset).
    pub original_run_id: RunId,
    /// Run this one continues; empty for none.
    pub continued_run_id: RunId,
    /// Retry policy.
    pub retry_policy: Option<RetryPolicy>,
    /// Attempt, from 1.
    pub attempt: i32,
    /// When retries of the chain end; zero for never.
    pub retry_expiration: Timestamp,
    /// Cron schedule; empty for none.
    pub cron_schedule: String,
    /// Failure of the run before.
    pub continued_failure: Option<Failure>,
    /// Result of the run before.
    pub last_completion_result: Option<Payloads>,
    /// User metadata.
    pub user_metadata: Option<UserMetadata>,
    /// Priority.
    pub priority: Option<Priority>,
    /// Task id of the first event: where the start stands among the writes of the cluster that made it.
    /// 0 when that cluster does not send it.
    pub clock: i64,
    /// The attributes that the next run of a retry or cron schedule begins with, though this run changes its
    /// own. `None` where there can be no such next run, and in runs that an earlier release stored.
    pub carried: Option<Carried>,
}

/// Attributes that a run was started with and may change.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Carried {
    /// Memo.
    pub memo: Option<Memo>,
    /// Search attributes.
    pub search_attributes: Option<SearchAttributes>,
}

/// Small state that most decisions change.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExecutionInfo {
    /// Open, or how it closed.
    pub status: WorkflowExecutionStatus,
    /// The run lost to another run of the same workflow id in another cluster: kept, never executed.
    pub zombie: bool,
    /// Id of the next event.
    pub next_event_id: EventId,
    /// Started event of the last completed workflow task; 0 for none.
    pub last_completed_started_event_id: EventId,
    /// Bytes of history so far.
    pub history_size: i64,
    /// Transitions so far (durable updates).
    pub state_transition_count: i64,
    /// Task id of the last event: where it stands among the writes of the cluster that made it. Runs whose
    /// last events have one version are ordered by it. 0 when that cluster does not send it.
    pub last_running_clock: i64,
    /// Last change.
    pub last_update_time: Timestamp,
    /// Close time; zero while open.
    pub close_time: Timestamp,
    /// The event that closed it, kept for the parent and for queries of the result.
    pub close_event_id: EventId,
    /// The close event's batch begins here (to read it back).
    pub close_batch_first_event_id: EventId,
    /// The run that continues this one; empty for none.
    pub new_run_id: RunId,
    /// The workflow task, scheduled or started.
    pub workflow_task: Option<WorkflowTask>,
    /// Whether the first workflow task was ever scheduled (children and delayed starts wait).
    pub first_workflow_task_scheduled: bool,
    /// The sticky queue.
    pub sticky: Option<Sticky>,
    /// Cancellation was requested, with this request id.
    pub cancel_request: Option<String>,
    /// Memo, as upserted.
    pub memo: Option<Memo>,
    /// Search attributes, as upserted.
    pub search_attributes: Option<SearchAttributes>,
    /// Points a reset by build id can go back to.
    pub reset_points: Option<ResetPoints>,
    /// Signals taken.
    pub signal_count: i64,
    /// Failed workflow task attempts in a row carry over here when a new one is made.
    pub workflow_task_attempt: i32,
    /// Most recent worker version stamp, in wire form; empty for none.
    pub most_recent_build_id: String,
    /// Events of losing branches that were re-applied here: (run, event id, version), for dedup.
    pub reapplied: BTreeSet<(RunId, i64, i64)>,
    /// Why the run was reset, when it was: base run and id.
    pub reset_run_id: RunId,
    /// SDK name of the last worker.
    pub sdk_name: String,
    /// SDK version of the last worker.
    pub sdk_version: String,
    /// The workflow tried to close over events it had not seen. Until its next task completes, no more are let
    /// in while it works, so that the close wins in the end.
    pub close_attempted: bool,
    /// The chain's workflow-task heartbeat began here; zero when the last completion made progress.
    pub workflow_task_heartbeat_since: Timestamp,
}

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
    /// Sent to the worker with the started event.
    pub suggest_continue_as_new: bool,
    /// History bytes sent to the worker with the started event.
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

/// A pending signal to another run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SignalInfo {
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
    /// Text of older SDKs, echoed with the result.
    pub control: String,
    /// Request id used towards the target, for dedup.
    pub request_id: String,
}

impl MutableState {
    /// Whether the run is open.
    pub fn is_running(&self) -> bool {
        self.execution_info.close_time.is_zero()
            && self.execution_info.next_event_id > EventId::new(1)
    }

    /// Version of the last event.
    pub fn last_version(&self) -> FailoverVersion {
        self.versions
            .histories
            .get(self.versions.current)
            .and_then(|h| h.last())
            .map_or(FailoverVersion::default(), |i| i.version)
    }
}
