//! A run closed: its parent is notified, and the parent-close policies of its children are applied.

use proto_ids::{RunId, RunKey};
use proto_messages::{
    meridian::history::v1 as internal,
    temporal::api::{
        common::v1::WorkflowExecution,
        enums::v1::{ParentClosePolicy, WorkflowExecutionStatus},
        history::v1::{HistoryEvent, history_event::Attributes},
        workflowservice::v1 as public,
    },
};
use tonic::{Code, Status};

use cluster_core::{
    MutableState, mutable_state::ChildExecutionInfo, request::Parent, version::BranchToken,
};
use cluster_shard::{Outcome, ReadError, Shard};

use super::namespace_name;
use crate::{
    change::{IDENTITY, RESETTER},
    events, poll,
    queue::{
        ExecutorDeps,
        outcome::{after_call, after_read},
    },
};

const REASON: &str = "by parent close policy";

/// The part of a closed run that others have to know.
pub struct Closed {
    key: RunKey,
    branch: BranchToken,
    status: WorkflowExecutionStatus,
    parent: Option<Parent>,
    new_run_id: RunId,
    was_reset: bool,
    /// The event that closed it; set when another run has to be notified of it.
    event: Option<HistoryEvent>,
    /// Started children that must follow.
    pub children: Vec<ChildExecutionInfo>,
}

impl Closed {
    /// The parent, when this end is the chain's end: a run that continues, or that a reset replaced, goes
    /// on being the same child.
    pub fn parent_to_notify(&self) -> Option<&Parent> {
        let goes_on = self.status == WorkflowExecutionStatus::ContinuedAsNew
            || !self.new_run_id.is_empty()
            || self.was_reset;
        self.parent.as_ref().filter(|_| !goes_on)
    }
}

/// Looks at the run; `None` when it is open or gone, or when no other run has to be notified of its end.
pub async fn look(shard: &Shard, run: &RunKey) -> Result<Option<Closed>, Outcome> {
    let look = |ms: &MutableState| {
        let at = (
            ms.execution_info.close_batch_first_event_id,
            ms.execution_info.close_event_id,
        );
        (!ms.is_running() && !ms.execution_info.zombie).then(|| (closed(ms), at))
    };
    let (mut closed, (batch, id)) = match shard.read(run, look).await {
        Ok(Some(found)) => found,
        Ok(None) | Err(ReadError::NotFound) => return Ok(None),
        Err(error) => return Err(after_read(error)),
    };
    if closed.parent.is_none() && closed.children.is_empty() {
        return Ok(None);
    }
    let event = events::one(shard, run, &closed.branch, batch, id).await;
    let event = event.map_err(|error| after_call(&error, run))?;
    if let Some(Attributes::WorkflowExecutionTerminatedEventAttributes(a)) = &event.attributes
        && a.identity == RESETTER
    {
        closed.was_reset = true;
        // The new run takes them over.
        closed.children.clear();
    }
    closed.event = Some(event);
    Ok(Some(closed))
}

fn closed(ms: &MutableState) -> Closed {
    let follow = ms.children.values().filter(|c| {
        c.started_event_id.get() > 0 && c.parent_close_policy != ParentClosePolicy::Abandon
    });
    let children = follow.cloned().map(|mut c| {
        if c.namespace_id.is_empty() {
            c.namespace_id = ms.key.namespace_id.as_str().to_owned();
        }
        c
    });
    Closed {
        key: ms.key.clone(),
        branch: ms.versions.current().branch.clone(),
        status: ms.execution_info.status,
        parent: ms.start.parent.clone(),
        new_run_id: ms.execution_info.new_run_id.clone(),
        was_reset: false,
        event: None,
        children: children.collect(),
    }
}

/// Executes the task.
pub async fn close(deps: &ExecutorDeps, shard: &Shard, run: &RunKey) -> Outcome {
    let closed = match look(shard, run).await {
        Ok(Some(closed)) => closed,
        Ok(None) => return Outcome::Done,
        Err(outcome) => return outcome,
    };
    let mut outcome = Outcome::Done;
    if let Some(parent) = closed.parent_to_notify() {
        outcome = notify_parent(deps, &closed, parent).await;
    }
    // A child that cannot be reached must not keep the others waiting.
    for child in &closed.children {
        let applied = apply_policy(deps, &closed.key, child).await;
        if !matches!(applied, Outcome::Done) {
            outcome = applied;
        }
    }
    outcome
}

async fn notify_parent(deps: &ExecutorDeps, closed: &Closed, parent: &Parent) -> Outcome {
    let key = &closed.key;
    let call = internal::RecordChildExecutionCompletedRequest {
        namespace_id: parent.key.namespace_id.as_str().to_owned(),
        parent_execution: Some(poll::execution(&parent.key)),
        parent_initiated_event_id: parent.initiated_event_id.get(),
        parent_initiated_event_version: parent.initiated_event_version,
        child_execution: Some(poll::execution(key)),
        completion_event: closed.event.clone(),
    };
    match deps.history.record_child_execution_completed(call).await {
        Ok(_) => Outcome::Done,
        Err(error) if error.code() == Code::NotFound => Outcome::Done,
        Err(error) => after_call(&error, key),
    }
}

/// Makes one child follow its policy. The first run of the child's chain is named, so that any later run
/// of the chain follows and an unrelated run with the same id does not.
pub async fn apply_policy(
    deps: &ExecutorDeps,
    parent: &RunKey,
    child: &ChildExecutionInfo,
) -> Outcome {
    let namespace = match namespace_name(deps, &child.namespace_id).await {
        Ok(Some(namespace)) => namespace,
        Ok(None) => return Outcome::Done,
        Err(outcome) => return outcome,
    };
    let done = match child.parent_close_policy {
        ParentClosePolicy::Abandon => return Outcome::Done,
        ParentClosePolicy::RequestCancel => request_cancel(deps, parent, child, namespace).await,
        _ => terminate(deps, parent, child, namespace).await,
    };
    match done {
        Ok(()) => Outcome::Done,
        Err(error) if error.code() == Code::NotFound => Outcome::Done,
        Err(error) => after_call(&error, parent),
    }
}

async fn terminate(
    deps: &ExecutorDeps,
    parent: &RunKey,
    child: &ChildExecutionInfo,
    namespace: String,
) -> Result<(), Status> {
    let call = internal::TerminateWorkflowExecutionRequest {
        namespace_id: child.namespace_id.clone(),
        request: Some(public::TerminateWorkflowExecutionRequest {
            namespace,
            workflow_execution: Some(current_run(child)),
            reason: REASON.to_owned(),
            identity: IDENTITY.to_owned(),
            first_execution_run_id: child.run_id.as_str().to_owned(),
            ..Default::default()
        }),
        external_execution: Some(poll::execution(parent)),
        child_workflow_only: true,
    };
    deps.history
        .terminate_workflow_execution(call)
        .await
        .map(drop)
}

async fn request_cancel(
    deps: &ExecutorDeps,
    parent: &RunKey,
    child: &ChildExecutionInfo,
    namespace: String,
) -> Result<(), Status> {
    let call = internal::RequestCancelWorkflowExecutionRequest {
        namespace_id: child.namespace_id.clone(),
        request: Some(public::RequestCancelWorkflowExecutionRequest {
            namespace,
            workflow_execution: Some(current_run(child)),
            identity: IDENTITY.to_owned(),
            request_id: child.create_request_id.clone(),
            first_execution_run_id: child.run_id.as_str().to_owned(),
            reason: REASON.to_owned(),
            ..Default::default()
        }),
        external_execution: Some(poll::execution(parent)),
        external_initiated_event_id: child.initiated_event_id.get(),
        child_workflow_only: true,
        ..Default::default()
    };
    deps.history
        .request_cancel_workflow_execution(call)
        .await
        .map(drop)
}

fn current_run(child: &ChildExecutionInfo) -> WorkflowExecution {
    WorkflowExecution {
        workflow_id: child.workflow_id.clone(),
        run_id: String::new(),
    }
}
