//! DeleteWorkflowExecution: an open run is terminated; what is left of it is removed by a queue task,
//! after its end was told to its parent.

use proto_messages::meridian::history::v1::{DeleteWorkflowExecutionRequest, Empty};
use tonic::Status;

use cluster_core::{Durability, Outcome, Task, TaskKind};

use crate::{api, change, engine::Engine};

/// Serves the call.
pub async fn delete(
    engine: &Engine,
    request: DeleteWorkflowExecutionRequest,
) -> Result<Empty, Status> {
    let key = api::run_key(&request.namespace_id, request.execution.as_ref())?;
    let shard = engine.shard_of(&key).await?;
    let decided = engine.update(&shard, &key, |wf, given| {
        let mut outcome = if wf.is_running() && !wf.hot.zombie {
            wf.handle(
                change::terminate("Delete workflow execution".to_owned()),
                given,
            )?
        } else {
            Outcome {
                durability: Durability::Durable,
                ..Outcome::default()
            }
        };
        let version = wf.last_version();
        outcome.tasks.push(Task {
            version,
            fire_at: None,
            kind: TaskKind::DeleteExecution,
        });
        Ok((outcome, ()))
    });
    decided.await?;
    Ok(Empty {})
}
