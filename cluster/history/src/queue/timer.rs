//! Timer tasks: what is due is told to the run, which checks again whether it still applies.

use async_trait::async_trait;

use cluster_core::{Request, TaskKind, request::Fire};
use cluster_shard::{ExecutionMode, Executor, Outcome, QueuedTask, Shard};

use super::{outcome::apply_to_run, standby::verify, transfer::delete};

/// Executes timer tasks.
pub struct Timer;

#[async_trait]
impl Executor for Timer {
    async fn execute(&self, shard: &Shard, task: &QueuedTask, mode: ExecutionMode) -> Outcome {
        // Each cluster keeps closed runs as long as it was told and deletes its own copy.
        if task.task.kind == TaskKind::Retention {
            return delete::expired(shard, task).await;
        }
        let Some(fire) = fire(&task.task.kind) else {
            return Outcome::PermanentFailure(format!("not a timer task: {:?}", task.task.kind));
        };
        match mode {
            ExecutionMode::Active => apply_to_run(shard, &task.run, Request::Fire(fire)).await,
            ExecutionMode::Standby => verify(shard, task).await,
        }
    }
}

fn fire(kind: &TaskKind) -> Option<Fire> {
    Some(match *kind {
        TaskKind::UserTimer { .. } => Fire::UserTimers,
        TaskKind::ActivityTimeout { .. } => Fire::ActivityTimeouts,
        TaskKind::ActivityRetry {
            scheduled_event_id,
            attempt,
        } => Fire::ActivityRetry {
            scheduled_event_id,
            attempt,
        },
        TaskKind::WorkflowTaskTimeout {
            scheduled_event_id,
            attempt,
            timeout,
        } => Fire::WorkflowTaskTimeout {
            scheduled_event_id,
            attempt,
            timeout,
        },
        TaskKind::WorkflowBackoff => Fire::WorkflowBackoff,
        TaskKind::RunTimeout => Fire::RunTimeout,
        TaskKind::ExecutionTimeout => Fire::ExecutionTimeout,
        _ => return None,
    })
}
