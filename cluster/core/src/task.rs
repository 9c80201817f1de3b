//! Tasks: what must happen because state changed, as plain data. The active side executes them, a standby
//! verifies them, a test compares them. A timer is a task with a fire time; there is no sleeping here.

use proto_ids::{EventId, FailoverVersion, RunId, Timestamp};

/// One task of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Version of the event or record that made it.
    pub version: FailoverVersion,
    /// When to run it; `None` means at once.
    pub fire_at: Option<Timestamp>,
    /// Its kind.
    pub kind: TaskKind,
}

/// Which timeout of a workflow task or activity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Timeout {
    /// Scheduled, never started.
    ScheduleToStart,
    /// Started, never finished.
    StartToClose,
    /// Scheduled, never finished.
    ScheduleToClose,
    /// No heartbeat in time.
    Heartbeat,
}

/// The kind of a task. Event ids refer to the run's current branch. Executors re-check state: a task whose
/// reason has gone is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskKind {
    // Transfer: at once.
    /// Hand the scheduled workflow task to matching (sticky or normal queue is decided from state).
    WorkflowTask {
        /// Event id the workflow task was scheduled with.
        scheduled_event_id: EventId,
        /// Attempt, from 1.
        attempt: i32,
    },
    /// Hand the scheduled activity to matching.
    Activity {
        /// The activity's scheduled event.
        scheduled_event_id: EventId,
        /// Attempt, from 1.
        attempt: i32,
    },
    /// Start a child workflow.
    StartChild {
        /// The initiated event.
        initiated_event_id: EventId,
    },
    /// Signal another run.
    SignalExternal {
        /// The initiated event.
        initiated_event_id: EventId,
    },
    /// Ask another run to cancel.
    CancelExternal {
        /// The initiated event.
        initiated_event_id: EventId,
    },
    /// The run closed: notify the parent, apply parent-close policies to children.
    Close,
    /// Delete the run everywhere (asked for by a client).
    DeleteExecution,

    // Timer: at `fire_at`.
    /// A timer the workflow started.
    UserTimer {
        /// The started event.
        started_event_id: EventId,
    },
    /// An activity's timeout.
    ActivityTimeout {
        /// The activity's scheduled event.
        scheduled_event_id: EventId,
        /// Attempt it was armed for.
        attempt: i32,
        /// Which timeout.
        timeout: Timeout,
    },
    /// An activity's next attempt is due.
    ActivityRetry {
        /// The activity's scheduled event.
        scheduled_event_id: EventId,
        /// The attempt to dispatch.
        attempt: i32,
    },
    /// A workflow task's timeout.
    WorkflowTaskTimeout {
        /// Event id the workflow task was scheduled with.
        scheduled_event_id: EventId,
        /// Attempt it was armed for.
        attempt: i32,
        /// `StartToClose`, or `ScheduleToStart` on a sticky queue.
        timeout: Timeout,
    },
    /// The first workflow task of a run that started with a delay, cron or retry back-off is due.
    WorkflowBackoff,
    /// The run timeout.
    RunTimeout,
    /// The execution timeout, over all runs of the chain.
    ExecutionTimeout,
    /// Retention passed: delete the closed run.
    Retention,

    // Visibility: at once, in a lane of its own.
    /// Write the run's visibility row from current state (start, upsert and close alike).
    Visibility,

    // Replication: read by streams.
    /// Send events `first..next` of the branch that holds `next - 1` at the task's version.
    ReplicateHistory {
        /// First event.
        first_event_id: EventId,
        /// End, exclusive.
        next_event_id: EventId,
        /// The run that continues this one, when this batch closed it.
        new_run_id: Option<RunId>,
    },
    /// Send an activity's in-flight state.
    SyncActivity {
        /// The activity's scheduled event.
        scheduled_event_id: EventId,
    },
    /// Send a closed run's whole state.
    SyncWorkflowState,
    /// Notify other clusters that the run was deleted.
    ReplicateDelete,
}

/// The type of a task, without its subject. The numbers are those under which tasks are stored: none is ever
/// used again for another type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TaskType {
    /// See [`TaskKind::WorkflowTask`].
    WorkflowTask = 1,
    /// See [`TaskKind::Activity`].
    Activity = 2,
    /// See [`TaskKind::StartChild`].
    StartChild = 3,
    /// See [`TaskKind::SignalExternal`].
    SignalExternal = 4,
    /// See [`TaskKind::CancelExternal`].
    CancelExternal = 5,
    /// See [`TaskKind::Close`].
    Close = 6,
    /// See [`TaskKind::DeleteExecution`].
    DeleteExecution = 7,
    /// See [`TaskKind::UserTimer`].
    UserTimer = 8,
    /// See [`TaskKind::ActivityTimeout`].
    ActivityTimeout = 9,
    /// See [`TaskKind::ActivityRetry`].
    ActivityRetry = 10,
    /// See [`TaskKind::WorkflowTaskTimeout`].
    WorkflowTaskTimeout = 11,
    /// See [`TaskKind::WorkflowBackoff`].
    WorkflowBackoff = 12,
    /// See [`TaskKind::RunTimeout`].
    RunTimeout = 13,
    /// See [`TaskKind::ExecutionTimeout`].
    ExecutionTimeout = 14,
    /// See [`TaskKind::Retention`].
    Retention = 15,
    /// See [`TaskKind::Visibility`].
    Visibility = 16,
    /// See [`TaskKind::ReplicateHistory`].
    ReplicateHistory = 17,
    /// See [`TaskKind::SyncActivity`].
    SyncActivity = 18,
    /// See [`TaskKind::SyncWorkflowState`].
    SyncWorkflowState = 19,
    /// See [`TaskKind::ReplicateDelete`].
    ReplicateDelete = 20,
}

/// The queue a task belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Category {
    /// At once, towards matching or another run.
    Transfer,
    /// At a fire time.
    Timer,
    /// At once, towards the visibility store.
    Visibility,
    /// Read by the streams of other clusters.
    Replication,
}

impl TaskKind {
    /// The type of the task.
    pub fn task_type(&self) -> TaskType {
        match self {
            Self::WorkflowTask { .. } => TaskType::WorkflowTask,
            Self::Activity { .. } => TaskType::Activity,
            Self::StartChild { .. } => TaskType::StartChild,
            Self::SignalExternal { .. } => TaskType::SignalExternal,
            Self::CancelExternal { .. } => TaskType::CancelExternal,
            Self::Close => TaskType::Close,
            Self::DeleteExecution => TaskType::DeleteExecution,
            Self::UserTimer { .. } => TaskType::UserTimer,
            Self::ActivityTimeout { .. } => TaskType::ActivityTimeout,
            Self::ActivityRetry { .. } => TaskType::ActivityRetry,
            Self::WorkflowTaskTimeout { .. } => TaskType::WorkflowTaskTimeout,
            Self::WorkflowBackoff => TaskType::WorkflowBackoff,
            Self::RunTimeout => TaskType::RunTimeout,
            Self::ExecutionTimeout => TaskType::ExecutionTimeout,
            Self::Retention => TaskType::Retention,
            Self::Visibility => TaskType::Visibility,
            Self::ReplicateHistory { .. } => TaskType::ReplicateHistory,
            Self::SyncActivity { .. } => TaskType::SyncActivity,
            Self::SyncWorkflowState => TaskType::SyncWorkflowState,
            Self::ReplicateDelete => TaskType::ReplicateDelete,
        }
    }

    /// The queue this kind belongs to.
    pub fn category(&self) -> Category {
        self.task_type().category()
    }
}

impl TaskType {
    /// The queue tasks of this type belong to.
    pub fn category(self) -> Category {
        match self {
            Self::WorkflowTask
            | Self::Activity
            | Self::StartChild
            | Self::SignalExternal
            | Self::CancelExternal
            | Self::Close
            | Self::DeleteExecution => Category::Transfer,
            Self::UserTimer
            | Self::ActivityTimeout
            | Self::ActivityRetry
            | Self::WorkflowTaskTimeout
            | Self::WorkflowBackoff
            | Self::RunTimeout
            | Self::ExecutionTimeout
            | Self::Retention => Category::Timer,
            Self::Visibility => Category::Visibility,
            Self::ReplicateHistory
            | Self::SyncActivity
            | Self::SyncWorkflowState
            | Self::ReplicateDelete => Category::Replication,
        }
    }
}
