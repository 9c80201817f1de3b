//! RespondWorkflowTaskCompleted: the worker's commands go through the core; queries it answered go to who
//! waits; the next workflow task and activities may go back with the answer.

use proto_ids::{EventId, RunKey};
use proto_messages::{
    meridian::history::v1::RespondWorkflowTaskCompletedRequest,
    temporal::api::{
        enums::v1::WorkflowTaskFailedCause,
        workflowservice::v1::{
            PollActivityTaskQueueResponse, RespondWorkflowTaskCompletedResponse,
        },
    },
};
use tonic::Status;

use cluster_core::{MutableState, Reply, Request, Transition};
use cluster_rpc::status;
use cluster_shard::Shard;

use crate::{
    api,
    engine::Engine,
    poll::{self, Extent, TaskView},
    token,
};

/// Data for the answer and the buffered queries, taken under the run's lock.
struct Done {
    next_task: Option<TaskView>,
    activities: Vec<PollActivityTaskQueueResponse>,
    failed: Option<(WorkflowTaskFailedCause, String)>,
    heartbeat_over: bool,
    /// A workflow task is scheduled or started: queries that are left ride on it.
    task_pending: bool,
}

/// Serves the call.
pub async fn completed(
    engine: &Engine,
    request: RespondWorkflowTaskCompletedRequest,
) -> Result<RespondWorkflowTaskCompletedResponse, Status> {
    let mut public = api::required(request.request)?;
    let (key, task) = token::read_task(&request.namespace_id, &public.task_token)?;
    if public.intermediate_page || public.page_number > 0 {
        return Err(status::failed_precondition(
            "paged workflow task completion is not enabled",
        ));
    }
    let namespace = engine.namespace(&key.namespace_id).await?;
    let shard = engine.shard_of(&key).await?;
    let answers = std::mem::take(&mut public.query_results);
    let queries_pending = answers.is_empty() && engine.queries.has_buffered(&key);
    let keeps_cache = public.sticky_attributes.is_some();
    let core_request = Request::CompleteWorkflowTask {
        scheduled_event_id: EventId::new(task.scheduled_event_id),
        started_event_id: EventId::new(task.started_event_id),
        attempt: task.attempt,
        request: Box::new(public),
        queries_pending,
    };
    let updated = engine.update(&shard, &key, |ms, ctx| {
        let transition = ms.handle(core_request, ctx)?;
        let mut done = Done::of(ms, &transition, namespace.name.as_str(), keeps_cache);
        done.next_task = done.next_task.take().map(|view| {
            let mut queries = engine.queries.buffered(&ms.key);
            queries.retain(|id, _| !answers.contains_key(id));
            view.carrying(queries)
        });
        Ok((transition, done))
    });
    let updated = updated.await?;
    let (key, done) = (
        RunKey {
            run_id: updated.run_id,
            ..key
        },
        updated.value,
    );
    if let Some((_, text)) = done.failed {
        return Err(status::invalid_argument(text));
    }
    engine.queries.answer(&key, answers);
    if !done.task_pending {
        engine.queries.unblock(&key);
    }
    if done.heartbeat_over {
        return Err(status::not_found("workflow task heartbeat timeout"));
    }
    respond(&shard, done).await
}

async fn respond(
    shard: &Shard,
    done: Done,
) -> Result<RespondWorkflowTaskCompletedResponse, Status> {
    let mut answer = RespondWorkflowTaskCompletedResponse {
        activity_tasks: done.activities,
        ..Default::default()
    };
    if let Some(view) = done.next_task {
        answer.workflow_task = Some(view.answer(shard, Vec::new()).await?);
    }
    Ok(answer)
}

impl Done {
    fn of(ms: &MutableState, transition: &Transition, namespace: &str, keeps_cache: bool) -> Self {
        let mut done = Self {
            next_task: None,
            activities: Vec::new(),
            failed: None,
            heartbeat_over: matches!(transition.reply, Reply::WorkflowTaskHeartbeatTimedOut),
            task_pending: ms.execution_info.workflow_task.is_some(),
        };
        if let Reply::WorkflowTaskCompleted {
            eager_activities,
            new_task_started,
            failed,
        } = &transition.reply
        {
            let eager = eager_activities
                .iter()
                .filter_map(|id| ms.activities.get(id));
            done.activities = eager
                .map(|a| poll::activity_task(ms, a, namespace))
                .collect();
            let task = ms
                .execution_info
                .workflow_task
                .as_ref()
                .filter(|_| *new_task_started);
            let extent = if keeps_cache {
                Extent::SinceLastCompleted
            } else {
                Extent::Full
            };
            done.next_task = task.map(|t| TaskView::started(ms, t, extent, Vec::new()));
            done.failed = failed.clone();
        }
        done
    }
}
