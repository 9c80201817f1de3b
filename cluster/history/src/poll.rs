//! Answers to polls of workers. They are built from mutable state in memory; only history is read,
//! and that mostly from the shard's tail cache.

use std::collections::HashMap;

use bytes::Bytes;
use proto_ids::{EventId, RunKey, Timestamp};
use proto_messages::{
    Wire,
    meridian::history::v1::HistoryToken,
    temporal::api::{
        common::v1::{Priority, WorkflowExecution},
        enums::v1::TaskQueueKind,
        history::v1::{History, HistoryEvent},
        query::v1::WorkflowQuery,
        taskqueue::v1::TaskQueue,
        workflowservice::v1 as api,
    },
    time::{duration_to_proto, to_proto},
};
use tonic::Status;

use cluster_core::{
    mutable_state::{ActivityInfo, MutableState, WorkflowTask},
    version::BranchToken,
};
use cluster_shard::Shard;

use crate::{events, token};

/// Most batches of events in one page.
pub const PAGE_BATCHES: usize = 256;
/// Bytes after which a page ends.
pub const PAGE_BYTES: usize = 2 << 20;

/// The view of a run, at the time its workflow task was started, that answers the poll.
/// Taken under the run's lock; history is read after it.
#[derive(Debug)]
pub struct TaskView {
    key: RunKey,
    answer: api::PollWorkflowTaskQueueResponse,
    branch: BranchToken,
    last_version: i64,
    /// First event the worker has not seen.
    from: EventId,
    /// Events below this are stored, or will be with the commit under way.
    until: EventId,
    /// Scheduled and started events of an attempt that is not in history.
    transient: Vec<HistoryEvent>,
}

/// How much history a worker needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Everything: the worker may not know the run.
    Full,
    /// The events after the last completed workflow task: the worker has the run in its cache.
    SinceLastCompleted,
}

impl TaskView {
    /// The view of a started workflow task.
    pub fn started(
        ms: &MutableState,
        task: &WorkflowTask,
        extent: Extent,
        transient: Vec<HistoryEvent>,
    ) -> Self {
        let mut view = Self::of(ms, extent);
        view.transient = transient;
        view.answer.task_token = token::workflow_task(ms, task);
        view.answer.started_event_id = task.started_event_id.get();
        view.answer.attempt = task.attempt;
        view.answer.scheduled_time = time(task.scheduled_time);
        view.answer.started_time = time(task.started_time);
        view
    }

    /// With waiting queries on it. They must be taken under the run's lock together with the start: a query
    /// that comes later may follow a signal this task does not show.
    pub fn carrying(mut self, queries: HashMap<String, WorkflowQuery>) -> Self {
        self.answer.queries = queries;
        self
    }

    /// The view for a task that only carries a query: no token, no started event.
    pub fn query(ms: &MutableState, extent: Extent) -> Self {
        Self::of(ms, extent)
    }

    fn of(ms: &MutableState, extent: Extent) -> Self {
        let from = match extent {
            Extent::Full => EventId::new(1),
            Extent::SinceLastCompleted => ms.execution_info.last_completed_started_event_id.next(),
        };
        let answer = api::PollWorkflowTaskQueueResponse {
            workflow_execution: Some(execution(&ms.key)),
            workflow_type: Some(ms.start.workflow_type.clone()),
            previous_started_event_id: ms.execution_info.last_completed_started_event_id.get(),
            workflow_execution_task_queue: Some(normal_queue(&ms.start.task_queue)),
            attempt: 1,
            ..Default::default()
        };
        Self {
            key: ms.key.clone(),
            answer,
            branch: ms.versions.current().branch.clone(),
            last_version: ms.last_version().get(),
            from,
            until: ms.execution_info.next_event_id,
            transient: Vec::new(),
        }
    }

    /// Reads the first page of history and makes the answer. Events of the commit under way are waited for,
    /// so the worker never sees what could still be lost, save its own started event.
    pub async fn answer(
        self,
        shard: &Shard,
        fresh: Vec<HistoryEvent>,
    ) -> Result<api::PollWorkflowTaskQueueResponse, Status> {
        let Self {
            key,
            mut answer,
            branch,
            last_version,
            from,
            until,
            transient,
        } = self;
        let range = events::Range {
            from,
            until,
            batches: PAGE_BATCHES,
            bytes: PAGE_BYTES,
        };
        let page = events::page(shard, &key, &branch, range, fresh).await?;
        let mut history = page.events;
        if page.next < until {
            answer.next_page_token = token::history(&HistoryToken {
                namespace_id: key.namespace_id.as_str().to_owned(),
                workflow_id: key.workflow_id.as_str().to_owned(),
                run_id: key.run_id.as_str().to_owned(),
                next_event_id: page.next.get(),
                end_event_id: until.get(),
                branch_token: token::branch(&branch),
                last_event_version: last_version,
                persisted_only: false,
            });
        } else {
            history.extend(transient);
        }
        answer.history = Some(History { events: history });
        Ok(answer)
    }
}

/// The priority of something a run starts: its own, and the run's where it says nothing.
pub fn priority(of_run: Option<&Priority>, own: Option<&Priority>) -> Option<Priority> {
    let (Some(run), Some(own)) = (of_run, own) else {
        return own.or(of_run).cloned();
    };
    let mut both = own.clone();
    if both.priority_key == 0 {
        both.priority_key = run.priority_key;
    }
    if both.fairness_key.is_empty() {
        both.fairness_key = run.fairness_key.clone();
    }
    if both.fairness_weight == 0.0 {
        both.fairness_weight = run.fairness_weight;
    }
    Some(both)
}

/// An activity task as the worker gets it.
pub fn activity_task(
    ms: &MutableState,
    activity: &ActivityInfo,
    namespace: &str,
) -> api::PollActivityTaskQueueResponse {
    api::PollActivityTaskQueueResponse {
        task_token: token::activity(ms, activity),
        workflow_namespace: namespace.to_owned(),
        workflow_type: Some(ms.start.workflow_type.clone()),
        workflow_execution: Some(execution(&ms.key)),
        activity_type: Some(activity.activity_type.clone()),
        activity_id: activity.activity_id.clone(),
        header: activity.header.clone(),
        input: activity.input.clone(),
        heartbeat_details: activity.heartbeat_details.clone(),
        scheduled_time: time(activity.scheduled_time),
        current_attempt_scheduled_time: time(activity.attempt_scheduled_time),
        started_time: time(activity.started_time),
        attempt: activity.attempt,
        schedule_to_close_timeout: Some(duration_to_proto(activity.schedule_to_close_timeout)),
        start_to_close_timeout: Some(duration_to_proto(activity.start_to_close_timeout)),
        heartbeat_timeout: Some(duration_to_proto(activity.heartbeat_timeout)),
        retry_policy: activity.retry_policy.clone(),
        priority: priority(ms.start.priority.as_ref(), activity.priority.as_ref()),
        ..Default::default()
    }
}

/// The public name of a run.
pub fn execution(key: &RunKey) -> WorkflowExecution {
    WorkflowExecution {
        workflow_id: key.workflow_id.as_str().to_owned(),
        run_id: key.run_id.as_str().to_owned(),
    }
}

/// A normal task queue.
pub fn normal_queue(name: &str) -> TaskQueue {
    TaskQueue {
        name: name.to_owned(),
        kind: TaskQueueKind::Normal as i32,
        ..Default::default()
    }
}

/// A worker's sticky queue, with the normal queue it belongs to.
pub fn sticky_queue(name: &str, normal: &str) -> TaskQueue {
    TaskQueue {
        name: name.to_owned(),
        kind: TaskQueueKind::Sticky as i32,
        normal_name: normal.to_owned(),
    }
}

/// A moment on the wire; unset when it is zero.
pub fn time(at: Timestamp) -> Option<prost_types::Timestamp> {
    (!at.is_zero()).then(|| to_proto(at))
}

/// The events of one stored batch.
pub fn decode(batch: &Bytes) -> Result<Vec<HistoryEvent>, Status> {
    History::from_wire(batch.clone())
        .map(|h| h.events)
        .map_err(|error| Status::data_loss(format!("stored history cannot be read: {error}")))
}
