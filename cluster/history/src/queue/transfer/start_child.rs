//! Starts a child: the run is made first, with a request id that makes repetition harmless; then the
//! parent records it; then the child's first workflow task is released. Each step finds out by itself
//! whether it was done before.

mod replaced;

use proto_ids::{EventId, RunId, RunKey};
use proto_messages::{
    meridian::history::v1::{
        ParentExecution, ScheduleFirstWorkflowTaskRequest, StartWorkflowExecutionRequest,
    },
    temporal::api::{
        common::v1::{Priority, WorkflowExecution},
        enums::v1::{ParentClosePolicy, StartChildWorkflowExecutionFailedCause as Cause},
        history::v1::{
            HistoryEvent, StartChildWorkflowExecutionInitiatedEventAttributes,
            history_event::Attributes,
        },
        workflowservice::v1 as public,
    },
    temporal::server::api::history::v1::VersionHistoryItem,
};
use tonic::{Code, Status};

use cluster_core::{
    MutableState, Refusal, Request, VersionItem, mutable_state::ChildExecutionInfo,
    version::BranchToken,
};
use cluster_rpc::status;
use cluster_shard::{Outcome, QueuedTask, Shard, UpdateError};

use super::{close, initiated, namespace_name};
use crate::{
    change, poll,
    queue::{
        ExecutorDeps,
        outcome::{LATER, after_call, after_read, after_update, apply_to_run},
    },
};
use proto_messages::temporal::api::errordetails::v1::NamespaceNotFoundFailure;

/// The child as the parent's state has it.
struct Wanted {
    parent: RunKey,
    child: ChildExecutionInfo,
    branch: BranchToken,
    items: Vec<VersionItem>,
    root: WorkflowExecution,
    priority: Option<Priority>,
    is_open: bool,
    is_reset: bool,
}

/// Executes the task.
pub async fn start(deps: &ExecutorDeps, shard: &Shard, task: &QueuedTask, id: EventId) -> Outcome {
    let wanted = match shard.read(&task.run, |ms| look(ms, id)).await {
        Ok(Some(wanted)) => wanted,
        Ok(None) => return Outcome::Done,
        Err(error) => return after_read(error),
    };
    if wanted.child.started_event_id.get() > 0 {
        return release(deps, task, &wanted.child, wanted.child.run_id.as_str()).await;
    }
    // Whatever its parent-close policy: the parent has closed before the child was there to be closed or left.
    if !wanted.is_open {
        return Outcome::Done;
    }
    let batch = wanted.child.initiated_batch_id;
    let event = match initiated(shard, task, &wanted.branch, batch, id).await {
        Ok(event) => event,
        Err(outcome) => return outcome,
    };
    let (namespace_id, call) = match call(deps, &wanted, event).await {
        Ok(Some(call)) => call,
        Ok(None) => return refused(shard, task, id, Cause::NamespaceNotFound).await,
        Err(outcome) => return outcome,
    };
    let again = wanted.is_reset.then(|| call.clone());
    let mut started = deps.history.start_workflow_execution(call).await;
    if let (Err(error), Some(call)) = (&started, again)
        && error.code() == Code::AlreadyExists
    {
        match replaced::is_of_replaced_parent(deps, shard, &wanted.parent, &call).await {
            Ok(true) => {
                let call = replaced::regardless(call);
                started = deps.history.start_workflow_execution(call).await;
            }
            Ok(false) => {}
            Err(outcome) => return outcome,
        }
    }
    match started {
        Ok(started) => record(deps, shard, task, wanted, namespace_id, started.run_id).await,
        Err(error) => match failed_cause(&error) {
            Some(cause) => refused(shard, task, id, cause).await,
            None => after_call(&error, &task.run),
        },
    }
}

fn look(ms: &MutableState, id: EventId) -> Option<Wanted> {
    if ms.execution_info.zombie {
        return None;
    }
    let child = ms.children.get(&id)?.clone();
    Some(Wanted {
        parent: ms.key.clone(),
        child,
        branch: ms.versions.current().branch.clone(),
        items: ms.versions.current().items.clone(),
        root: ms
            .start
            .root
            .clone()
            .unwrap_or_else(|| poll::execution(&ms.key)),
        priority: ms.start.priority.clone(),
        is_open: ms.is_running(),
        is_reset: replaced::is_reset(ms),
    })
}

/// The call that starts the child; `None` when its namespace does not exist.
async fn call(
    deps: &ExecutorDeps,
    wanted: &Wanted,
    event: HistoryEvent,
) -> Result<Option<(String, StartWorkflowExecutionRequest)>, Outcome> {
    let version = event.version;
    let user_metadata = event.user_metadata;
    let Some(Attributes::StartChildWorkflowExecutionInitiatedEventAttributes(attributes)) =
        event.attributes
    else {
        let text = format!("event {} does not initiate a child", event.event_id);
        return Err(Outcome::PermanentFailure(text));
    };
    let namespace_id = if wanted.child.namespace_id.is_empty() {
        wanted.parent.namespace_id.as_str().to_owned()
    } else {
        wanted.child.namespace_id.clone()
    };
    let Some(namespace) = namespace_name(deps, &namespace_id).await? else {
        return Ok(None);
    };
    let own = namespace_name(deps, wanted.parent.namespace_id.as_str()).await?;
    let parent_namespace = own.unwrap_or_default();
    let items = wanted.items.iter().map(|item| VersionHistoryItem {
        event_id: item.event_id.get(),
        version: item.version.get(),
    });
    let items = items.collect();
    let parent = ParentExecution {
        namespace_id: wanted.parent.namespace_id.as_str().to_owned(),
        namespace: parent_namespace,
        execution: Some(poll::execution(&wanted.parent)),
        initiated_event_id: wanted.child.initiated_event_id.get(),
        initiated_event_version: version,
        root_execution: Some(wanted.root.clone()),
        version_history_items: items,
    };
    let mut request = request(attributes, namespace);
    request.request_id = wanted.child.create_request_id.clone();
    request.user_metadata = user_metadata;
    request.priority = poll::priority(wanted.priority.as_ref(), request.priority.as_ref());
    let call = StartWorkflowExecutionRequest {
        namespace_id: namespace_id.clone(),
        request: Some(request),
        parent: Some(parent),
        first_workflow_task_backoff: None,
    };
    Ok(Some((namespace_id, call)))
}

fn request(
    attributes: StartChildWorkflowExecutionInitiatedEventAttributes,
    namespace: String,
) -> public::StartWorkflowExecutionRequest {
    public::StartWorkflowExecutionRequest {
        namespace,
        workflow_id: attributes.workflow_id,
        workflow_type: attributes.workflow_type,
        task_queue: attributes.task_queue,
        input: attributes.input,
        workflow_execution_timeout: attributes.workflow_execution_timeout,
        workflow_run_timeout: attributes.workflow_run_timeout,
        workflow_task_timeout: attributes.workflow_task_timeout,
        workflow_id_reuse_policy: attributes.workflow_id_reuse_policy,
        retry_policy: attributes.retry_policy,
        cron_schedule: attributes.cron_schedule,
        memo: attributes.memo,
        search_attributes: attributes.search_attributes,
        header: attributes.header,
        priority: attributes.priority,
        ..Default::default()
    }
}

fn failed_cause(error: &Status) -> Option<Cause> {
    match error.code() {
        Code::AlreadyExists => Some(Cause::WorkflowAlreadyExists),
        Code::NotFound if status::decode_detail::<NamespaceNotFoundFailure>(error).is_some() => {
            Some(Cause::NamespaceNotFound)
        }
        _ => None,
    }
}

async fn refused(shard: &Shard, task: &QueuedTask, id: EventId, cause: Cause) -> Outcome {
    apply_to_run(
        shard,
        &task.run,
        Request::ChildStarted {
            initiated_event_id: id,
            result: Err(cause),
        },
    )
    .await
}

/// The parent records the start. A parent that closed meanwhile applies its close policy to the child
/// right here: its close task could not know of it.
async fn record(
    deps: &ExecutorDeps,
    shard: &Shard,
    task: &QueuedTask,
    wanted: Wanted,
    namespace_id: String,
    run_id: String,
) -> Outcome {
    let result = Ok(RunId::new(&run_id));
    let id = wanted.child.initiated_event_id;
    let core_request = Request::ChildStarted {
        initiated_event_id: id,
        result,
    };
    match change::apply_request(shard, &task.run, core_request).await {
        Ok(_) => release(deps, task, &wanted.child, &run_id).await,
        Err(UpdateError::Refused(Refusal::Closed(_)) | UpdateError::NotFound) => {
            let mut child = wanted.child;
            child.run_id = RunId::new(&run_id);
            child.namespace_id = namespace_id;
            if child.parent_close_policy == ParentClosePolicy::Abandon {
                return release(deps, task, &child, &run_id).await;
            }
            close::apply_policy(deps, &wanted.parent, &child).await
        }
        Err(error) => after_update(error),
    }
}

async fn release(
    deps: &ExecutorDeps,
    task: &QueuedTask,
    child: &ChildExecutionInfo,
    run_id: &str,
) -> Outcome {
    let namespace_id = if child.namespace_id.is_empty() {
        task.run.namespace_id.as_str().to_owned()
    } else {
        child.namespace_id.clone()
    };
    let call = ScheduleFirstWorkflowTaskRequest {
        namespace_id,
        execution: Some(WorkflowExecution {
            workflow_id: child.workflow_id.clone(),
            run_id: run_id.to_owned(),
        }),
    };
    match deps.history.schedule_first_workflow_task(call).await {
        Ok(_) => Outcome::Done,
        // It has closed already, or is gone.
        Err(error) if error.code() == Code::NotFound => Outcome::Done,
        Err(error) if error.code() == Code::FailedPrecondition => Outcome::Retry(LATER),
        Err(error) => after_call(&error, &task.run),
    }
}
