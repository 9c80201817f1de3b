//! Changing one run, for requests and queue tasks alike: a run whose history exceeds a limit is terminated when a
//! change shows it.

use proto_ids::{RunId, RunKey};
use proto_messages::temporal::api::failure::v1::Failure;

use cluster_core::{DecisionContext, MutableState, Refusal, Request, Transition};
use cluster_shard::{OwnedDecisionContext, Shard, Txn, UpdateError, Updated};

use crate::error::HistoryError;

/// The identity of the service in events it writes by itself.
pub const IDENTITY: &str = "history-service";

/// The identity of the service when it ends a run that a reset replaces: it tells others that the run goes
/// on as another one.
pub const RESETTER: &str = "history-resetter";

/// Run ids begin with the time, which keeps rows of one time together in the store.
pub fn new_run_id(ctx: &DecisionContext<'_>) -> RunId {
    let mut random = [0; 10];
    random.copy_from_slice(&ctx.seed.0[..10]);
    let millis = u64::try_from(ctx.now.millis()).unwrap_or_default();
    let id = uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
    RunId::from(id.to_string())
}

/// Changes one existing run; an empty run id means the current one.
pub async fn update<T: Send + 'static>(
    shard: &Shard,
    key: &RunKey,
    decide: impl FnOnce(&mut MutableState, &DecisionContext<'_>) -> Result<(Transition, T), Refusal>
    + Send,
) -> Result<Updated<T>, UpdateError> {
    let ended = shard.update(key, decide).await;
    if let Err(UpdateError::Refused(Refusal::HistoryLimitExceeded(failure))) = &ended {
        terminate_over_limit(shard, key, failure).await?;
    }
    ended
}

/// Applies a request to one existing run.
pub async fn apply_request(
    shard: &Shard,
    key: &RunKey,
    request: Request,
) -> Result<Updated<()>, UpdateError> {
    update(shard, key, |ms, ctx| Ok((ms.handle(request, ctx)?, ()))).await
}

/// Applies a request to a run of a transaction's workflow id, and stages the transition.
pub async fn apply_in_txn(
    txn: &mut Txn,
    run_id: &RunId,
    request: Request,
) -> Result<(), HistoryError> {
    let context = txn.decision_context();
    apply_in_txn_at(txn, &context, run_id, request).await
}

/// [`apply_in_txn`] in a context that the transaction gave out before: what is decided in a later one counts as written
/// afterwards.
pub async fn apply_in_txn_at(
    txn: &mut Txn,
    context: &OwnedDecisionContext,
    run_id: &RunId,
    request: Request,
) -> Result<(), HistoryError> {
    let Some(ms) = txn.run(run_id).await? else {
        return Err(HistoryError::NoRun);
    };
    let transition = ms
        .handle(request, &context.borrowed())
        .map_err(HistoryError::Refused)?;
    txn.put(run_id, transition)?;
    Ok(())
}

/// A request to terminate that the service makes by itself.
pub fn terminate(reason: String) -> Request {
    Request::Terminate {
        reason,
        details: None,
        identity: IDENTITY.to_owned(),
        only_from_parent: None,
        first_execution_run_id: Default::default(),
        links: Vec::new(),
    }
}

async fn terminate_over_limit(
    shard: &Shard,
    key: &RunKey,
    failure: &Failure,
) -> Result<(), UpdateError> {
    tracing::warn!(
        namespace = %key.namespace_id, workflow_id = %key.workflow_id, run_id = %key.run_id,
        reason = failure.message, "terminating a run whose history exceeds a limit"
    );
    let request = terminate(failure.message.clone());
    let done = shard
        .update(key, |ms, ctx| Ok((ms.handle(request, ctx)?, ())))
        .await;
    match done {
        Ok(_) | Err(UpdateError::Refused(Refusal::Closed(_))) => Ok(()),
        Err(error) => Err(error),
    }
}
