//! Answers of starts.

use proto_ids::{RunId, RunKey};
use proto_messages::temporal::api::{
    common::v1::{
        Link,
        link::{Variant, WorkflowEvent, workflow_event},
    },
    enums::v1::EventType,
    workflowservice::v1 as public,
};
use tonic::Status;

use cluster_shard::Shard;

use super::Started;
use crate::{
    error,
    poll::{Extent, TaskView},
};

/// The answer of StartWorkflowExecution.
pub async fn started(
    shard: &Shard,
    key: &RunKey,
    namespace: &str,
    started: Started,
) -> Result<public::StartWorkflowExecutionResponse, Status> {
    let is_started = started.is_new || started.is_repeated;
    let link = link(key, namespace, &started);
    let eager_workflow_task = match started.task {
        Some(view) => Some(view.answer(shard, Vec::new()).await?),
        None => None,
    };
    Ok(public::StartWorkflowExecutionResponse {
        link: Some(link),
        run_id: started.run_id.into(),
        first_execution_run_id: started.first_run_id.into(),
        started: is_started,
        status: started.status as i32,
        eager_workflow_task,
    })
}

/// The first workflow task of a run whose start is asked for again, while it is the caller's still: the
/// first answer may not have arrived.
pub async fn first_task(
    shard: &Shard,
    key: &RunKey,
    run_id: &RunId,
) -> Result<Option<TaskView>, Status> {
    let key = RunKey {
        run_id: run_id.clone(),
        ..key.clone()
    };
    let look = |ms: &cluster_core::MutableState| {
        let task = ms.execution_info.workflow_task.as_ref().filter(|t| {
            let is_first =
                ms.execution_info.last_completed_started_event_id.get() == 0 && t.attempt == 1;
            let is_eager = t.started_event_id.get() == 3 && t.request_id == ms.start.request_id;
            is_first && is_eager
        });
        task.map(|t| TaskView::started(ms, t, Extent::Full, Vec::new()))
    };
    shard
        .read(&key, look)
        .await
        .map_err(|e| error::status(e.into(), &key))
}

/// The start a signal-with-start asks for.
pub fn start_request(
    api_request: public::SignalWithStartWorkflowExecutionRequest,
) -> public::StartWorkflowExecutionRequest {
    public::StartWorkflowExecutionRequest {
        namespace: api_request.namespace,
        workflow_id: api_request.workflow_id,
        workflow_type: api_request.workflow_type,
        task_queue: api_request.task_queue,
        input: api_request.input,
        workflow_execution_timeout: api_request.workflow_execution_timeout,
        workflow_run_timeout: api_request.workflow_run_timeout,
        workflow_task_timeout: api_request.workflow_task_timeout,
        identity: api_request.identity,
        request_id: api_request.request_id,
        workflow_id_reuse_policy: api_request.workflow_id_reuse_policy,
        workflow_id_conflict_policy: api_request.workflow_id_conflict_policy,
        retry_policy: api_request.retry_policy,
        cron_schedule: api_request.cron_schedule,
        memo: api_request.memo,
        search_attributes: api_request.search_attributes,
        header: api_request.header,
        workflow_start_delay: api_request.workflow_start_delay,
        user_metadata: api_request.user_metadata,
        links: api_request.links,
        versioning_override: api_request.versioning_override,
        priority: api_request.priority,
        ..Default::default()
    }
}

/// Where history shows what became of the call: the run's first event, or the event with its request id.
fn link(key: &RunKey, namespace: &str, started: &Started) -> Link {
    let reference = match &started.attached_request_id {
        None => workflow_event::Reference::EventRef(workflow_event::EventReference {
            event_id: 1,
            event_type: EventType::WorkflowExecutionStarted as i32,
        }),
        Some(request_id) => {
            workflow_event::Reference::RequestIdRef(workflow_event::RequestIdReference {
                request_id: request_id.clone(),
                event_type: EventType::WorkflowExecutionOptionsUpdated as i32,
            })
        }
    };
    Link {
        variant: Some(Variant::WorkflowEvent(WorkflowEvent {
            namespace: namespace.to_owned(),
            workflow_id: key.workflow_id.as_str().to_owned(),
            run_id: started.run_id.as_str().to_owned(),
            reference: Some(reference),
        })),
    }
}
