//! A run's state as DescribeWorkflowExecution shows it. Each component fills in its own.

use proto_ids::{RunKey, Timestamp};
use proto_messages::{
    temporal::api::{
        common::v1::{WorkerVersionStamp, WorkflowExecution},
        enums::v1::{EventType, TaskQueueKind, WorkflowExecutionStatus},
        taskqueue::v1::TaskQueue,
        workflow::v1 as view,
        workflowservice::v1::DescribeWorkflowExecutionResponse,
    },
    time::duration_to_proto,
};

use crate::{MutableState, component, replica::at as time};

impl MutableState {
    /// The description of the run. A run made by a reset is told to have started with the reset.
    pub fn describe(&self, now: Timestamp) -> DescribeWorkflowExecutionResponse {
        let mut response = DescribeWorkflowExecutionResponse {
            execution_config: Some(config(self)),
            workflow_execution_info: Some(info(self)),
            workflow_extended_info: Some(extended(self)),
            ..Default::default()
        };
        for component in component::all() {
            (component.describe)(self, now, &mut response);
        }
        response
    }
}

fn execution(key: &RunKey) -> WorkflowExecution {
    WorkflowExecution {
        workflow_id: key.workflow_id.as_str().to_owned(),
        run_id: key.run_id.as_str().to_owned(),
    }
}

/// A task queue that is not sticky.
pub(crate) fn normal_queue(name: &str) -> TaskQueue {
    TaskQueue {
        name: name.to_owned(),
        kind: TaskQueueKind::Normal as i32,
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
