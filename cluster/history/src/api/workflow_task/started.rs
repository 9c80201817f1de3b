//! RecordWorkflowTaskStarted: matching has a poller in hand. The whole answer of the poll is made here,
//! from state in memory. "Started" is not acknowledged to a client, so the answer does not wait for its commit.

use std::collections::HashMap;

use proto_ids::EventId;
use proto_messages::{
    meridian::history::v1::RecordWorkflowTaskStartedRequest,
    temporal::api::{
        enums::v1::TaskQueueKind,
        history::v1::HistoryEvent,
        query::v1::WorkflowQuery,
        taskqueue::v1::TaskQueue,
        workflowservice::v1::{PollWorkflowTaskQueueRequest, PollWorkflowTaskQueueResponse},
    },
};
use tonic::Status;

use cluster_core::{Durability, MutableState, Refusal, Reply, Request, Transition};

use crate::{
    api,
    engine::Engine,
    poll::{Extent, TaskView},
};

/// Serves the call.
pub async fn started(
    engine: &Engine,
    request: RecordWorkflowTaskStartedRequest,
) -> Result<PollWorkflowTaskQueueResponse, Status> {
    let key = api::run_key(&request.namespace_id, request.execution.as_ref())?;
    let shard = engine.shard_of(&key).await?;
    let poll = request.poll_request.unwrap_or_default();
    let queue = poll.task_queue.clone().unwrap_or_default();
    let durable = request.durable;
    let core_request = Request::StartWorkflowTask {
        scheduled_event_id: EventId::new(request.scheduled_event_id),
        attempt: request.attempt,
        request_id: request.request_id,
        task_queue: queue.clone(),
        build_id: build_id(&poll),
        identity: poll.identity,
    };
    let updated = engine.update(&shard, &key, |ms, ctx| {
        let extent = extent(ms, &queue);
        let mut transition = ms.handle(core_request, ctx)?;
        let queries = buffered_queries(engine, ms, &transition);
        api::promote(&mut transition, durable);
        let (view, fresh) = view(ms, &transition, extent)?;
        Ok((transition, (view.carrying(queries), fresh)))
    });
    let (view, fresh) = updated.await?.value;
    view.answer(&shard, fresh).await
}

/// The queries that ride on this task. A start that only repeats an earlier one takes none: a query that
/// came in between may follow a signal the task does not show. Those that wait go with the next task.
fn buffered_queries(
    engine: &Engine,
    ms: &MutableState,
    transition: &Transition,
) -> HashMap<String, WorkflowQuery> {
    match transition.durability {
        Durability::WriteBehind => engine.queries.buffered(&ms.key),
        _ => HashMap::new(),
    }
}

fn view(
    ms: &MutableState,
    transition: &Transition,
    extent: Extent,
) -> Result<(TaskView, Vec<HistoryEvent>), Refusal> {
    let task = ms
        .execution_info
        .workflow_task
        .as_ref()
        .ok_or(Refusal::WorkflowTaskNotFound)?;
    let transient = match &transition.reply {
        Reply::WorkflowTaskStarted { transient } => transient.clone(),
        _ => Vec::new(),
    };
    // Only events that nobody waits for may be shown before their commit.
    let fresh = match transition.durability {
        Durability::WriteBehind => transition
            .events
            .iter()
            .flat_map(|b| b.events.iter().cloned())
            .collect(),
        _ => Vec::new(),
    };
    Ok((TaskView::started(ms, task, extent, transient), fresh))
}

/// A worker that polled its sticky queue has the run in its cache, as long as that queue is still the run's.
fn extent(ms: &MutableState, queue: &TaskQueue) -> Extent {
    let is_sticky = queue.kind == TaskQueueKind::Sticky as i32;
    let is_ours = ms
        .execution_info
        .sticky
        .as_ref()
        .is_some_and(|s| s.task_queue == queue.name);
    if is_sticky && is_ours {
        Extent::SinceLastCompleted
    } else {
        Extent::Full
    }
}

#[expect(deprecated, reason = "older SDKs still send it")]
fn build_id(poll: &PollWorkflowTaskQueueRequest) -> String {
    let deployment = poll.deployment_options.as_ref().map(|d| d.build_id.clone());
    let capabilities = poll
        .worker_version_capabilities
        .as_ref()
        .map(|c| c.build_id.clone());
    [deployment, capabilities, Some(poll.binary_checksum.clone())]
        .into_iter()
        .flatten()
        .find(|id| !id.is_empty())
        .unwrap_or_default()
}
