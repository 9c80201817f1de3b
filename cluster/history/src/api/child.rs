//! Calls between runs on different shards about children.

use proto_ids::{EventId, RunId, RunKey};
use proto_messages::{
    meridian::history::v1::{
        Empty, RecordChildExecutionCompletedRequest, ScheduleFirstWorkflowTaskRequest,
    },
    temporal::api::common::v1::WorkflowExecution,
};
use tonic::Status;

use cluster_core::{MutableState, Refusal, Request};
use cluster_shard::{ReadError, Shard, UpdateError};

use crate::{
    api, change,
    engine::Engine,
    error::{self, HistoryError},
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
        let core_request = Request::ChildClosed {
            initiated_event_id: initiated,
            child: child.clone(),
            event: event.clone(),
        };
        match change::apply_request(&shard, &key, core_request).await {
            Ok(_) => return Ok(Empty {}),
            Err(error @ (UpdateError::Refused(Refusal::Closed(_)) | UpdateError::NotFound)) => {
                let Some(next) = taken_over_by(&shard, &key, initiated, &child).await? else {
                    return Err(error::status(error.into(), &key));
                };
                key.run_id = next;
            }
            Err(error) => return Err(error::status(error.into(), &key)),
        }
    }
    Err(error::status(HistoryError::NoRun, &key))
}

/// The run that took the child over from a run that was reset: the one the reset named, else the current run
/// of the parent's workflow id. Either has to be made of the same history and to have this very child, which
/// its own state tells; so the child finds its parent in a cluster that did not make the reset, and after
/// retention took the run that was reset.
async fn taken_over_by(
    shard: &Shard,
    key: &RunKey,
    initiated: EventId,
    child: &WorkflowExecution,
) -> Result<Option<RunId>, Status> {
    let look = |ms: &MutableState| {
        let child = ms.children.get(&initiated).cloned();
        (
            ms.start.original_run_id.clone(),
            child,
            ms.execution_info.reset_run_id.clone(),
        )
    };
    let found = match shard.read(key, look).await {
        Ok((_, None, _)) => return Ok(None),
        Ok(found) => Some(found),
        Err(ReadError::NotFound) => None,
        Err(error) => return Err(error::status(error.into(), key)),
    };
    let named = found.as_ref().map(|(_, _, next)| next.clone());
    let current = shard.current(&key.namespace_id, &key.workflow_id).await;
    let current = current.map_err(|error| error::status(HistoryError::Shard(error), key))?;
    let current = current.map(|record| record.run_id);
    for run_id in named.into_iter().chain(current) {
        if run_id.is_empty() || run_id == key.run_id {
            continue;
        }
        let next = RunKey {
            run_id,
            ..key.clone()
        };
        let (original, has) = match shard.read(&next, look).await {
            Ok((original, Some(has), _)) => (original, has),
            Ok(_) | Err(ReadError::NotFound) => continue,
            Err(error) => return Err(error::status(error.into(), key)),
        };
        let is_same = match &found {
            Some((first, Some(had), _)) => *first == original && had.run_id == has.run_id,
            Some(_) => false,
            None => original != next.run_id && has.workflow_id == child.workflow_id,
        };
        if is_same {
            return Ok(Some(next.run_id));
        }
    }
    Ok(None)
}

/// The parent has recorded the start of this run: its first workflow task may go.
pub async fn schedule_first_workflow_task(
    engine: &Engine,
    request: ScheduleFirstWorkflowTaskRequest,
) -> Result<Empty, Status> {
    let key = api::run_key(&request.namespace_id, request.execution.as_ref())?;
    engine
        .apply_request(&key, Request::ScheduleFirstWorkflowTask)
        .await?;
    Ok(Empty {})
}
