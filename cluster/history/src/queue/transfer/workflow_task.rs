//! Hands a scheduled workflow task to matching: to the worker that has the run in its cache, if there is
//! one and it lives.

use proto_messages::{
    meridian::matching::v1::AddTaskRequest,
    temporal::api::common::v1::Priority,
    time::{duration_to_proto, to_proto},
};
use tonic::{Code, Status};

use cluster_core::{MutableState, TaskKind, mutable_state::WorkflowTask};
use cluster_rpc::status;
use cluster_shard::{Outcome, QueuedTask, Shard};

use crate::{
    poll,
    queue::{
        ExecutorDeps,
        outcome::{after_call, after_read},
    },
};

/// The request to matching.
struct Wanted {
    request: AddTaskRequest,
    /// The queue to fall back to when the sticky one is not served.
    normal: String,
    sticky: bool,
}

/// Dispatches the task.
pub async fn dispatch(deps: &ExecutorDeps, shard: &Shard, task: &QueuedTask) -> Outcome {
    let look = |ms: &MutableState| wanted(ms, &task.task.kind);
    let wanted = match shard.read(&task.run, look).await {
        Ok(Some(wanted)) => wanted,
        Ok(None) => return Outcome::Done,
        Err(error) => return after_read(error),
    };
    let mut request = wanted.request;
    if wanted.sticky {
        match deps.matching.add_workflow_task(request.clone()).await {
            Ok(_) => return Outcome::Done,
            Err(refused) if status::is_sticky_worker_unavailable(&refused) => {}
            Err(status) => return ended(&status, task),
        }
        request.task_queue = Some(poll::normal_queue(&wanted.normal));
        request.schedule_to_start_timeout = None;
    }
    match deps.matching.add_workflow_task(request).await {
        Ok(_) => Outcome::Done,
        Err(status) => ended(&status, task),
    }
}

fn wanted(ms: &MutableState, kind: &TaskKind) -> Option<Wanted> {
    let task = ms
        .execution_info
        .workflow_task
        .as_ref()
        .filter(|_| ms.is_pending(kind) && !ms.execution_info.zombie)?;
    let sticky = ms.execution_info.sticky.as_ref().filter(|_| task.sticky);
    let normal = ms.start.task_queue.clone();
    let queue = match sticky {
        Some(sticky) => poll::sticky_queue(&sticky.task_queue, &normal),
        None => poll::normal_queue(&normal),
    };
    let timeout = sticky
        .map(|s| s.schedule_to_start_timeout)
        .filter(|t| !t.is_zero());
    let request = AddTaskRequest {
        task_queue: Some(queue),
        schedule_to_start_timeout: timeout.map(duration_to_proto),
        ..request(ms, task, ms.start.priority.clone())
    };
    Some(Wanted {
        request,
        normal,
        sticky: sticky.is_some(),
    })
}

fn request(ms: &MutableState, task: &WorkflowTask, priority: Option<Priority>) -> AddTaskRequest {
    AddTaskRequest {
        namespace_id: ms.key.namespace_id.as_str().to_owned(),
        execution: Some(poll::execution(&ms.key)),
        scheduled_event_id: task.scheduled_event_id.get(),
        attempt: task.attempt,
        created_time: Some(to_proto(task.scheduled_time)),
        priority,
        ..Default::default()
    }
}

/// NOT_FOUND says that the task became obsolete on its way.
fn ended(status: &Status, task: &QueuedTask) -> Outcome {
    match status.code() {
        Code::NotFound => Outcome::Done,
        _ => after_call(status, &task.run),
    }
}
