//! Requests to a run. Public messages are carried whole where the rule needs most of them.

mod fire;
mod handle;
mod reapply;

use std::time::Duration;

use proto_ids::{EventId, RunId, RunKey, Timestamp};
use proto_messages::temporal::api::{
    common::v1::{Header, Link, Payloads, WorkflowExecution},
    enums::v1::{
        CancelExternalWorkflowExecutionFailedCause, ContinueAsNewInitiator,
        ResetReapplyExcludeType, SignalExternalWorkflowExecutionFailedCause,
        StartChildWorkflowExecutionFailedCause, WorkflowTaskFailedCause,
    },
    failure::v1::Failure,
    history::v1::HistoryEvent,
    taskqueue::v1::TaskQueue,
    workflow::v1::ResetPoints,
    workflowservice::v1 as api,
};

pub use reapply::is_reappliable;
pub(crate) use reapply::reapply_event;

use crate::task::Timeout;

/// The parameters of a run's first event.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// The run to make; its run id was chosen by the caller.
    pub key: RunKey,
    /// The public request (for children and continue-as-new, the equivalent one).
    pub request: Box<api::StartWorkflowExecutionRequest>,
    /// The parent; holds the first workflow task back until the parent recorded the start.
    pub parent: Option<Parent>,
    /// First run of the chain; empty for a first run.
    pub first_run_id: RunId,
    /// The original run id, which survives reset; empty for the run itself.
    pub original_run_id: RunId,
    /// Attempt of a retried workflow, from 1; 0 is taken as 1.
    pub attempt: i32,
    /// The run continued by this one; empty for a first run.
    pub continued_run_id: RunId,
    /// Why it continues.
    pub initiator: Option<ContinueAsNewInitiator>,
    /// Failure of the continued run.
    pub continued_failure: Option<Failure>,
    /// Result carried along.
    pub last_completion_result: Option<Payloads>,
    /// Delay before the first workflow task.
    pub first_workflow_task_backoff: Duration,
    /// When the whole chain expires; zero for never.
    pub execution_expiration: Timestamp,
    /// The root of the tree of workflows, when it is not the parent's root.
    pub root: Option<WorkflowExecution>,
    /// Points of earlier runs a reset by build id can go back to.
    pub reset_points: Option<ResetPoints>,
    /// Signal delivered with the start.
    pub signal: Option<Signal>,
    /// Start the first workflow task at once for the caller (eager start was asked for and is allowed).
    pub eager: bool,
}

/// A run's parent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parent {
    /// The parent run.
    pub key: RunKey,
    /// Its namespace's name.
    pub namespace: String,
    /// The initiated event in the parent.
    pub initiated_event_id: EventId,
    /// That event's version.
    pub initiated_event_version: i64,
    /// The root of the tree of workflows.
    pub root: Option<WorkflowExecution>,
}

/// A signal.
#[derive(Clone, Debug, Default)]
pub struct Signal {
    /// Its name.
    pub name: String,
    /// Its input.
    pub input: Option<Payloads>,
    /// Its header.
    pub header: Option<Header>,
    /// The identity of the sender.
    pub identity: String,
    /// Dedup id; empty for none.
    pub request_id: String,
    /// The run that sent it.
    pub external: Option<WorkflowExecution>,
    /// Do not schedule a workflow task for it.
    pub skip_workflow_task: bool,
    /// Links for the event, from the sender.
    pub links: Vec<Link>,
}

/// A request to an existing run.
#[derive(Clone, Debug)]
pub enum Request {
    /// Deliver a signal.
    Signal {
        /// The signal.
        signal: Signal,
        /// Refuse unless the sender is this run's parent.
        only_from_parent: Option<WorkflowExecution>,
    },
    /// Ask the run to cancel.
    Cancel {
        /// The reason.
        reason: String,
        /// The identity of the caller.
        identity: String,
        /// Dedup id.
        request_id: String,
        /// The run that asked, with the initiated event there.
        external: Option<(WorkflowExecution, EventId)>,
        /// Refuse unless the asker is this run's parent.
        child_only: bool,
        /// Links for the event, from the caller.
        links: Vec<Link>,
    },
    /// Attach a start that found the run open.
    Attach {
        /// The start's request id; empty when only links are attached.
        request_id: String,
        /// Links for the event, from the caller.
        links: Vec<Link>,
    },
    /// Terminate the run.
    Terminate {
        /// The reason.
        reason: String,
        /// Details.
        details: Option<Payloads>,
        /// The identity of the caller.
        identity: String,
        /// Refuse unless this run is the parent.
        only_from_parent: Option<WorkflowExecution>,
        /// Refuse when the chain's first run is another one; empty for any.
        first_execution_run_id: RunId,
        /// Links for the event, from the caller.
        links: Vec<Link>,
    },
    /// A worker takes the workflow task.
    StartWorkflowTask {
        /// Event it was scheduled with.
        scheduled_event_id: EventId,
        /// Attempt the task was made for; 0 for any.
        attempt: i32,
        /// Dedup id of this attempt to start.
        request_id: String,
        /// The identity of the worker that takes it.
        identity: String,
        /// The queue it was polled from.
        task_queue: TaskQueue,
        /// Build id of the worker, when it sent one.
        build_id: String,
    },
    /// A worker completes the workflow task with commands.
    CompleteWorkflowTask {
        /// Event it was scheduled with.
        scheduled_event_id: EventId,
        /// Event it was started with.
        started_event_id: EventId,
        /// Attempt of the token.
        attempt: i32,
        /// The public request.
        request: Box<api::RespondWorkflowTaskCompletedRequest>,
        /// A query waits: schedule nothing for it, but do not count it as heartbeat either.
        queries_pending: bool,
    },
    /// A worker fails the workflow task.
    FailWorkflowTask {
        /// Event it was scheduled with.
        scheduled_event_id: EventId,
        /// Event it was started with.
        started_event_id: EventId,
        /// Attempt of the token.
        attempt: i32,
        /// Why.
        cause: WorkflowTaskFailedCause,
        /// The failure.
        failure: Option<Failure>,
        /// The identity of the worker that failed it.
        identity: String,
        /// The worker's binary.
        binary_checksum: String,
    },
    /// Forget the sticky queue.
    ResetSticky,
    /// Give buffered events their place in history, at the price of the workflow task in flight: before a planned
    /// failover other clusters have to get them.
    FlushBufferedEvents,
    /// Release a child's first workflow task.
    ScheduleFirstWorkflowTask,
    /// A worker takes an activity.
    StartActivity {
        /// The activity.
        scheduled_event_id: EventId,
        /// Attempt the task was made for; 0 for any.
        attempt: i32,
        /// Dedup id of this attempt to start.
        request_id: String,
        /// The identity of the worker that takes it.
        identity: String,
    },
    /// A worker's heartbeat.
    Heartbeat {
        /// The activity.
        activity: ActivityRef,
        /// Progress.
        details: Option<Payloads>,
        /// The identity of the worker.
        identity: String,
    },
    /// An activity's result.
    CompleteActivity {
        /// The activity.
        activity: ActivityRef,
        /// The result.
        result: Option<Payloads>,
        /// The identity of the worker.
        identity: String,
    },
    /// An activity's failure.
    FailActivity {
        /// The activity.
        activity: ActivityRef,
        /// The failure.
        failure: Option<Failure>,
        /// Last progress, carried to the next attempt.
        last_heartbeat_details: Option<Payloads>,
        /// The identity of the worker.
        identity: String,
    },
    /// An activity accepted its cancellation.
    CancelActivity {
        /// The activity.
        activity: ActivityRef,
        /// Details.
        details: Option<Payloads>,
        /// The identity of the worker.
        identity: String,
    },
    /// A timer task fired.
    Fire(Fire),
    /// The result of starting a child.
    ChildStarted {
        /// The initiated event.
        initiated_event_id: EventId,
        /// The child's run, or why it did not start.
        result: Result<RunId, StartChildWorkflowExecutionFailedCause>,
    },
    /// A child closed.
    ChildClosed {
        /// The initiated event.
        initiated_event_id: EventId,
        /// The child.
        child: WorkflowExecution,
        /// Its close event.
        event: Box<HistoryEvent>,
    },
    /// The result of a signal to another run.
    ExternalSignaled {
        /// The initiated event.
        initiated_event_id: EventId,
        /// Delivered, or why not.
        result: Result<(), SignalExternalWorkflowExecutionFailedCause>,
    },
    /// The result of a cancel of another run.
    ExternalCanceled {
        /// The initiated event.
        initiated_event_id: EventId,
        /// Delivered, or why not.
        result: Result<(), CancelExternalWorkflowExecutionFailedCause>,
    },
    /// Reapply events of a losing branch, given as they stood there. Deduplicated by (run, event id, version).
    Reapply {
        /// The run they come from.
        run_id: RunId,
        /// The events.
        events: Vec<HistoryEvent>,
    },
}

/// Which activity a caller means.
#[derive(Clone, Debug)]
pub enum ActivityRef {
    /// By token: scheduled event and attempt.
    Token {
        /// The scheduled event.
        scheduled_event_id: EventId,
        /// The attempt; an older one is refused.
        attempt: i32,
    },
    /// By activity id.
    Id(String),
}

/// A timer task that is due. State is checked again: what no longer applies changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fire {
    /// Any user timers due by now.
    UserTimers,
    /// Any activity timeouts due by now.
    ActivityTimeouts,
    /// The next attempt of an activity is due: only makes its dispatch task.
    ActivityRetry {
        /// The activity.
        scheduled_event_id: EventId,
        /// The attempt.
        attempt: i32,
    },
    /// A workflow task's timeout.
    WorkflowTaskTimeout {
        /// Event it was scheduled with.
        scheduled_event_id: EventId,
        /// Attempt it was armed for.
        attempt: i32,
        /// Which timeout.
        timeout: Timeout,
    },
    /// The first workflow task is due.
    WorkflowBackoff,
    /// The run timeout.
    RunTimeout,
    /// The execution timeout.
    ExecutionTimeout,
}

/// How a run is reset. See [`crate::mutable_state::MutableState`] and the reset rules.
#[derive(Clone, Debug, Default)]
pub struct Reset {
    /// The new run.
    pub new_run_id: RunId,
    /// The workflow-task-completed (or failed, or timed-out, or started) event to go back to.
    pub finish_event_id: EventId,
    /// The reason.
    pub reason: String,
    /// Dedup id.
    pub request_id: String,
    /// The identity of the caller.
    pub identity: String,
    /// Kinds of events that are not reapplied.
    pub exclude: Vec<ResetReapplyExcludeType>,
    /// Re-apply nothing at all.
    pub reapply_nothing: bool,
}
