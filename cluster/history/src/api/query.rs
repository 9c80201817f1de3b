//! QueryWorkflow. A query must see everything that was acknowledged before it. With no workflow task pending a
//! worker is asked directly, through matching; otherwise the query is buffered for the next workflow task,
//! whose worker has seen all events. Standby clusters and closed runs are asked directly: nothing changes
//! there.

use std::time::Duration;

use proto_ids::{EventId, RunKey, Timestamp};
use proto_messages::{
    meridian::{history::v1::QueryWorkflowRequest, matching::v1 as matching},
    temporal::api::{
        enums::v1::{QueryRejectCondition, QueryResultType, WorkflowExecutionStatus},
        query::v1::QueryRejected,
        workflowservice::v1 as public,
    },
};
use tokio::time::Instant;
use tonic::{Code, Status};

use cluster_core::{MutableState, Request};
use cluster_rpc::status;
use cluster_shard::Shard;

use crate::{
    api,
    engine::{self, Engine},
    error,
    poll::{self, Extent, TaskView},
    query_registry::{BufferedQuery, QueryCompletion},
    settings,
};

/// From this attempt on the workflow task is not expected to carry anything.
const ATTEMPTS_MAX: i32 = 3;

/// How long the answer of the completion that closed a run is waited for.
const AFTER_CLOSE: Duration = Duration::from_millis(200);

/// The route of a query.
enum QueryRoute {
    /// The reject condition holds.
    Reject(WorkflowExecutionStatus),
    /// No workflow task ever ran: the first has to come first.
    Wait,
    /// Refused, with the text.
    NotReady(&'static str),
    /// On the pending workflow task.
    OnWorkflowTask,
    /// Straight to a worker: the sticky one if there is one.
    Direct,
}

/// Serves the call; `timeout` is the caller's.
pub async fn query(
    engine: &Engine,
    request: QueryWorkflowRequest,
    timeout: Option<Duration>,
) -> Result<public::QueryWorkflowResponse, Status> {
    let api_request = api::required(request.request)?;
    let mut key = api::run_key(&request.namespace_id, api_request.execution.as_ref())?;
    let until = engine::deadline(timeout, engine.deps.settings.get(&settings::QUERY_TIMEOUT));
    let shard = engine.shard_of(&key).await?;
    let inner = serve(engine, &shard, &mut key, api_request, until);
    match tokio::time::timeout_at(until, inner).await {
        Ok(answer) => answer,
        Err(_) => Err(timed_out()),
    }
}

async fn serve(
    engine: &Engine,
    shard: &Shard,
    key: &mut RunKey,
    api_request: public::QueryWorkflowRequest,
    until: Instant,
) -> Result<public::QueryWorkflowResponse, Status> {
    let is_active = engine.is_active(&*engine.namespace(&key.namespace_id).await?);
    // The run is fixed at the first look: a query never wanders to the next run of the chain.
    let found = shard.read(key, |ms| ms.key.clone()).await;
    *key = found.map_err(|e| error::status(e.into(), key))?;
    let left = until.saturating_duration_since(Instant::now());
    let query_context = QueryContext {
        condition: api_request.query_reject_condition(),
        is_active,
        until: engine.now().plus(left),
    };
    loop {
        // Watched before looking, so that no change between the look and the wait is missed.
        let mut progress = shard.watch_run(key);
        progress.mark_unchanged();
        match look(shard, key, query_context).await? {
            QueryRoute::Reject(status) => return Ok(rejected(status)),
            QueryRoute::NotReady(text) => return Err(status::workflow_not_ready(text)),
            QueryRoute::Direct => return direct(engine, shard, key, api_request, until).await,
            QueryRoute::Wait => {
                if progress.changed().await.is_err() {
                    return Err(status::unavailable("the run moved to another host"));
                }
            }
            QueryRoute::OnWorkflowTask => {
                let buffered = buffer(engine, key, &api_request)?;
                // Looked at again now that the query is buffered: a task that ends from now on sees it.
                if !matches!(
                    look(shard, key, query_context).await?,
                    QueryRoute::OnWorkflowTask
                ) {
                    continue;
                }
                if let Some(answer) = wait_for_workflow_task(buffered, &mut progress).await? {
                    return Ok(answer);
                }
            }
        }
    }
}

/// The context that decides the route of a query beside the run.
#[derive(Clone, Copy)]
struct QueryContext {
    condition: QueryRejectCondition,
    is_active: bool,
    /// When the caller stops waiting.
    until: Timestamp,
}

async fn look(
    shard: &Shard,
    key: &RunKey,
    query_context: QueryContext,
) -> Result<QueryRoute, Status> {
    let found = shard.read(key, |ms| route(ms, query_context)).await;
    found.map_err(|e| error::status(e.into(), key))
}

fn buffer<'a>(
    engine: &'a Engine,
    key: &RunKey,
    api_request: &public::QueryWorkflowRequest,
) -> Result<BufferedQuery<'a>, Status> {
    let limit = engine.deps.settings.get(&settings::BUFFERED_QUERIES);
    let query = api_request.query.clone().unwrap_or_default();
    let limit = usize::try_from(limit).unwrap_or(1);
    engine.queries.buffer(key, query, limit).ok_or_else(|| {
        status::busy_workflow(
            "consistent query buffer is full, cannot accept new consistent queries",
        )
    })
}

fn route(ms: &MutableState, query_context: QueryContext) -> QueryRoute {
    let QueryContext {
        condition,
        is_active,
        until,
    } = query_context;
    let status = ms.execution_info.status;
    let is_open = ms.is_running();
    let reject = match condition {
        QueryRejectCondition::NotOpen => !is_open,
        QueryRejectCondition::NotCompletedCleanly => {
            !is_open && status != WorkflowExecutionStatus::Completed
        }
        _ => false,
    };
    if reject {
        return QueryRoute::Reject(status);
    }
    let task = ms.execution_info.workflow_task.as_ref();
    let never_ran = ms.execution_info.last_completed_started_event_id == EventId::new(0);
    let is_started = task.is_some_and(|t| t.started_event_id.get() > 0);
    if never_ran && !is_started {
        if !is_open {
            return QueryRoute::NotReady(
                "Workflow execution closed before WorkflowTaskStarted event",
            );
        }
        if !ms.execution_info.first_workflow_task_scheduled && task.is_none() || !is_active {
            // A start delay, a retry's or a cron schedule's back-off may last longer than the caller waits.
            return match task.is_none() && ms.start.execution_time > until {
                true => QueryRoute::NotReady("Workflow task is not scheduled yet."),
                false => QueryRoute::Wait,
            };
        }
    }
    if task.is_some_and(|t| t.attempt >= ATTEMPTS_MAX) {
        return QueryRoute::NotReady(
            "Unable to query workflow due to Workflow Task in failed state.",
        );
    }
    if is_active && is_open && task.is_some() {
        QueryRoute::OnWorkflowTask
    } else {
        QueryRoute::Direct
    }
}

/// Waits for the workflow task to bring the answer; `None` when the query has to look for another way.
async fn wait_for_workflow_task(
    mut buffered: BufferedQuery<'_>,
    progress: &mut tokio::sync::watch::Receiver<cluster_shard::RunProgress>,
) -> Result<Option<public::QueryWorkflowResponse>, Status> {
    let closed = async {
        while progress.changed().await.is_ok() && !progress.borrow_and_update().closed {}
        // The completion that closed the run may hold the answer, and gives it right after its commit.
        tokio::time::sleep(AFTER_CLOSE).await;
    };
    tokio::select! {
        biased;
        end = &mut buffered.end => match end {
            Ok(QueryCompletion::Succeeded(result)) => Ok(Some(answered(result))),
            Ok(QueryCompletion::Failed { text, failure }) => Err(status::query_failed(text, failure.map(|f| *f))),
            Ok(QueryCompletion::Unblocked) | Err(_) => Ok(None),
        },
        // A closed run has no workflow task that could bring it.
        () = closed => Ok(None),
    }
}

/// Asks a worker through matching: the one with the run in its cache first, then any.
async fn direct(
    engine: &Engine,
    shard: &Shard,
    key: &RunKey,
    api_request: public::QueryWorkflowRequest,
    until: Instant,
) -> Result<public::QueryWorkflowResponse, Status> {
    let look = |ms: &MutableState| {
        let sticky = ms
            .execution_info
            .sticky
            .clone()
            .filter(|s| !s.task_queue.is_empty());
        let partial = sticky
            .is_some()
            .then(|| TaskView::query(ms, Extent::SinceLastCompleted));
        (
            sticky.zip(partial),
            TaskView::query(ms, Extent::Full),
            ms.start.task_queue.clone(),
        )
    };
    let looked = shard
        .read(key, look)
        .await
        .map_err(|e| error::status(e.into(), key))?;
    let (sticky, full, normal) = looked;
    if let Some((sticky, view)) = sticky {
        let call = matching::QueryWorkflowRequest {
            namespace_id: key.namespace_id.as_str().to_owned(),
            task_queue: Some(poll::sticky_queue(&sticky.task_queue, &normal)),
            request: Some(api_request.clone()),
            task: Some(view.answer(shard, Vec::new()).await?),
        };
        let sticky_deadline = until.min(Instant::now() + sticky.schedule_to_start_timeout);
        match tokio::time::timeout_at(sticky_deadline, send(engine, call, sticky_deadline)).await {
            Ok(Ok(answer)) => return read_answer(answer),
            Ok(Err(status)) if is_worker_gone(&status) => {}
            Ok(Err(status)) => return Err(status),
            Err(_) if sticky_deadline < until => {}
            Err(_) => return Err(timed_out()),
        }
        forget_sticky(shard, key).await;
    }
    let call = matching::QueryWorkflowRequest {
        namespace_id: key.namespace_id.as_str().to_owned(),
        task_queue: Some(poll::normal_queue(&normal)),
        request: Some(api_request),
        task: Some(full.answer(shard, Vec::new()).await?),
    };
    let answer = send(engine, call, until).await;
    read_answer(answer.map_err(|s| {
        if s.code() == Code::DeadlineExceeded {
            timed_out()
        } else {
            s
        }
    })?)
}

async fn send(
    engine: &Engine,
    call: matching::QueryWorkflowRequest,
    until: Instant,
) -> Result<matching::QueryWorkflowResponse, Status> {
    let mut request = tonic::Request::new(call);
    request.set_timeout(until.saturating_duration_since(Instant::now()));
    engine.deps.matching.query_workflow(request).await
}

/// The worker of the sticky queue has gone; the next task would only wait there.
async fn forget_sticky(shard: &Shard, key: &RunKey) {
    let decided = shard.update(key, |ms, ctx| {
        Ok((ms.handle(Request::ResetSticky, ctx)?, ()))
    });
    if let Err(error) = decided.await {
        tracing::debug!(run = %key, ?error, "the sticky queue of a worker that has gone stays");
    }
}

fn is_worker_gone(refused: &Status) -> bool {
    match refused.code() {
        Code::DeadlineExceeded => true,
        _ => status::is_sticky_worker_unavailable(refused),
    }
}

fn read_answer(
    answer: matching::QueryWorkflowResponse,
) -> Result<public::QueryWorkflowResponse, Status> {
    let answer = api::required(answer.answer)?;
    match answer.completed_type() {
        QueryResultType::Answered => Ok(answered(answer.query_result)),
        _ => Err(status::query_failed(answer.error_message, answer.failure)),
    }
}

fn answered(
    result: Option<proto_messages::temporal::api::common::v1::Payloads>,
) -> public::QueryWorkflowResponse {
    public::QueryWorkflowResponse {
        query_result: result,
        ..Default::default()
    }
}

fn rejected(status: WorkflowExecutionStatus) -> public::QueryWorkflowResponse {
    let query_rejected = Some(QueryRejected {
        status: status as i32,
    });
    public::QueryWorkflowResponse {
        query_rejected,
        ..Default::default()
    }
}

fn timed_out() -> Status {
    Status::deadline_exceeded("query timed out before a worker could process it")
}
