//! ResetWorkflowExecution: a run that shares its beginning with another one takes its place. History is
//! read first, outside the run's lock; the transaction checks that nothing was added meanwhile, ends the
//! current run and makes the new one.

use proto_ids::{EventId, RunId, RunKey};
use proto_messages::{
    meridian::history::v1::ResetWorkflowExecutionRequest,
    temporal::api::{
        enums::v1::{ResetReapplyExcludeType, ResetReapplyType},
        history::v1::HistoryEvent,
        workflow::v1::{PostResetOperation, post_reset_operation::Variant},
        workflowservice::v1 as public,
    },
};
use tonic::Status;

use cluster_core::{
    BranchToken, EventBatch, MutableState, NewRun, NonHistoryState, Request, Transition,
    request::{Reset, Signal},
};
use cluster_rpc::status;
use cluster_shard::{CurrentChange, OwnedDecisionContext, Shard, Txn, TxnError};

use crate::{
    api,
    change::{self, IDENTITY, RESETTER},
    engine::Engine,
    error::{self, HistoryError},
    events,
};

/// Runs may be written to while their history is read; after so many attempts the caller tries again.
const ATTEMPTS: usize = 10;
/// Runs after the base whose events are delivered again.
const CHAIN_MAX: usize = 100;

/// History as it was read, and how far each run went then.
struct Found {
    base: RunKey,
    kept: Vec<EventBatch>,
    later: Vec<HistoryEvent>,
    read: Vec<(RunId, EventId)>,
}

/// The extent of a run's history.
struct Extent {
    key: RunKey,
    branch: BranchToken,
    next_event_id: EventId,
    new_run_id: RunId,
}

/// How a transaction that made nothing ended.
enum Stop {
    /// A run was written to since it was read.
    Stale,
    Failed(HistoryError),
}

/// Serves the call.
pub async fn reset(
    engine: &Engine,
    request: ResetWorkflowExecutionRequest,
) -> Result<public::ResetWorkflowExecutionResponse, Status> {
    let api_request = api::required(request.request)?;
    let key = api::run_key(
        &request.namespace_id,
        api_request.workflow_execution.as_ref(),
    )?;
    let shard = engine.shard_of(&key).await?;
    for _ in 0..ATTEMPTS {
        let found = read(
            &shard,
            &key,
            EventId::new(api_request.workflow_task_finish_event_id),
        )
        .await?;
        let api_request = &api_request;
        let decide = async |txn: &mut Txn| decide(txn, found, api_request).await;
        let ended = shard
            .transact(&key.namespace_id, &key.workflow_id, decide)
            .await;
        match ended {
            Ok((old, run_id)) => {
                if let Some(old) = old {
                    engine.queries.unblock(&RunKey { run_id: old, ..key });
                }
                return Ok(public::ResetWorkflowExecutionResponse {
                    run_id: run_id.into(),
                });
            }
            Err(TxnError::Decided(Stop::Stale)) => {}
            Err(error) => {
                let error = error.map(|stop| match stop {
                    Stop::Stale => HistoryError::Busy("Workflow is busy.".to_owned()),
                    Stop::Failed(error) => error,
                });
                return Err(error::status(error.into(), &key));
            }
        }
    }
    Err(status::busy_workflow("Workflow is busy."))
}

/// Reads what the new run keeps, and what came after, of the base and of the runs that continued it.
async fn read(shard: &Shard, key: &RunKey, finish: EventId) -> Result<Found, Status> {
    let mut extent = extent(shard, key).await?;
    let base = extent.key.clone();
    if finish <= EventId::new(1) || finish >= extent.next_event_id {
        let text = "Workflow task finish ID must be > 1 && <= workflow last event ID.";
        return Err(status::invalid_argument(text));
    }
    let first = EventId::new(1);
    let kept = events::all(shard, &base, &extent.branch, first, finish).await?;
    let later = events::all(shard, &base, &extent.branch, finish, extent.next_event_id).await?;
    let mut found = Found {
        base,
        kept: kept
            .into_iter()
            .map(|events| EventBatch { events })
            .collect(),
        later: later.into_iter().flatten().collect(),
        read: vec![(extent.key.run_id.clone(), extent.next_event_id)],
    };
    for _ in 0..CHAIN_MAX {
        if extent.new_run_id.is_empty() {
            break;
        }
        let next = RunKey {
            run_id: extent.new_run_id.clone(),
            ..found.base.clone()
        };
        extent = match self::extent(shard, &next).await {
            Ok(extent) => extent,
            // Retention may have taken it.
            Err(error) if error.code() == tonic::Code::NotFound => break,
            Err(error) => return Err(error),
        };
        let until = extent.next_event_id;
        let events = events::all(shard, &next, &extent.branch, first, until).await?;
        found.later.extend(events.into_iter().flatten());
        found.read.push((extent.key.run_id.clone(), until));
    }
    Ok(found)
}

async fn extent(shard: &Shard, key: &RunKey) -> Result<Extent, Status> {
    let look = |ms: &MutableState| Extent {
        key: ms.key.clone(),
        branch: ms.versions.current().branch.clone(),
        next_event_id: ms.execution_info.next_event_id,
        new_run_id: ms.execution_info.new_run_id.clone(),
    };
    shard
        .read(key, look)
        .await
        .map_err(|e| error::status(e.into(), key))
}

/// The run that was ended, if any, and the new one.
async fn decide(
    txn: &mut Txn,
    found: Found,
    api_request: &public::ResetWorkflowExecutionRequest,
) -> Result<(Option<RunId>, RunId), Stop> {
    let current = txn.current().await?;
    if let Some(current) = &current
        && !api_request.request_id.is_empty()
        && current.request_id == api_request.request_id
    {
        return Ok((None, current.run_id.clone()));
    }
    for (run_id, next) in &found.read {
        if txn
            .peek(run_id)
            .await?
            .map(|ms| ms.execution_info.next_event_id)
            != Some(*next)
        {
            return Err(Stop::Stale);
        }
    }
    // The current run ends before the new one begins; other clusters order the two by that.
    let ending = txn.decision_context();
    let new = make(txn, found.base.clone(), found, api_request).await?;
    let new_run_id = new.mutable_state.key.run_id.clone();
    let mut ended = None;
    if let Some(current) = current
        && end(txn, &ending, &current.run_id, api_request).await?
    {
        ended = Some(current.run_id);
    }
    txn.insert(
        new.mutable_state,
        new.events,
        new.tasks,
        CurrentChange::Become,
    )?;
    Ok((ended, new_run_id))
}

async fn make(
    txn: &mut Txn,
    base: RunKey,
    found: Found,
    api_request: &public::ResetWorkflowExecutionRequest,
) -> Result<NewRun, Stop> {
    let context = txn.decision_context();
    let ctx = context.borrowed();
    let reset = reset_params(api_request, change::new_run_id(&ctx));
    let Some(ms) = txn.run(&base.run_id).await? else {
        return Err(Stop::Stale);
    };
    let mut new = MutableState::reset(ms, found.kept, found.later, &reset, &ctx)
        .map_err(|refusal| Stop::Failed(HistoryError::Refused(refusal)))?;
    let context = txn.decision_context();
    for operation in &api_request.post_reset_operations {
        let signal = signal(operation, api_request)?;
        let request = Request::Signal {
            signal,
            only_from_parent: None,
        };
        let done = new.mutable_state.handle(request, &context.borrowed());
        let done = done.map_err(|refusal| Stop::Failed(HistoryError::Refused(refusal)))?;
        new.events.extend(done.events);
        new.tasks.extend(done.tasks);
    }
    let replaced = NonHistoryState {
        reset_run_id: reset.new_run_id,
        ..NonHistoryState::default()
    };
    if let Some(ms) = txn.run(&base.run_id).await?
        && let Some(delta) = ms.sync_non_history(replaced)
    {
        let transition = Transition {
            delta,
            ..Transition::default()
        };
        txn.put(&base.run_id, transition)?;
    }
    Ok(new)
}

/// Ends the current run if it is open.
async fn end(
    txn: &mut Txn,
    ending: &OwnedDecisionContext,
    run_id: &RunId,
    api_request: &public::ResetWorkflowExecutionRequest,
) -> Result<bool, Stop> {
    let is_open = txn
        .peek(run_id)
        .await?
        .is_some_and(MutableState::is_running);
    if is_open {
        let request = Request::Terminate {
            reason: api_request.reason.clone(),
            details: None,
            identity: RESETTER.to_owned(),
            only_from_parent: None,
            first_execution_run_id: RunId::default(),
            links: Vec::new(),
        };
        change::apply_in_txn_at(txn, ending, run_id, request)
            .await
            .map_err(Stop::Failed)?;
    }
    Ok(is_open)
}

fn reset_params(api_request: &public::ResetWorkflowExecutionRequest, new_run_id: RunId) -> Reset {
    let exclude = api_request
        .reset_reapply_exclude_types
        .iter()
        .filter_map(|t| ResetReapplyExcludeType::try_from(*t).ok());
    let reapply = api_request.reset_reapply_type();
    Reset {
        new_run_id,
        finish_event_id: EventId::new(api_request.workflow_task_finish_event_id),
        reason: api_request.reason.clone(),
        request_id: api_request.request_id.clone(),
        identity: if api_request.identity.is_empty() {
            IDENTITY.to_owned()
        } else {
            api_request.identity.clone()
        },
        exclude: exclude.collect(),
        reapply_nothing: reapply == ResetReapplyType::None,
    }
}

fn signal(
    operation: &PostResetOperation,
    api_request: &public::ResetWorkflowExecutionRequest,
) -> Result<Signal, Stop> {
    match &operation.variant {
        Some(Variant::SignalWorkflow(signal)) => Ok(Signal {
            name: signal.signal_name.clone(),
            input: signal.input.clone(),
            header: signal.header.clone(),
            identity: api_request.identity.clone(),
            ..Signal::default()
        }),
        _ => {
            let text = "this operation after a reset is not supported";
            Err(Stop::Failed(HistoryError::Status(status::unimplemented(
                text,
            ))))
        }
    }
}

impl From<cluster_shard::ShardError> for Stop {
    fn from(error: cluster_shard::ShardError) -> Self {
        Self::Failed(error.into())
    }
}
