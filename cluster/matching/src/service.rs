//! The RPCs.

use std::{sync::Arc, time::Duration};

use cluster_membership::Membership;
use cluster_rpc::{HistoryClient, deadline, status};
use cluster_runtime::{
    CancellationToken, Overload, clock::SharedClock, task::Tasks, telemetry::Metrics,
};
use namespaces::Registry;
use prost::Message;
use proto_messages::{
    meridian::{
        history::v1::{
            QueryToken, RecordActivityTaskStartedRequest, RecordWorkflowTaskStartedRequest,
        },
        matching::v1::*,
    },
    temporal::api::{
        enums::v1::{TaskQueueKind, TaskQueueType},
        taskqueue::v1::{TaskQueue, TaskQueuePartitionMetadata},
        workflowservice::v1 as api,
    },
};
use proto_services::meridian::matching::v1::matching_service_server;
use schema_store::task_queue::{TaskQueueKey, TaskQueueStore};
use tokio::time::Instant;
use tonic::{Code, Request, Response, Status, async_trait};

use crate::{
    engine::Engine,
    matcher::Slot,
    metrics::MatchingMetrics,
    queue::{Assigned, Queue},
    task::{Origin, QueryTask, Waiting},
};

mod describe;

/// A poll waits this long at most.
const LONG_POLL: Duration = Duration::from_secs(59);
/// Time kept back from the caller's deadline for the way home.
const RETURN_BUDGET: Duration = Duration::from_secs(1);
/// Pause of a poll whose task could not be started for now.
const START_FAILED_PAUSE: Duration = Duration::from_millis(250);

const WORKFLOW: i32 = TaskQueueType::Workflow as i32;
const ACTIVITY: i32 = TaskQueueType::Activity as i32;

/// The dependencies of the service.
pub struct MatchingDeps {
    /// The durable backlog.
    pub store: Arc<dyn TaskQueueStore>,
    /// Where tasks are started.
    pub history: HistoryClient,
    /// The ownership of queues.
    pub membership: Membership,
    /// The clock.
    pub clock: SharedClock,
    /// Names of namespaces, for metrics.
    pub registry: Registry,
    /// Is told which queues are behind.
    pub overload: Overload,
    /// Metrics of the process.
    pub metrics: Metrics,
    /// Tasks of the process.
    pub tasks: Tasks,
}

/// The matching service. Stopping the task group given to it trims the backlog and unloads all queues.
pub struct MatchingService {
    engine: Arc<Engine>,
}

impl MatchingService {
    /// Starts the backlog writer and the task-queue sweeper, and returns the service.
    pub fn new(deps: MatchingDeps) -> Arc<Self> {
        Arc::new(Self {
            engine: Engine::start(
                deps.store,
                deps.history,
                deps.membership,
                deps.clock,
                deps.overload,
                deps.tasks,
                MatchingMetrics::new(&deps.metrics, deps.registry),
            ),
        })
    }

    async fn queue(
        &self,
        namespace_id: &str,
        queue: Option<&TaskQueue>,
        kind: i32,
    ) -> Result<Arc<Queue>, Status> {
        let queue = queue
            .filter(|q| !q.name.is_empty())
            .ok_or_else(|| status::invalid_argument("TaskQueue is not set on request."))?;
        let key = TaskQueueKey {
            namespace_id: namespace_id.into(),
            name: queue.name.clone(),
            kind,
        };
        let sticky = queue.kind == TaskQueueKind::Sticky as i32;
        let begins_as = match sticky {
            true => &queue.normal_name,
            false => &queue.name,
        };
        self.engine.queue(key, sticky, begins_as).await
    }

    async fn add(
        &self,
        request: Request<AddTaskRequest>,
        kind: i32,
    ) -> Result<Response<AddTaskResponse>, Status> {
        let request = request.into_inner();
        let queue = self
            .queue(&request.namespace_id, request.task_queue.as_ref(), kind)
            .await?;
        self.engine.add(&queue, request).await.map(Response::new)
    }
}

/// Takes a waiting poll out of its queue when the poll ends, however it ends.
struct Parked<'a> {
    queue: &'a Arc<Queue>,
    slot: Slot,
}

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        self.queue.leave(self.slot);
    }
}

/// A poller and its deadline.
struct Poll<'a> {
    queue: &'a Arc<Queue>,
    poller_id: &'a str,
    worker_key: &'a str,
    identity: &'a str,
    limit: Option<f64>,
    until: Instant,
    stopping: CancellationToken,
}

impl Poll<'_> {
    /// The next task, or `None` when the time is up, the poll was cancelled or the process stops: a
    /// waiting poll has nothing to lose, and must not hold up a stop for a minute.
    async fn next(&self) -> Option<Assigned> {
        let (slot, task) =
            self.queue
                .poll(self.poller_id, self.worker_key, self.identity, self.limit);
        let parked = Parked {
            queue: self.queue,
            slot,
        };
        let assigned = tokio::select! {
            biased;
            assigned = tokio::time::timeout_at(self.until, task) => assigned.ok()?.ok(),
            () = self.stopping.cancelled() => None,
        };
        drop(parked);
        assigned
    }

    /// Handles a task whose start was refused: obsolete ones are dropped, others go back.
    async fn refused(&self, assigned: Assigned, refusal: &Status) {
        let task_queue = &self.queue.key.name;
        match refusal.code() {
            Code::NotFound | Code::AlreadyExists | Code::InvalidArgument => {
                tracing::debug!(%task_queue, reason = refusal.message(), "task is obsolete");
                assigned.done();
            }
            code => {
                tracing::debug!(%task_queue, ?code, reason = refusal.message(), "task cannot be started now");
                assigned.failed(refusal.message());
                let pause = Instant::now() + START_FAILED_PAUSE;
                tokio::time::sleep_until(pause.min(self.until)).await;
            }
        }
    }
}

fn poll_until<T>(request: &Request<T>) -> Instant {
    let wait = match deadline::timeout_of(request.metadata()) {
        Some(timeout) => timeout.saturating_sub(RETURN_BUDGET).min(LONG_POLL),
        None => LONG_POLL,
    };
    Instant::now() + wait
}

/// Whether the start must be durable before the answer: nothing but the backlog row knew of the task.
fn from_backlog(task: &Waiting) -> bool {
    matches!(task.origin, Origin::Backlog(_))
}

fn new_request_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

#[async_trait]
impl matching_service_server::MatchingService for MatchingService {
    async fn add_workflow_task(
        &self,
        request: Request<AddTaskRequest>,
    ) -> Result<Response<AddTaskResponse>, Status> {
        self.add(request, WORKFLOW).await
    }

    async fn add_activity_task(
        &self,
        request: Request<AddTaskRequest>,
    ) -> Result<Response<AddTaskResponse>, Status> {
        self.add(request, ACTIVITY).await
    }

    async fn poll_workflow_task_queue(
        &self,
        request: Request<PollWorkflowTaskQueueRequest>,
    ) -> Result<Response<api::PollWorkflowTaskQueueResponse>, Status> {
        let until = poll_until(&request);
        let request = request.into_inner();
        let public = request.request.unwrap_or_default();
        let queue = self
            .queue(&request.namespace_id, public.task_queue.as_ref(), WORKFLOW)
            .await?;
        let poll = Poll {
            queue: &queue,
            poller_id: &request.poller_id,
            worker_key: &public.worker_instance_key,
            identity: &public.identity,
            limit: None,
            until,
            stopping: self.engine.stopping(),
        };
        while let Some(assigned) = poll.next().await {
            self.engine.read_backlog(&queue);
            let Some(task) = assigned.task() else {
                continue;
            };
            if task.is_query() {
                if let Some(query) = assigned.into_query() {
                    return Ok(Response::new(self.query_response(&queue, *query)));
                }
                continue;
            }
            let start = RecordWorkflowTaskStartedRequest {
                namespace_id: request.namespace_id.clone(),
                execution: task.request.execution.clone(),
                scheduled_event_id: task.request.scheduled_event_id,
                attempt: task.request.attempt,
                request_id: new_request_id(),
                durable: from_backlog(task),
                poll_request: Some(public.clone()),
            };
            match self
                .engine
                .history
                .record_workflow_task_started(start)
                .await
            {
                Ok(mut response) => {
                    self.engine.polled(&queue, task);
                    assigned.done();
                    response.backlog_count_hint = queue.backlog_count();
                    return Ok(Response::new(response));
                }
                Err(refusal) => poll.refused(assigned, &refusal).await,
            }
        }
        self.engine.metrics.empty(&queue);
        Ok(Response::new(Default::default()))
    }

    async fn poll_activity_task_queue(
        &self,
        request: Request<PollActivityTaskQueueRequest>,
    ) -> Result<Response<api::PollActivityTaskQueueResponse>, Status> {
        let until = poll_until(&request);
        let request = request.into_inner();
        let public = request.request.unwrap_or_default();
        let queue = self
            .queue(&request.namespace_id, public.task_queue.as_ref(), ACTIVITY)
            .await?;
        let limit = public
            .task_queue_metadata
            .as_ref()
            .and_then(|m| m.max_tasks_per_second);
        let poll = Poll {
            queue: &queue,
            poller_id: &request.poller_id,
            worker_key: &public.worker_instance_key,
            identity: &public.identity,
            limit,
            until,
            stopping: self.engine.stopping(),
        };
        while let Some(assigned) = poll.next().await {
            self.engine.read_backlog(&queue);
            let Some(task) = assigned.task() else {
                continue;
            };
            let start = RecordActivityTaskStartedRequest {
                namespace_id: request.namespace_id.clone(),
                execution: task.request.execution.clone(),
                scheduled_event_id: task.request.scheduled_event_id,
                attempt: task.request.attempt,
                request_id: new_request_id(),
                durable: from_backlog(task),
                poll_request: Some(public.clone()),
            };
            match self
                .engine
                .history
                .record_activity_task_started(start)
                .await
            {
                Ok(response) => {
                    self.engine.polled(&queue, task);
                    assigned.done();
                    return Ok(Response::new(response));
                }
                Err(refusal) => poll.refused(assigned, &refusal).await,
            }
        }
        self.engine.metrics.empty(&queue);
        Ok(Response::new(Default::default()))
    }

    async fn query_workflow(
        &self,
        request: Request<QueryWorkflowRequest>,
    ) -> Result<Response<QueryWorkflowResponse>, Status> {
        let until =
            deadline::timeout_of(request.metadata()).map_or(LONG_POLL, |t| t.min(LONG_POLL));
        let until = Instant::now() + until;
        let request = request.into_inner();
        let queue = self
            .queue(&request.namespace_id, request.task_queue.as_ref(), WORKFLOW)
            .await?;
        if queue.sticky && !queue.has_worker() {
            return Err(status::sticky_worker_unavailable());
        }
        let query = request.request.and_then(|r| r.query).unwrap_or_default();
        let id = new_request_id();
        let (_expected, answer) = self.engine.expect_answer(&id);
        let task = QueryTask {
            id,
            query,
            task: request.task.unwrap_or_default(),
        };
        let slot = queue.offer_query(Waiting::new(
            AddTaskRequest::default(),
            Origin::Query(Box::new(task)),
        ));
        let answered = tokio::time::timeout_at(until, answer).await;
        queue.withdraw(slot);
        match answered {
            Ok(Ok(answer)) => Ok(Response::new(QueryWorkflowResponse {
                answer: Some(answer),
            })),
            Ok(Err(_)) => Err(status::unavailable("the task queue was unloaded")),
            Err(_) => Err(Status::deadline_exceeded(
                "query timed out before a worker could process it",
            )),
        }
    }

    async fn respond_query_task_completed(
        &self,
        request: Request<RespondQueryTaskCompletedRequest>,
    ) -> Result<Response<Empty>, Status> {
        let request = request.into_inner();
        let answer = request.request.unwrap_or_default();
        if self.engine.deliver_answer(&request.task_id, answer) {
            Ok(Response::new(Empty {}))
        } else {
            Err(status::not_found(
                "query task not found, or already expired",
            ))
        }
    }

    async fn cancel_outstanding_poll(
        &self,
        request: Request<CancelOutstandingPollRequest>,
    ) -> Result<Response<Empty>, Status> {
        let request = request.into_inner();
        let key = TaskQueueKey {
            namespace_id: request.namespace_id.into(),
            name: request.task_queue.unwrap_or_default().name,
            kind: request.task_queue_type.max(WORKFLOW),
        };
        if let Some(queue) = self.engine.loaded(&key) {
            queue.cancel(|p| p.poller_id == request.poller_id);
        }
        Ok(Response::new(Empty {}))
    }

    async fn describe_task_queue(
        &self,
        request: Request<DescribeTaskQueueRequest>,
    ) -> Result<Response<api::DescribeTaskQueueResponse>, Status> {
        let request = request.into_inner();
        let public = request.request.unwrap_or_default();
        self.describe(&request.namespace_id, public)
            .await
            .map(Response::new)
    }

    async fn list_task_queue_partitions(
        &self,
        request: Request<ListTaskQueuePartitionsRequest>,
    ) -> Result<Response<api::ListTaskQueuePartitionsResponse>, Status> {
        let public = request.into_inner().request.unwrap_or_default();
        let partition = TaskQueuePartitionMetadata {
            key: public.task_queue.unwrap_or_default().name,
            owner_host_name: self.engine.address(),
        };
        Ok(Response::new(api::ListTaskQueuePartitionsResponse {
            activity_task_queue_partitions: vec![partition.clone()],
            workflow_task_queue_partitions: vec![partition],
        }))
    }

    async fn shutdown_worker(
        &self,
        request: Request<ShutdownWorkerRequest>,
    ) -> Result<Response<Empty>, Status> {
        let request = request.into_inner();
        let public = request.request.unwrap_or_default();
        for queue in self.engine.all() {
            if queue.key.namespace_id.as_str() != request.namespace_id {
                continue;
            }
            if !public.sticky_task_queue.is_empty() && queue.key.name == public.sticky_task_queue {
                queue.cancel(|_| true);
                queue.forget_pollers();
            } else if !public.worker_instance_key.is_empty() {
                queue.cancel(|p| p.worker_key == public.worker_instance_key);
            }
        }
        Ok(Response::new(Empty {}))
    }
}

impl MatchingService {
    /// The answer to a poll that carries a query: the execution and its history, the query, and where to answer.
    fn query_response(
        &self,
        queue: &Queue,
        query: QueryTask,
    ) -> api::PollWorkflowTaskQueueResponse {
        let token = QueryToken {
            namespace_id: queue.key.namespace_id.to_string(),
            task_queue: queue.key.name.clone(),
            task_id: query.id,
            owner: self.engine.address(),
        };
        api::PollWorkflowTaskQueueResponse {
            task_token: token.encode_to_vec().into(),
            query: Some(query.query),
            ..query.task
        }
    }
}

#[cfg(test)]
mod tests;
