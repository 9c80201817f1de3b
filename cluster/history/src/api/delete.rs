//! DeleteWorkflowExecution: an open run is terminated; what is left of it is removed by a queue task,
//! after its end was told to its parent. Operators may also remove this cluster's copy alone.

use proto_ids::RunKey;
use proto_messages::meridian::history::v1::{DeleteWorkflowExecutionRequest, Empty};
use tonic::Status;

use cluster_core::{Durability, Task, TaskKind, Transition};
use cluster_shard::Shard;

use crate::{api, change, engine::Engine, error};

/// Serves the call.
pub async fn delete(
    engine: &Engine,
    request: DeleteWorkflowExecutionRequest,
) -> Result<Empty, Status> {
    let key = api::run_key(&request.namespace_id, request.execution.as_ref())?;
    let shard = engine.shard_of(&key).await?;
    if request.local_copy_only {
        return delete_copy(&shard, key).await;
    }
    let decided = engine.update(&shard, &key, |ms, ctx| {
        let mut transition = if ms.is_running() && !ms.execution_info.zombie {
            ms.handle(
                change::terminate("Delete workflow execution".to_owned()),
                ctx,
            )?
        } else {
            Transition {
                durability: Durability::Durable,
                ..Transition::default()
            }
        };
        let version = ms.last_version();
        transition.tasks.push(Task {
            version,
            fire_at: None,
            kind: TaskKind::DeleteExecution,
        });
        Ok((transition, ()))
    });
    decided.await?;
    Ok(Empty {})
}

/// Removes what is here of a run, whatever it is doing and wherever its namespace is active.
async fn delete_copy(shard: &Shard, key: RunKey) -> Result<Empty, Status> {
    let found = shard.read(&key, |ms| ms.key.clone()).await;
    let run = found.map_err(|e| error::status(e.into(), &key))?;
    let deleted = shard.delete_run(&run).await;
    deleted.map_err(|e| error::status(e.into(), &run))?;
    tracing::warn!(
        namespace = %run.namespace_id, workflow_id = %run.workflow_id, run_id = %run.run_id,
        "an operator removed this cluster's copy of a run"
    );
    Ok(Empty {})
}
