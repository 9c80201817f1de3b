//! DescribeWorkflowExecution: a run's state as the public API tells it.

use proto_ids::{EventId, Timestamp};
use proto_messages::{
    meridian::history::v1::DescribeWorkflowExecutionRequest,
    temporal::api::{
        activity::v1::ActivityOptions,
        common::v1::WorkerVersionStamp,
        enums::v1::{
            EventType, PendingActivityState, PendingWorkflowTaskState, WorkflowExecutionStatus,
        },
        workflow::v1 as view,
        workflowservice::v1::DescribeWorkflowExecutionResponse,
    },
    time::duration_to_proto,
};
use tonic::Status;

use cluster_core::mutable_state::{ActivityInfo, ChildExecutionInfo, MutableState, WorkflowTask};

use crate::{
    api,
    engine::Engine,
    error, events,
    poll::{execution, normal_queue, time},
};

/// Serves the call.
pub async fn describe(
    engine: &Engine,
    request: DescribeWorkflowExecutionRequest,
) -> Result<DescribeWorkflowExecutionResponse, Status> {
    let public = api::required(request.request)?;
    let key = api::run_key(&request.namespace_id, public.execution.as_ref())?;
    let shard = engine.shard_of(&key).await?;
    let now = engine.now();
    let look = |ms: &MutableState| {
        let branch = ms.versions.current().branch.clone();
        let reset = is_reset(ms).then(|| (ms.key.clone(), branch));
        (response(ms, now), reset)
    };
    let (mut response, reset) = shard
        .read(&key, look)
        .await
        .map_err(|e| error::status(e.into(), &key))?;
    if let Some((key, branch)) = reset
        && let Some(extended) = &mut response.workflow_extended_info
    {
        // A run made by reset begins with the events of another one; its own start is the reset.
        let (first, second) = (EventId::new(1), EventId::new(2));
        let batches = events::all(&shard, &key, &branch, first, second).await?;
        let first = batches.into_iter().flatten().next();
        extended.last_reset_time = extended.original_start_time;
        extended.original_start_time = first.and_then(|e| e.event_time);
    }
    Ok(response)
}

/// Whether a reset made the run.
fn is_reset(ms: &MutableState) -> bool {
    !ms.start.original_run_id.is_empty() && ms.start.original_run_id != ms.key.run_id
}

fn response(ms: &MutableState, now: Timestamp) -> DescribeWorkflowExecutionResponse {
    DescribeWorkflowExecutionResponse {
        execution_config: Some(config(ms)),
        workflow_execution_info: Some(info(ms)),
        pending_activities: ms.activities.values().map(|a| activity(a, now)).collect(),
        pending_children: ms.children.values().map(child).collect(),
        pending_workflow_task: ms.execution_info.workflow_task.as_ref().map(workflow_task),
        workflow_extended_info: Some(extended(ms)),
        ..Default::default()
    }
}

fn config(ms: &MutableState) -> view::WorkflowExecutionConfig {
    view::WorkflowExecutionConfig {
        task_queue: Some(normal_queue(&ms.start.task_queue)),
        workflow_execution_timeout: Some(duration_to_proto(ms.start.execution_timeout)),
        workflow_run_timeout: Some(duration_to_proto(ms.start.run_timeout)),
        default_workflow_task_timeout: Some(duration_to_proto(ms.start.task_timeout)),
        user_metadata: ms.start.user_metadata.clone(),
    }
}

#[expect(deprecated, reason = "older clients and the Web UI still read it")]
fn info(ms: &MutableState) -> view::WorkflowExecutionInfo {
    let closed = !ms.execution_info.close_time.is_zero();
    let begun = if ms.start.execution_time.is_zero() {
        ms.start.start_time
    } else {
        ms.start.execution_time
    };
    let root = ms.start.root.clone().or_else(|| Some(execution(&ms.key)));
    let parent = ms.start.parent.as_ref();
    view::WorkflowExecutionInfo {
        execution: Some(execution(&ms.key)),
        r#type: Some(ms.start.workflow_type.clone()),
        start_time: time(ms.start.start_time),
        close_time: time(ms.execution_info.close_time),
        status: status(ms) as i32,
        history_length: ms.execution_info.next_event_id.get() - 1,
        parent_namespace_id: parent
            .map(|p| p.key.namespace_id.as_str().to_owned())
            .unwrap_or_default(),
        parent_execution: parent.map(|p| execution(&p.key)),
        execution_time: time(begun),
        // Never unset: clients look into them without asking.
        memo: Some(ms.execution_info.memo.clone().unwrap_or_default()),
        search_attributes: Some(
            ms.execution_info
                .search_attributes
                .clone()
                .unwrap_or_default(),
        ),
        auto_reset_points: ms.execution_info.reset_points.clone(),
        task_queue: ms.start.task_queue.clone(),
        state_transition_count: ms.execution_info.state_transition_count,
        history_size_bytes: ms.execution_info.history_size,
        most_recent_worker_version_stamp: stamp(ms),
        execution_duration: closed
            .then(|| duration_to_proto(ms.execution_info.close_time.since(begun))),
        root_execution: root,
        first_run_id: ms.start.first_run_id.as_str().to_owned(),
        priority: ms.start.priority.clone(),
        ..Default::default()
    }
}

fn stamp(ms: &MutableState) -> Option<WorkerVersionStamp> {
    let build_id = &ms.execution_info.most_recent_build_id;
    (!build_id.is_empty()).then(|| WorkerVersionStamp {
        build_id: build_id.clone(),
        ..Default::default()
    })
}

fn status(ms: &MutableState) -> WorkflowExecutionStatus {
    match ms.execution_info.status {
        WorkflowExecutionStatus::Unspecified => WorkflowExecutionStatus::Running,
        status => status,
    }
}

fn extended(ms: &MutableState) -> view::WorkflowExecutionExtendedInfo {
    let run_expires = if ms.start.run_timeout.is_zero() {
        Timestamp::ZERO
    } else {
        ms.start
            .execution_time
            .max(ms.start.start_time)
            .plus(ms.start.run_timeout)
    };
    let started = view::RequestIdInfo {
        event_type: EventType::WorkflowExecutionStarted as i32,
        event_id: 1,
        ..Default::default()
    };
    let request_id = ms.start.request_id.clone();
    view::WorkflowExecutionExtendedInfo {
        execution_expiration_time: time(ms.start.execution_expiration),
        run_expiration_time: time(run_expires),
        cancel_requested: ms.execution_info.cancel_request.is_some(),
        original_start_time: time(ms.start.start_time),
        reset_run_id: ms.execution_info.reset_run_id.as_str().to_owned(),
        request_id_infos: (!request_id.is_empty())
            .then_some((request_id, started))
            .into_iter()
            .collect(),
        ..Default::default()
    }
}

fn activity(a: &ActivityInfo, now: Timestamp) -> view::PendingActivityInfo {
    let state = activity_state(a);
    let backing_off =
        state == PendingActivityState::Scheduled && a.attempt > 1 && a.attempt_scheduled_time > now;
    let interval = a.attempt_scheduled_time.since(a.last_attempt_complete_time);
    view::PendingActivityInfo {
        activity_id: a.activity_id.clone(),
        activity_type: Some(a.activity_type.clone()),
        state: state as i32,
        heartbeat_details: a.heartbeat_details.clone(),
        last_heartbeat_time: time(a.last_heartbeat_time),
        last_started_time: time(a.started_time),
        attempt: a.attempt,
        maximum_attempts: a.retry_policy.as_ref().map_or(0, |p| p.maximum_attempts),
        scheduled_time: time(a.scheduled_time),
        expiration_time: time(a.retry_expiration),
        last_failure: a.last_failure.clone(),
        last_worker_identity: last_worker(a).to_owned(),
        current_retry_interval: backing_off.then(|| duration_to_proto(interval)),
        last_attempt_complete_time: time(a.last_attempt_complete_time),
        next_attempt_schedule_time: if backing_off {
            time(a.attempt_scheduled_time)
        } else {
            None
        },
        priority: a.priority.clone(),
        activity_options: Some(ActivityOptions {
            task_queue: Some(normal_queue(&a.task_queue)),
            schedule_to_close_timeout: Some(duration_to_proto(a.schedule_to_close_timeout)),
            schedule_to_start_timeout: Some(duration_to_proto(a.schedule_to_start_timeout)),
            start_to_close_timeout: Some(duration_to_proto(a.start_to_close_timeout)),
            heartbeat_timeout: Some(duration_to_proto(a.heartbeat_timeout)),
            retry_policy: a.retry_policy.clone(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn activity_state(a: &ActivityInfo) -> PendingActivityState {
    if a.cancel_requested_event_id.get() > 0 {
        PendingActivityState::CancelRequested
    } else if a.started_time.is_zero() {
        PendingActivityState::Scheduled
    } else {
        PendingActivityState::Started
    }
}

fn last_worker(a: &ActivityInfo) -> &str {
    if a.started_time.is_zero() || a.identity.is_empty() {
        &a.last_worker_identity
    } else {
        &a.identity
    }
}

fn child(c: &ChildExecutionInfo) -> view::PendingChildExecutionInfo {
    view::PendingChildExecutionInfo {
        workflow_id: c.workflow_id.clone(),
        run_id: c.run_id.as_str().to_owned(),
        workflow_type_name: c.workflow_type.name.clone(),
        initiated_id: c.initiated_event_id.get(),
        parent_close_policy: c.parent_close_policy as i32,
    }
}

fn workflow_task(task: &WorkflowTask) -> view::PendingWorkflowTaskInfo {
    let state = if task.started_event_id.get() > 0 {
        PendingWorkflowTaskState::Started
    } else {
        PendingWorkflowTaskState::Scheduled
    };
    view::PendingWorkflowTaskInfo {
        state: state as i32,
        scheduled_time: time(task.scheduled_time),
        original_scheduled_time: time(task.original_scheduled_time),
        started_time: time(task.started_time),
        attempt: task.attempt,
    }
}
