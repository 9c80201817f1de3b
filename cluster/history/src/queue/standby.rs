//! Tasks on a standby: verified, not executed.

use proto_ids::EventId;
use proto_messages::{
    meridian::history::v1::DescribeWorkflowExecutionRequest,
    temporal::api::{
        common::v1::WorkflowExecution,
        enums::v1::{ParentClosePolicy, WorkflowExecutionStatus},
        workflowservice::v1 as public,
    },
};
use tonic::{Code, Status};

use cluster_core::{MutableState, TaskKind};
use cluster_rpc::HistoryClient;
use cluster_shard::{Outcome, QueuedTask, Shard};

use super::{
    outcome::{SOON, after_read},
    transfer::Closed,
};

/// Done when replicated state has the task's effect; else the task waits.
pub async fn verify(shard: &Shard, task: &QueuedTask) -> Outcome {
    let kind = &task.task.kind;
    match shard.read(&task.run, |ms| is_open(ms, kind)).await {
        Ok(true) => Outcome::Wait,
        Ok(false) => Outcome::Done,
        Err(error) => after_read(error),
    }
}

fn is_open(ms: &MutableState, kind: &TaskKind) -> bool {
    match kind {
        TaskKind::UserTimer { started_event_id } => {
            ms.is_running()
                && ms
                    .timers
                    .values()
                    .any(|t| t.started_event_id == *started_event_id)
        }
        kind => ms.is_pending(kind),
    }
}

/// A child was started, and its first workflow task released, when both runs' states say so.
pub async fn verify_child(
    history: &HistoryClient,
    shard: &Shard,
    task: &QueuedTask,
    initiated: EventId,
) -> Outcome {
    let kind = &task.task.kind;
    let look = |ms: &MutableState| {
        let child = ms
            .children
            .get(&initiated)
            .filter(|c| c.started_event_id.get() > 0);
        (ms.is_pending(kind), child.cloned())
    };
    let child = match shard.read(&task.run, look).await {
        Ok((true, _)) => return Outcome::Wait,
        Ok((false, Some(child))) => child,
        Ok((false, None)) => return Outcome::Done,
        Err(error) => return after_read(error),
    };
    let namespace_id = match child.namespace_id.is_empty() {
        true => task.run.namespace_id.as_str(),
        false => &child.namespace_id,
    };
    let execution = WorkflowExecution {
        workflow_id: child.workflow_id.clone(),
        run_id: child.run_id.as_str().to_owned(),
    };
    match describe(history, namespace_id, execution).await {
        Ok(found) if was_released(&found) => Outcome::Done,
        Ok(_) => Outcome::Wait,
        // Not replicated yet, or deleted since.
        Err(status) if status.code() == Code::NotFound => Outcome::Wait,
        Err(_) => Outcome::Retry(SOON),
    }
}

/// Four events hold at least one workflow task, unless three signals overtook it.
fn was_released(found: &public::DescribeWorkflowExecutionResponse) -> bool {
    let info = found.workflow_execution_info.as_ref();
    found.pending_workflow_task.is_some()
        || info.is_some_and(|i| {
            i.status() != WorkflowExecutionStatus::Running || i.history_length >= 4
        })
}

/// A closed run has told its parent, and its children follow its policy, when their state says so.
pub async fn verify_close(history: &HistoryClient, closed: &Closed) -> Outcome {
    if let Some(parent) = closed.parent_to_notify() {
        let namespace = parent.key.namespace_id.as_str();
        let execution = crate::poll::execution(&parent.key);
        let initiated = parent.initiated_event_id.get();
        match describe(history, namespace, execution).await {
            Ok(found)
                if found
                    .pending_children
                    .iter()
                    .any(|c| c.initiated_id == initiated) =>
            {
                return Outcome::Wait;
            }
            Ok(_) => {}
            // Its parent may not have been replicated yet.
            Err(status) if status.code() == Code::NotFound => {}
            Err(_) => return Outcome::Retry(SOON),
        }
    }
    for child in &closed.children {
        let execution = WorkflowExecution {
            workflow_id: child.workflow_id.clone(),
            run_id: child.run_id.as_str().to_owned(),
        };
        match describe(history, &child.namespace_id, execution).await {
            Ok(found) if !follows(child.parent_close_policy, &found) => return Outcome::Wait,
            Ok(_) => {}
            Err(status) if status.code() == Code::NotFound => {}
            Err(_) => return Outcome::Retry(SOON),
        }
    }
    Outcome::Done
}

fn follows(policy: ParentClosePolicy, found: &public::DescribeWorkflowExecutionResponse) -> bool {
    let info = found.workflow_execution_info.as_ref();
    let is_open = info.is_some_and(|i| i.status() == WorkflowExecutionStatus::Running);
    let extended = found.workflow_extended_info.as_ref();
    let is_asked = extended.is_some_and(|e| e.cancel_requested);
    !is_open || (policy == ParentClosePolicy::RequestCancel && is_asked)
}

async fn describe(
    history: &HistoryClient,
    namespace_id: &str,
    execution: WorkflowExecution,
) -> Result<public::DescribeWorkflowExecutionResponse, Status> {
    let request = public::DescribeWorkflowExecutionRequest {
        execution: Some(execution),
        ..Default::default()
    };
    let call = DescribeWorkflowExecutionRequest {
        namespace_id: namespace_id.to_owned(),
        request: Some(request),
    };
    history.describe_workflow_execution(call).await
}
