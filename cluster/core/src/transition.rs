//! A transition of mutable state, the result of one decision: events, state change, tasks, reply, and what may
//! happen only once it is durable.

use std::collections::BTreeSet;

use proto_ids::{EventId, FailoverVersion, RunId};
use proto_messages::temporal::api::{
    enums::v1::{WorkflowExecutionStatus, WorkflowTaskFailedCause},
    failure::v1::Failure,
    history::v1::HistoryEvent,
};

use crate::{MutableState, task::Task};

/// Events written by one decision, gapless, all of one version: one node of stored history.
#[derive(Clone, Debug, PartialEq)]
pub struct EventBatch {
    /// At least one event.
    pub events: Vec<HistoryEvent>,
}

impl EventBatch {
    /// Id of the first event.
    pub fn first_event_id(&self) -> EventId {
        EventId::new(self.events[0].event_id)
    }

    /// Id after the last event.
    pub fn next_event_id(&self) -> EventId {
        EventId::new(self.events[self.events.len() - 1].event_id + 1)
    }

    /// The version all events carry.
    pub fn version(&self) -> FailoverVersion {
        FailoverVersion::new(self.events[0].version)
    }
}

/// A part of the state that is stored as a row of its own. Made by the component it belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemKey {
    /// The number of the kind, as rows have it.
    pub(crate) kind: i16,
    pub(crate) id: ItemId,
}

/// Which item of its kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ItemId {
    /// By the event that opened it.
    Event(EventId),
    /// By a name of its own.
    Text(String),
}

impl ItemId {
    /// As rows have it.
    pub(crate) fn to_text(&self) -> String {
        match self {
            Self::Event(id) => id.to_string(),
            Self::Text(id) => id.clone(),
        }
    }
}

impl ItemKey {
    /// The item of a kind that an event opened.
    pub fn event(kind: i16, id: EventId) -> Self {
        let id = ItemId::Event(id);
        Self { kind, id }
    }

    /// The item of a kind that has a name of its own.
    pub fn text(kind: i16, id: impl Into<String>) -> Self {
        let id = ItemId::Text(id.into());
        Self { kind, id }
    }
}

/// Which parts of the state changed. An item that is named but no longer present was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// The immutable start part was written (start, reset, import).
    pub start: bool,
    /// Changed or removed items.
    pub items: BTreeSet<ItemKey>,
    /// Everything must be written anew: rows not in the state have to go.
    pub replaced: bool,
}

impl Delta {
    /// Adds another change made after this one.
    pub fn merge(&mut self, later: Delta) {
        self.start |= later.start;
        self.replaced |= later.replaced;
        self.items.extend(later.items);
    }
}

/// The result of applying events.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Applied {
    /// State change.
    pub delta: Delta,
    /// Tasks that follow; the same on the active side and on a standby.
    pub tasks: Vec<Task>,
}

/// The part of a transition that may be seen before its commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Replies and dispatch wait for the commit.
    #[default]
    Durable,
    /// State that was not acknowledged to a client ("started"): visible at once, written behind, that is within a bound
    /// or with the next durable update.
    WriteBehind,
    /// Nothing changed.
    None,
}

/// The result of one decision, to be committed as one.
#[derive(Clone, Debug, Default)]
pub struct Transition {
    /// New history, in order; possibly none.
    pub events: Vec<EventBatch>,
    /// State change, already made to the workflow that decided.
    pub delta: Delta,
    /// Tasks that follow.
    pub tasks: Vec<Task>,
    /// Data for the answer.
    pub reply: Reply,
    /// When it may be seen.
    pub durability: Durability,
    /// The run that continues this one (continue-as-new, retry, cron, reset), to be stored in the same commit.
    pub new_run: Option<Box<NewRun>>,
}

/// A run made by a decision.
#[derive(Clone, Debug)]
pub struct NewRun {
    /// Its state.
    pub mutable_state: MutableState,
    /// Its history.
    pub events: Vec<EventBatch>,
    /// Its tasks.
    pub tasks: Vec<Task>,
}

/// Data a caller's answer needs beyond the state.
#[derive(Clone, Debug, Default)]
pub enum Reply {
    /// Nothing.
    #[default]
    Nothing,
    /// The request was seen before and changes nothing.
    Duplicate,
    /// The run started.
    Started {
        /// Whether the caller gets the first workflow task with the answer (eager start).
        eager: bool,
    },
    /// A workflow task was started, or had been by the same request.
    WorkflowTaskStarted {
        /// Scheduled and started events that are not in stored history (attempts after the first).
        transient: Vec<HistoryEvent>,
    },
    /// A workflow task was completed.
    WorkflowTaskCompleted {
        /// Activities handed to the caller with the answer, by scheduled event.
        eager_activities: Vec<EventId>,
        /// Whether the next workflow task was started for the caller and goes with the answer.
        new_task_started: bool,
        /// The completion was turned into a failure: the caller is answered INVALID_ARGUMENT with this text.
        failed: Option<(WorkflowTaskFailedCause, String)>,
    },
    /// The workflow task kept itself alive for too long and was timed out instead: the update holds, and the
    /// caller is answered NOT_FOUND "workflow task heartbeat timeout".
    WorkflowTaskHeartbeatTimedOut,
    /// An activity attempt was started, or had been by the same request.
    ActivityStarted,
    /// A heartbeat was taken.
    Heartbeat {
        /// Whether cancellation was requested.
        cancel_requested: bool,
        /// The activity is paused.
        paused: bool,
    },
    /// A reset made this run.
    Reset {
        /// The new run.
        run_id: RunId,
    },
}

/// The reason why a request was refused. The history service turns each into one gRPC status, in one function.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// The run is closed: NOT_FOUND "workflow execution already completed".
    Closed(WorkflowExecutionStatus),
    /// The workflow task is gone or was never this one: NOT_FOUND "Workflow task not found.".
    WorkflowTaskNotFound,
    /// The activity is gone, or the attempt is old: NOT_FOUND.
    ActivityNotFound,
    /// The task was started by another request (matching drops it): NOT_FOUND towards matching.
    AlreadyStarted,
    /// Cancellation was requested before by another request: ALREADY_EXISTS is not used for it any more; the
    /// service answers success.
    CancelAlreadyRequested,
    /// The caller is not this run's parent: NOT_FOUND.
    NotChild,
    /// The run belongs to a chain with another first run: NOT_FOUND.
    FirstRunMismatch,
    /// Bad input: INVALID_ARGUMENT with this text.
    Invalid(String),
    /// A limit: FAILED_PRECONDITION or RESOURCE_EXHAUSTED as the text's source demands.
    Limit {
        /// Whether it is RESOURCE_EXHAUSTED.
        exhausted: bool,
        /// The text clients compare.
        text: String,
    },
    /// The run cannot take it now, retry later: UNAVAILABLE.
    NotReady(String),
    /// The history has exceeded a limit: the service terminates the run and refuses the request.
    HistoryLimitExceeded(Box<Failure>),
    /// A rule broke half-way: the caller drops its copy of the run and reads it again: INTERNAL.
    Corrupt(Corrupt),
}

/// History or state that cannot be: the shard that found it stops using the run, loudly.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("event {event_id} cannot be applied: {reason}")]
pub struct Corrupt {
    /// The offending event.
    pub event_id: i64,
    /// The defect.
    pub reason: String,
}
