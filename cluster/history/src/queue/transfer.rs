//! Transfer tasks: what has to reach matching or another run at once.

mod activity;
mod cancel_external;
mod close;
pub mod delete;
mod signal_external;
mod start_child;
mod workflow_task;

pub use close::Closed;

use std::sync::Arc;

use async_trait::async_trait;
use proto_ids::{EventId, NamespaceId};
use proto_messages::temporal::api::history::v1::HistoryEvent;

use cluster_core::{TaskKind, version::BranchToken};
use cluster_shard::{ExecutionMode, Executor, Outcome, QueuedTask, Shard};

use super::{
    ExecutorDeps,
    outcome::{LATER, after_call},
    standby::{verify, verify_child, verify_close},
};
use crate::events;

/// Executes transfer tasks.
pub struct Transfer(pub Arc<ExecutorDeps>);

#[async_trait]
impl Executor for Transfer {
    async fn execute(&self, shard: &Shard, task: &QueuedTask, mode: ExecutionMode) -> Outcome {
        match (&task.task.kind, mode) {
            (TaskKind::DeleteExecution, _) => delete::requested(&self.0, shard, task, mode).await,
            (TaskKind::Close, ExecutionMode::Standby) => {
                match close::look(shard, &task.run).await {
                    Ok(Some(closed)) => verify_close(&self.0.history, &closed).await,
                    Ok(None) => Outcome::Done,
                    Err(outcome) => outcome,
                }
            }
            (TaskKind::StartChild { initiated_event_id }, ExecutionMode::Standby) => {
                verify_child(&self.0.history, shard, task, *initiated_event_id).await
            }
            (_, ExecutionMode::Standby) => verify(shard, task).await,
            (_, ExecutionMode::Active) => self.act(shard, task).await,
        }
    }
}

impl Transfer {
    async fn act(&self, shard: &Shard, task: &QueuedTask) -> Outcome {
        let deps = &*self.0;
        match task.task.kind {
            TaskKind::WorkflowTask { .. } => workflow_task::dispatch(deps, shard, task).await,
            TaskKind::Activity {
                scheduled_event_id, ..
            } => activity::dispatch(deps, shard, task, scheduled_event_id).await,
            TaskKind::StartChild { initiated_event_id } => {
                start_child::start(deps, shard, task, initiated_event_id).await
            }
            TaskKind::SignalExternal { initiated_event_id } => {
                signal_external::signal(deps, shard, task, initiated_event_id).await
            }
            TaskKind::CancelExternal { initiated_event_id } => {
                cancel_external::cancel(deps, shard, task, initiated_event_id).await
            }
            TaskKind::Close => close::close(deps, shard, &task.run).await,
            ref kind => Outcome::PermanentFailure(format!("not a transfer task: {kind:?}")),
        }
    }
}

/// Reads the event a task is about, which holds what state does not keep.
async fn initiated(
    shard: &Shard,
    task: &QueuedTask,
    branch: &BranchToken,
    batch_first: EventId,
    id: EventId,
) -> Result<HistoryEvent, Outcome> {
    let event = events::one(shard, &task.run, branch, batch_first, id).await;
    event.map_err(|status| after_call(&status, &task.run))
}

/// The name of a namespace; `None` when there is none with this id.
async fn namespace_name(deps: &ExecutorDeps, id: &str) -> Result<Option<String>, Outcome> {
    match deps.registry.resolve_id(&NamespaceId::new(id)).await {
        Ok(found) => Ok(found.map(|n| n.name.as_str().to_owned())),
        Err(error) => {
            tracing::debug!(namespace = id, %error, "a namespace cannot be looked up now");
            Err(Outcome::Retry(LATER))
        }
    }
}
