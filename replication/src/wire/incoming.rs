//! A task as it arrives, taken apart and checked. State-based tasks of a Temporal Server peer are read for
//! the events and activities they carry: events alone bring a run to the same place, and what an event does
//! not tell (attempts, heartbeats) is in the activities.

use cluster_core::{EventBatch, NonHistoryState, VersionItem};
use proto_ids::{EventId, RunId, RunKey, TaskId};
use proto_messages::meridian::replication::v1::RunState;
use proto_messages::temporal::server::api::{
    enums::v1::ReplicationTaskType,
    history::v1::VersionHistories,
    persistence::v1::{
        ActivityInfo, WorkflowExecutionInfo, WorkflowExecutionState, WorkflowMutableState,
    },
    replication::v1::{
        HistoryTaskAttributes, NewRunInfo, ReplicationTask, SyncActivityTaskAttributes,
        SyncVersionedTransitionTaskAttributes, replication_task::Attributes,
        versioned_transition_artifact::StateAttributes,
    },
};

use super::{
    Malformed, batch_from_blob, batches_from_blobs, items_from_wire, non_history_from_wire,
};

/// A replication task from another cluster.
#[derive(Clone, Debug)]
pub struct IncomingTask {
    /// Its position in the source's queue.
    pub task_id: TaskId,
    /// The run.
    pub key: RunKey,
    /// Its kind.
    pub kind: Kind,
}

/// The kind of an incoming task.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Apply events.
    History(IncomingHistory),
    /// Take over an activity's in-flight state.
    Activity(Box<SyncActivityTaskAttributes>),
    /// Have at least these events of this branch; no events came along.
    Reach {
        /// The branch at its source.
        items: Vec<VersionItem>,
    },
    /// Apply events, then take over the in-flight state of activities.
    State {
        /// The events, or how far they have to reach.
        events: Result<IncomingHistory, Vec<VersionItem>>,
        /// The activities.
        activities: Vec<SyncActivityTaskAttributes>,
    },
    /// A closed run, whole: have its events up to the end of its current branch.
    Closed(Box<WorkflowMutableState>),
    /// Delete the run.
    Delete,
    /// Without meaning in a stream.
    Nothing,
    /// Of an unknown type.
    Unknown(i32),
}

/// Events of one branch.
#[derive(Clone, Debug)]
pub struct IncomingHistory {
    /// The whole branch at its source; may reach past the events.
    pub items: Vec<VersionItem>,
    /// At least one batch; gapless.
    pub batches: Vec<EventBatch>,
    /// The run this one continues as, when the last batch closed it.
    pub new_run: Option<NewRun>,
    /// State of the run outside history.
    pub non_history: NonHistoryState,
}

/// First batch of a run that comes with the end of another one.
#[derive(Clone, Debug)]
pub struct NewRun {
    /// The run.
    pub run_id: RunId,
    /// Its first batch.
    pub batch: EventBatch,
    /// State of it outside history.
    pub non_history: NonHistoryState,
}

impl IncomingTask {
    /// Takes a task apart.
    pub fn read(task: &ReplicationTask) -> Result<Self, Malformed> {
        let task_type = ReplicationTaskType::try_from(task.task_type);
        let kind = match (task_type, &task.attributes) {
            (
                Ok(ReplicationTaskType::HistoryV2Task),
                Some(Attributes::HistoryTaskAttributes(a)),
            ) => Kind::History(IncomingHistory::read(a)?),
            (
                Ok(ReplicationTaskType::SyncActivityTask),
                Some(Attributes::SyncActivityTaskAttributes(a)),
            ) => Kind::Activity(Box::new(a.clone())),
            (
                Ok(ReplicationTaskType::SyncWorkflowStateTask),
                Some(Attributes::SyncWorkflowStateTaskAttributes(a)),
            ) => {
                let state = a.workflow_state.clone();
                Kind::Closed(Box::new(state.ok_or_else(|| absent("workflow state"))?))
            }
            (
                Ok(ReplicationTaskType::BackfillHistoryTask),
                Some(Attributes::BackfillHistoryTaskAttributes(a)),
            ) => Kind::History(IncomingHistory {
                items: items_from_wire(&a.event_version_history),
                batches: at_least_one(batches_from_blobs(&a.event_batches)?)?,
                new_run: new_run(a.new_run_info.as_ref())?,
                non_history: NonHistoryState::default(),
            }),
            (
                Ok(ReplicationTaskType::VerifyVersionedTransitionTask),
                Some(Attributes::VerifyVersionedTransitionTaskAttributes(a)),
            ) => Kind::Reach {
                items: items_from_wire(&a.event_version_history),
            },
            (
                Ok(ReplicationTaskType::SyncVersionedTransitionTask),
                Some(Attributes::SyncVersionedTransitionTaskAttributes(a)),
            ) => state(a)?,
            (Ok(ReplicationTaskType::DeleteExecutionTask), _) => Kind::Delete,
            (
                Ok(
                    ReplicationTaskType::SyncShardStatusTask
                    | ReplicationTaskType::HistoryMetadataTask,
                ),
                _,
            ) => Kind::Nothing,
            // State machines of this kind do not exist here; the events of their changes come by themselves.
            (Ok(ReplicationTaskType::SyncHsmTask), _) => Kind::Nothing,
            _ => Kind::Unknown(task.task_type),
        };
        Ok(Self {
            task_id: task.source_task_id.into(),
            key: run_key(task),
            kind,
        })
    }
}

impl IncomingHistory {
    fn read(a: &HistoryTaskAttributes) -> Result<Self, Malformed> {
        let batches = match &a.events {
            Some(events) if !events.data.is_empty() => vec![batch_from_blob(events)?],
            _ => at_least_one(batches_from_blobs(&a.events_batches)?)?,
        };
        if batches.iter().any(|b| b.version() != batches[0].version()) {
            return Err(Malformed("a task holds events of two versions".to_owned()));
        }
        let new_run = match &a.new_run_events {
            Some(events) if !events.data.is_empty() => Some(NewRun {
                run_id: match a.new_run_id.as_str() {
                    "" => continued_as(&batches).ok_or_else(|| absent("id of the new run"))?,
                    id => RunId::new(id),
                },
                batch: batch_from_blob(events)?,
                non_history: non_history(a.new_run_state.as_ref()),
            }),
            _ => None,
        };
        Ok(Self {
            items: items_from_wire(&a.version_history_items),
            batches,
            new_run,
            non_history: non_history(a.run_state.as_ref()),
        })
    }

    /// First event.
    pub fn first(&self) -> EventId {
        self.batches[0].first_event_id()
    }
}

/// The run that a run's last event names as its continuation.
fn continued_as(batches: &[EventBatch]) -> Option<RunId> {
    use proto_messages::temporal::api::history::v1::history_event::Attributes as Event;
    let last = batches.last()?.events.last()?;
    let id = match last.attributes.as_ref()? {
        Event::WorkflowExecutionContinuedAsNewEventAttributes(a) => &a.new_execution_run_id,
        Event::WorkflowExecutionCompletedEventAttributes(a) => &a.new_execution_run_id,
        Event::WorkflowExecutionFailedEventAttributes(a) => &a.new_execution_run_id,
        Event::WorkflowExecutionTimedOutEventAttributes(a) => &a.new_execution_run_id,
        _ => return None,
    };
    (!id.is_empty()).then(|| RunId::new(id))
}

fn new_run(info: Option<&NewRunInfo>) -> Result<Option<NewRun>, Malformed> {
    match info {
        Some(NewRunInfo {
            run_id,
            event_batch: Some(events),
        }) if !events.data.is_empty() => Ok(Some(NewRun {
            run_id: RunId::new(run_id),
            batch: batch_from_blob(events)?,
            non_history: NonHistoryState::default(),
        })),
        _ => Ok(None),
    }
}

fn non_history(told: Option<&RunState>) -> NonHistoryState {
    told.map(non_history_from_wire).unwrap_or_default()
}

/// State of the run itself in a peer's message.
fn non_history_of(
    info: &WorkflowExecutionInfo,
    state: Option<&WorkflowExecutionState>,
) -> NonHistoryState {
    NonHistoryState {
        create_request_id: state
            .map(|state| state.create_request_id.clone())
            .unwrap_or_default(),
        cancel_request_id: info.cancel_request_id.clone(),
        reset_run_id: RunId::new(&info.reset_run_id),
        ..NonHistoryState::default()
    }
}

fn state(a: &SyncVersionedTransitionTaskAttributes) -> Result<Kind, Malformed> {
    let artifact = a
        .versioned_transition_artifact
        .as_ref()
        .ok_or_else(|| absent("transition artifact"))?;
    let (info, run, activities) = match artifact.state_attributes.as_ref() {
        Some(StateAttributes::SyncWorkflowStateMutationAttributes(mutation)) => {
            let state = mutation
                .state_mutation
                .as_ref()
                .ok_or_else(|| absent("mutation"))?;
            let (info, run) = (&state.execution_info, &state.execution_state);
            (info.as_ref(), run.as_ref(), &state.updated_activity_infos)
        }
        Some(StateAttributes::SyncWorkflowStateSnapshotAttributes(snapshot)) => {
            let state = snapshot.state.as_ref().ok_or_else(|| absent("snapshot"))?;
            let (info, run) = (&state.execution_info, &state.execution_state);
            (info.as_ref(), run.as_ref(), &state.activity_infos)
        }
        None => return Err(absent("state")),
    };
    let info = info.ok_or_else(|| absent("execution info"))?;
    let histories = info
        .version_histories
        .as_ref()
        .ok_or_else(|| absent("version histories"))?;
    let items = current_items(histories)?;
    let activities = activities
        .values()
        .map(|activity| activity_attributes(a, info, activity, histories))
        .collect();
    let batches = batches_from_blobs(&artifact.event_batches)?;
    let events = if batches.is_empty() {
        Err(items)
    } else {
        let new_run = new_run(artifact.new_run_info.as_ref())?;
        Ok(IncomingHistory {
            items,
            batches,
            new_run,
            non_history: non_history_of(info, run),
        })
    };
    Ok(Kind::State { events, activities })
}

/// Items of the current branch.
pub(crate) fn current_items(histories: &VersionHistories) -> Result<Vec<VersionItem>, Malformed> {
    usize::try_from(histories.current_version_history_index)
        .ok()
        .and_then(|current| histories.histories.get(current))
        .map(|current| items_from_wire(&current.items))
        .ok_or_else(|| absent("current version history"))
}

fn activity_attributes(
    a: &SyncVersionedTransitionTaskAttributes,
    info: &WorkflowExecutionInfo,
    activity: &ActivityInfo,
    histories: &VersionHistories,
) -> SyncActivityTaskAttributes {
    let current = usize::try_from(histories.current_version_history_index).unwrap_or(0);
    SyncActivityTaskAttributes {
        namespace_id: a.namespace_id.clone(),
        workflow_id: a.workflow_id.clone(),
        run_id: a.run_id.clone(),
        version: activity.version,
        scheduled_event_id: activity.scheduled_event_id,
        scheduled_time: activity.scheduled_time,
        started_event_id: activity.started_event_id,
        started_time: activity.started_time,
        last_heartbeat_time: activity.last_heartbeat_update_time,
        details: activity.last_heartbeat_details.clone(),
        attempt: activity.attempt,
        last_failure: activity.retry_last_failure.clone(),
        last_worker_identity: activity.retry_last_worker_identity.clone(),
        version_history: histories.histories.get(current).cloned(),
        base_execution_info: info.base_execution_info.clone(),
        first_scheduled_time: activity.first_scheduled_time,
        last_attempt_complete_time: activity.last_attempt_complete_time,
        stamp: activity.stamp,
        paused: activity.paused,
        start_version: activity.start_version,
        ..SyncActivityTaskAttributes::default()
    }
}

/// The run a task is about, from its attributes or, where it has none, from its raw form.
pub fn run_key(task: &ReplicationTask) -> RunKey {
    macro_rules! key {
        ($a:expr) => {
            RunKey::new(
                $a.namespace_id.as_str(),
                $a.workflow_id.as_str(),
                $a.run_id.as_str(),
            )
        };
    }
    match &task.attributes {
        Some(Attributes::HistoryTaskAttributes(a)) => key!(a),
        Some(Attributes::SyncActivityTaskAttributes(a)) => key!(a),
        Some(Attributes::SyncHsmAttributes(a)) => key!(a),
        Some(Attributes::BackfillHistoryTaskAttributes(a)) => key!(a),
        Some(Attributes::VerifyVersionedTransitionTaskAttributes(a)) => key!(a),
        Some(Attributes::SyncVersionedTransitionTaskAttributes(a)) => key!(a),
        Some(Attributes::SyncWorkflowStateTaskAttributes(a)) => {
            let state = a.workflow_state.as_ref();
            let info = state.and_then(|s| s.execution_info.as_ref());
            let run_id = state
                .and_then(|s| s.execution_state.as_ref())
                .map(|s| s.run_id.as_str());
            RunKey::new(
                info.map_or("", |i| i.namespace_id.as_str()),
                info.map_or("", |i| i.workflow_id.as_str()),
                run_id.unwrap_or_default(),
            )
        }
        _ => task
            .raw_task_info
            .as_ref()
            .map(|raw| key!(raw))
            .unwrap_or_default(),
    }
}

fn at_least_one(batches: Vec<EventBatch>) -> Result<Vec<EventBatch>, Malformed> {
    if batches.is_empty() {
        Err(absent("events"))
    } else {
        Ok(batches)
    }
}

fn absent(what: &str) -> Malformed {
    Malformed(format!("the task has no {what}"))
}
