//! Hands a scheduled activity to matching.

use proto_ids::EventId;
use proto_messages::{
    meridian::matching::v1::AddTaskRequest,
    time::{duration_to_proto, to_proto},
};
use tonic::Code;

use cluster_core::MutableState;
use cluster_shard::{Outcome, QueuedTask, Shard};

use crate::{
    poll,
    queue::{
        ExecutorDeps,
        outcome::{after_call, after_read},
    },
};

/// Dispatches the task.
pub async fn dispatch(
    deps: &ExecutorDeps,
    shard: &Shard,
    task: &QueuedTask,
    scheduled: EventId,
) -> Outcome {
    let look = |ms: &MutableState| {
        (ms.is_pending(&task.task.kind) && !ms.execution_info.zombie)
            .then(|| request(ms, scheduled))
            .flatten()
    };
    let request = match shard.read(&task.run, look).await {
        Ok(Some(request)) => request,
        Ok(None) => return Outcome::Done,
        Err(error) => return after_read(error),
    };
    match deps.matching.add_activity_task(request).await {
        Ok(_) => Outcome::Done,
        Err(status) if status.code() == Code::NotFound => Outcome::Done,
        Err(status) => after_call(&status, &task.run),
    }
}

fn request(ms: &MutableState, scheduled: EventId) -> Option<AddTaskRequest> {
    let activity = ms.activities.get(&scheduled)?;
    let timeout = activity.schedule_to_start_timeout;
    Some(AddTaskRequest {
        namespace_id: ms.key.namespace_id.as_str().to_owned(),
        execution: Some(poll::execution(&ms.key)),
        task_queue: Some(poll::normal_queue(&activity.task_queue)),
        scheduled_event_id: scheduled.get(),
        attempt: activity.attempt,
        schedule_to_start_timeout: (!timeout.is_zero()).then(|| duration_to_proto(timeout)),
        created_time: Some(to_proto(activity.attempt_scheduled_time)),
        priority: poll::priority(ms.start.priority.as_ref(), activity.priority.as_ref()),
    })
}
