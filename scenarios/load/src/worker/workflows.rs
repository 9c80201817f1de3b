//! Workflow tasks: bring the run's counters up to date with the history that came along, decide,
//! answer, and go on with the next task of the run when the answer brings one.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use parking_lot::Mutex;
use proto_messages::{
    temporal::api::{
        common::v1::WorkflowExecution,
        enums::v1::{CommandType, QueryResultType, TaskQueueKind},
        history::v1::HistoryEvent,
        query::v1::WorkflowQueryResult,
        taskqueue::v1::{StickyExecutionAttributes, TaskQueue},
        workflowservice::v1::{
            GetWorkflowExecutionHistoryRequest, PollWorkflowTaskQueueRequest,
            PollWorkflowTaskQueueResponse, RespondQueryTaskCompletedRequest,
            RespondWorkflowTaskCompletedRequest, RespondWorkflowTaskCompletedResponse,
        },
    },
    time::duration_to_proto,
};
use tonic::Status;

use super::{Context, POLL_TIMEOUT, WorkerEvent, activities, pause_after};
use crate::{
    client::CALL_TIMEOUT,
    connect::timed,
    script::{Progress, payloads},
};

/// Counters of the runs this worker holds for the sticky queue, by run id, with the started event of
/// the last task answered. Runs that end or fail leave it.
#[derive(Default)]
pub(super) struct Runs {
    held: Mutex<HashMap<String, Held>>,
}

struct Held {
    progress: Progress,
    answered_started_event: i64,
}

/// More runs than this are not held; the rest get full histories when their turn comes.
const RUNS_HELD_MAX: usize = 50_000;

/// Polls and answers until dropped.
pub(super) async fn poll_forever(context: Arc<Context>, sticky: bool) {
    let queue = if sticky {
        TaskQueue {
            name: context.sticky_queue.clone(),
            kind: TaskQueueKind::Sticky as i32,
            normal_name: context.options.queue.clone(),
        }
    } else {
        TaskQueue {
            name: context.options.queue.clone(),
            kind: TaskQueueKind::Normal as i32,
            ..Default::default()
        }
    };
    loop {
        let request = PollWorkflowTaskQueueRequest {
            namespace: context.options.namespace.clone(),
            task_queue: Some(queue.clone()),
            identity: context.options.identity.clone(),
            ..Default::default()
        };
        let polled = context
            .connections
            .api()
            .poll_workflow_task_queue(timed(request, POLL_TIMEOUT))
            .await;
        match polled {
            Ok(task) => {
                let task = task.into_inner();
                if task.task_token.is_empty() {
                    continue;
                }
                if let Err(status) = answer_all(&context, task).await {
                    tracing::debug!(%status, "a workflow task was not answered");
                }
            }
            Err(status) => {
                context.observer.observe(WorkerEvent::PollFailed(&status));
                tokio::time::sleep(pause_after(&status)).await;
            }
        }
    }
}

/// Answers a task and those that come back with its answer.
async fn answer_all(context: &Context, task: PollWorkflowTaskQueueResponse) -> Result<(), Status> {
    let mut next = Some(task);
    while let Some(task) = next.take() {
        if task.query.is_some() {
            return answer_query(context, task).await;
        }
        let answered = answer(context, task).await?;
        for activity in answered.activity_tasks {
            activities::answer(context, activity).await;
        }
        next = answered.workflow_task.filter(|t| !t.task_token.is_empty());
    }
    Ok(())
}

async fn answer(
    context: &Context,
    mut task: PollWorkflowTaskQueueResponse,
) -> Result<RespondWorkflowTaskCompletedResponse, Status> {
    let execution = task.workflow_execution.take().unwrap_or_default();
    if task.previous_started_event_id == 0 {
        context.observer.observe(WorkerEvent::FirstTask {
            workflow_id: &execution.workflow_id,
        });
    }
    let progress = progress_of(context, &mut task, &execution).await?;
    let commands = progress.decide();
    let closing = commands
        .last()
        .is_some_and(|c| c.command_type() == CommandType::CompleteWorkflowExecution);
    let request = RespondWorkflowTaskCompletedRequest {
        task_token: task.task_token,
        commands,
        identity: context.options.identity.clone(),
        sticky_attributes: context
            .options
            .sticky
            .map(|wait| StickyExecutionAttributes {
                worker_task_queue: Some(TaskQueue {
                    name: context.sticky_queue.clone(),
                    kind: TaskQueueKind::Sticky as i32,
                    normal_name: context.options.queue.clone(),
                }),
                schedule_to_start_timeout: Some(duration_to_proto(wait)),
            }),
        return_new_workflow_task: true,
        namespace: context.options.namespace.clone(),
        query_results: task
            .queries
            .into_keys()
            .map(|id| (id, query_result()))
            .collect(),
        ..Default::default()
    };
    if context.options.sticky.is_some() && !closing {
        // Before the answer: the next task may reach another loop before this call returns.
        context.hold(&execution.run_id, progress, task.started_event_id);
    }
    let begun = Instant::now();
    let outcome = context
        .connections
        .api()
        .respond_workflow_task_completed(timed(request, CALL_TIMEOUT))
        .await;
    if outcome.is_err() {
        context.runs.held.lock().remove(&execution.run_id);
    }
    context.observer.observe(WorkerEvent::WorkflowTaskAnswered {
        workflow_id: &execution.workflow_id,
        run_id: &execution.run_id,
        started_event_id: task.started_event_id,
        closing,
        took: begun.elapsed(),
        outcome: outcome.as_ref().map(|_| ()),
    });
    Ok(outcome?.into_inner())
}

/// The run's counters with this task's history taken in: continued from what is held when the history
/// is the part since then, else built from the first event on.
async fn progress_of(
    context: &Context,
    task: &mut PollWorkflowTaskQueueResponse,
    execution: &WorkflowExecution,
) -> Result<Progress, Status> {
    let events = task.history.take().unwrap_or_default().events;
    let held = context.runs.held.lock().remove(&execution.run_id);
    let first = events.first().map_or(0, |e| e.event_id);
    let continued =
        held.filter(|h| first != 1 && h.answered_started_event == task.previous_started_event_id);
    let mut progress = match (continued, first) {
        (Some(held), _) => held.progress,
        (None, 1) => Progress::default(),
        (None, _) => {
            let mut progress = Progress::default();
            take_pages(context, execution, Bytes::new(), &mut progress).await?;
            return Ok(progress);
        }
    };
    take(context, &mut progress, &events);
    if !task.next_page_token.is_empty() {
        let token = task.next_page_token.clone();
        take_pages(context, execution, token, &mut progress).await?;
    }
    Ok(progress)
}

async fn take_pages(
    context: &Context,
    execution: &WorkflowExecution,
    mut token: Bytes,
    progress: &mut Progress,
) -> Result<(), Status> {
    loop {
        let request = GetWorkflowExecutionHistoryRequest {
            namespace: context.options.namespace.clone(),
            execution: Some(execution.clone()),
            next_page_token: token,
            ..Default::default()
        };
        let page = context
            .connections
            .api()
            .get_workflow_execution_history(timed(request, CALL_TIMEOUT))
            .await?
            .into_inner();
        take(context, progress, &page.history.unwrap_or_default().events);
        token = page.next_page_token;
        if token.is_empty() {
            return Ok(());
        }
    }
}

fn take(context: &Context, progress: &mut Progress, events: &[HistoryEvent]) {
    for event in events {
        if event.event_id <= progress.last_event() {
            continue;
        }
        if let Some(fired) = progress.take(event) {
            context.observer.observe(WorkerEvent::TimerFired(fired));
        }
    }
}

/// Now, in nanoseconds since the epoch, for comparing with event times.
pub(crate) fn wall_nanos() -> i128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_nanos() as i128)
}

/// Answers a query that came as a task of its own. Scripts have nothing to tell but that they live.
async fn answer_query(
    context: &Context,
    task: PollWorkflowTaskQueueResponse,
) -> Result<(), Status> {
    let result = query_result();
    let request = RespondQueryTaskCompletedRequest {
        task_token: task.task_token,
        completed_type: result.result_type,
        query_result: result.answer,
        namespace: context.options.namespace.clone(),
        ..Default::default()
    };
    context
        .connections
        .api()
        .respond_query_task_completed(timed(request, CALL_TIMEOUT))
        .await?;
    Ok(())
}

fn query_result() -> WorkflowQueryResult {
    WorkflowQueryResult {
        result_type: QueryResultType::Answered as i32,
        answer: Some(payloads(Bytes::from_static(b"\"alive\""))),
        ..Default::default()
    }
}

impl Context {
    fn hold(&self, run_id: &str, progress: Progress, answered_started_event: i64) {
        let mut held = self.runs.held.lock();
        if held.len() < RUNS_HELD_MAX {
            held.insert(
                run_id.to_owned(),
                Held {
                    progress,
                    answered_started_event,
                },
            );
        }
    }
}
