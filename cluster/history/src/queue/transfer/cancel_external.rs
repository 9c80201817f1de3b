//! Asks another run to cancel, with a request id that makes repetition harmless, and tells this run the
//! end.

use proto_ids::EventId;
use proto_messages::{
    meridian::history::v1::RequestCancelWorkflowExecutionRequest,
    temporal::api::{
        enums::v1::CancelExternalWorkflowExecutionFailedCause as Cause,
        errordetails::v1::NamespaceNotFoundFailure, history::v1::history_event::Attributes,
        workflowservice::v1 as public,
    },
};
use tonic::{Code, Status};

use cluster_core::{MutableState, Request};
use cluster_rpc::status;
use cluster_shard::{Outcome, QueuedTask, Shard};

use super::{initiated, namespace_name};
use crate::{
    change::IDENTITY,
    poll,
    queue::{
        ExecutorDeps,
        outcome::{after_call, after_read, apply_to_run},
    },
};

/// Executes the task.
pub async fn cancel(deps: &ExecutorDeps, shard: &Shard, task: &QueuedTask, id: EventId) -> Outcome {
    let look = |ms: &MutableState| {
        let pending = ms
            .external_cancels
            .get(&id)
            .filter(|_| ms.is_pending(&task.task.kind))?;
        Some((pending.clone(), ms.versions.current().branch.clone()))
    };
    let (pending, branch) = match shard.read(&task.run, look).await {
        Ok(Some(found)) => found,
        Ok(None) => return Outcome::Done,
        Err(error) => return after_read(error),
    };
    let event = match initiated(shard, task, &branch, pending.initiated_batch_id, id).await {
        Ok(event) => event,
        Err(outcome) => return outcome,
    };
    let Some(Attributes::RequestCancelExternalWorkflowExecutionInitiatedEventAttributes(wish)) =
        event.attributes
    else {
        return Outcome::PermanentFailure(format!("event {id} does not initiate a cancel request"));
    };
    let own = task.run.namespace_id.as_str();
    let namespace_id = if wish.namespace_id.is_empty() {
        own.to_owned()
    } else {
        wish.namespace_id.clone()
    };
    let target = wish.workflow_execution.clone().unwrap_or_default();
    if namespace_id == own && target.workflow_id == task.run.workflow_id.as_str() {
        return end(
            shard,
            task,
            id,
            Err(Cause::ExternalWorkflowExecutionNotFound),
        )
        .await;
    }
    let namespace = match namespace_name(deps, &namespace_id).await {
        Ok(Some(namespace)) => namespace,
        Ok(None) => return end(shard, task, id, Err(Cause::NamespaceNotFound)).await,
        Err(outcome) => return outcome,
    };
    let call = RequestCancelWorkflowExecutionRequest {
        namespace_id,
        request: Some(public::RequestCancelWorkflowExecutionRequest {
            namespace,
            workflow_execution: Some(target),
            identity: IDENTITY.to_owned(),
            request_id: pending.request_id,
            reason: wish.reason,
            ..Default::default()
        }),
        external_execution: Some(poll::execution(&task.run)),
        external_initiated_event_id: id.get(),
        child_workflow_only: wish.child_workflow_only,
        ..Default::default()
    };
    match deps.history.request_cancel_workflow_execution(call).await {
        Ok(_) => end(shard, task, id, Ok(())).await,
        Err(error) => match failed_cause(&error) {
            Some(cause) => end(shard, task, id, Err(cause)).await,
            None => after_call(&error, &task.run),
        },
    }
}

fn failed_cause(error: &Status) -> Option<Cause> {
    if error.code() != Code::NotFound {
        return None;
    }
    Some(
        match status::decode_detail::<NamespaceNotFoundFailure>(error) {
            Some(_) => Cause::NamespaceNotFound,
            None => Cause::ExternalWorkflowExecutionNotFound,
        },
    )
}

async fn end(shard: &Shard, task: &QueuedTask, id: EventId, result: Result<(), Cause>) -> Outcome {
    apply_to_run(
        shard,
        &task.run,
        Request::ExternalCanceled {
            initiated_event_id: id,
            result,
        },
    )
    .await
}
