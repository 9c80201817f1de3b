//! One run's state, put together from what its components hold. Rules change it only through the applier; the
//! shard kernel turns it into stored rows and back.

use std::collections::BTreeSet;

use proto_ids::{EventId, FailoverVersion, RunId, RunKey, Timestamp};
use proto_messages::temporal::api::{
    common::v1::{Memo, SearchAttributes},
    enums::v1::WorkflowExecutionStatus,
    workflow::v1::ResetPoints,
};

pub use crate::component::{
    activity::{Activities, ActivityInfo, Armed},
    buffer::Buffer,
    child::{ChildExecutionInfo, Children},
    external_cancel::{ExternalCancels, RequestCancelInfo},
    external_signal::{ExternalSignals, SignalInfo},
    signal::SignalRequestIds,
    start::{Carried, StartInfo},
    timer::{TimerInfo, UserTimers},
    workflow_task::{Sticky, WorkflowTask},
};
use crate::version::VersionHistories;

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
    pub activities: Activities,
    /// Pending timers, by timer id.
    pub timers: UserTimers,
    /// Pending children, by initiated event.
    pub children: Children,
    /// Pending cancels of other runs, by initiated event.
    pub external_cancels: ExternalCancels,
    /// Pending signals to other runs, by initiated event.
    pub external_signals: ExternalSignals,
    /// Request ids of signals already taken.
    pub signal_request_ids: SignalRequestIds,
    /// Events that wait for the workflow task in flight to end; they have no event id yet.
    pub buffered: Buffer,
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
    /// last events have one version are ordered by it. 0 when that cluster does not tell.
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
