//! Activity tasks: each is answered with success at once.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use proto_messages::temporal::api::{
    taskqueue::v1::TaskQueue,
    workflowservice::v1::{
        PollActivityTaskQueueRequest, PollActivityTaskQueueResponse,
        RespondActivityTaskCompletedRequest,
    },
};

use super::{Context, POLL_TIMEOUT, WorkerEvent, pause_after};
use crate::{client::CALL_TIMEOUT, connect::timed, script::payloads};

/// Polls and answers until dropped.
pub(super) async fn poll_forever(context: Arc<Context>) {
    loop {
        let request = PollActivityTaskQueueRequest {
            namespace: context.options.namespace.clone(),
            task_queue: Some(TaskQueue {
                name: context.options.queue.clone(),
                ..Default::default()
            }),
            identity: context.options.identity.clone(),
            ..Default::default()
        };
        let polled = context
            .connections
            .api()
            .poll_activity_task_queue(timed(request, POLL_TIMEOUT))
            .await;
        match polled {
            Ok(task) => {
                let task = task.into_inner();
                if !task.task_token.is_empty() {
                    answer(&context, task).await;
                }
            }
            Err(status) => {
                context.observer.observe(WorkerEvent::PollFailed(&status));
                tokio::time::sleep(pause_after(&status)).await;
            }
        }
    }
}

/// Completes one activity.
pub(super) async fn answer(context: &Context, task: PollActivityTaskQueueResponse) {
    let execution = task.workflow_execution.unwrap_or_default();
    let request = RespondActivityTaskCompletedRequest {
        task_token: task.task_token,
        result: Some(payloads(Bytes::from_static(b"\"done\""))),
        identity: context.options.identity.clone(),
        namespace: context.options.namespace.clone(),
        ..Default::default()
    };
    let begun = Instant::now();
    let outcome = context
        .connections
        .api()
        .respond_activity_task_completed(timed(request, CALL_TIMEOUT))
        .await;
    context.observer.observe(WorkerEvent::ActivityAnswered {
        workflow_id: &execution.workflow_id,
        run_id: &execution.run_id,
        activity_id: &task.activity_id,
        took: begun.elapsed(),
        outcome: outcome.as_ref().map(|_| ()),
    });
}
