//! What runs on different shards tell one another about children.

use proto_ids::{EventId, RunId, RunKey};
use proto_messages::meridian::history::v1::{
    Empty, RecordChildExecutionCompletedRequest, ScheduleFirstWorkflowTaskRequest,
};
use tonic::Status;

use cluster_core::{Refusal, Request, Workflow};
use cluster_shard::{ReadError, Shard, UpdateError};

use crate::{
    api, change,
    engine::Engine,
    fault::{self, Fault},
};

/// Resets in a row that are followed.
const RESETS_MAX: usize = 100;

/// A child of one of our runs closed. A parent that was reset since goes on as another run: the news goes
/// there, when that run still has this very child.
pub async fn record_completed(
    engine: &Engine,
    request: RecordChildExecutionCompletedRequest,
) -> Result<Empty, Status> {
    let mut key = api::run_key(&request.namespace_id, request.parent_execution.as_ref())?;
    let child = api::required(request.child_execution)?;
    let event = Box::new(api::required(request.completion_event)?);
    let initiated = EventId::new(request.parent_initiated_event_id);
    let shard = engine.shard_of(&key).await?;
    for _ in 0..RESETS_MAX {
        let ask = Request::ChildClosed {
            initiated_event_id: initiated,
            child: child.clone(),
            event: event.clone(),
        };
        match change::ask(&shard, &key, ask).await {
            Ok(_) => return Ok(Empty {}),
            Err(UpdateError::Refused(Refusal::Closed(status))) => {
                let Some(next) = taken_over_by(&shard, &key, initiated).await? else {
                    let closed = UpdateError::Refused(Refusal::Closed(status));
                    return Err(fault::status(closed.into(), &key));
                };
                key.run_id = next;
            }
            Err(error) => return Err(fault::status(error.into(), &key)),
        }
    }
    Err(fault::status(Fault::NoRun, &key))
}

/// The run that took the child over from a run that was reset.
async fn taken_over_by(
    shard: &Shard,
    key: &RunKey,
    initiated: EventId,
) -> Result<Option<RunId>, Status> {
    let child_of = |wf: &Workflow| wf.children.get(&initiated).map(|c| c.run_id.clone());
    let look = |wf: &Workflow| (wf.hot.reset_run_id.clone(), child_of(wf));
    let (next, child) = shard
        .read(key, look)
        .await
        .map_err(|e| fault::status(e.into(), key))?;
    if next.is_empty() || child.is_none() {
        return Ok(None);
    }
    let next = RunKey {
        run_id: next,
        ..key.clone()
    };
    match shard.read(&next, child_of).await {
        Ok(found) if found == child => Ok(Some(next.run_id)),
        Ok(_) | Err(ReadError::NotFound) => Ok(None),
        Err(error) => Err(fault::status(error.into(), key)),
    }
}

/// The parent has recorded the start of this run: its first workflow task may go.
pub async fn schedule_first_workflow_task(
    engine: &Engine,
    request: ScheduleFirstWorkflowTaskRequest,
) -> Result<Empty, Status> {
    let key = api::run_key(&request.namespace_id, request.execution.as_ref())?;
    engine.ask(&key, Request::ScheduleFirstWorkflowTask).await?;
    Ok(Empty {})
}
