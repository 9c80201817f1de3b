//! Removes a run: when a client asked for it, and when retention has passed.

use proto_ids::RunKey;

use cluster_core::{Task, TaskKind};
use cluster_shard::{ExecutionMode, Outcome, QueuedTask, Shard, ShardError, Txn, TxnError};

use super::close;
use crate::queue::{
    ExecutorDeps,
    outcome::{LATER, SOON, after_read},
};

/// The reason of a deletion.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// A client: other clusters delete their copies too.
    Asked,
    /// Time: each cluster decides for its own copy.
    Retention,
}

/// A client asked for it. The run's end is told to its parent and children first.
pub async fn requested(
    deps: &ExecutorDeps,
    shard: &Shard,
    task: &QueuedTask,
    mode: ExecutionMode,
) -> Outcome {
    if mode == ExecutionMode::Active {
        match close::close(deps, shard, &task.run).await {
            Outcome::Done => {}
            outcome => return outcome,
        }
    }
    remove(shard, &task.run, Cause::Asked).await
}

/// Its retention has passed.
pub async fn expired(shard: &Shard, task: &QueuedTask) -> Outcome {
    remove(shard, &task.run, Cause::Retention).await
}

async fn remove(shard: &Shard, run: &RunKey, cause: Cause) -> Outcome {
    match shard
        .read(run, |ms| ms.is_running() && !ms.execution_info.zombie)
        .await
    {
        // It was replicated back to life; only its end may remove it.
        Ok(true) if cause == Cause::Retention => return Outcome::Done,
        Ok(true) => return Outcome::Retry(LATER),
        Ok(false) => {}
        Err(error) => return after_read(error),
    }
    if cause == Cause::Asked {
        let apply_to_run = async |txn: &mut Txn| tell_others(txn, run).await;
        match shard
            .replicate(&run.namespace_id, &run.workflow_id, apply_to_run)
            .await
        {
            Ok(()) | Err(TxnError::NamespaceNotFound(_)) => {}
            Err(_) => return Outcome::Retry(SOON),
        }
    }
    match shard.delete_run(run).await {
        Ok(()) => Outcome::Done,
        Err(error) => {
            tracing::debug!(
                namespace = %run.namespace_id, workflow_id = %run.workflow_id,
                run_id = %run.run_id, %error, "a run cannot be removed now"
            );
            Outcome::Retry(SOON)
        }
    }
}

async fn tell_others(txn: &mut Txn, run: &RunKey) -> Result<(), ShardError> {
    if !txn.namespace().is_replicated() {
        return Ok(());
    }
    let Some(ms) = txn.peek(&run.run_id).await? else {
        return Ok(());
    };
    let version = ms.last_version();
    let task = Task {
        version,
        fire_at: None,
        kind: TaskKind::ReplicateDelete,
    };
    txn.add_tasks(&run.run_id, vec![task])
}
