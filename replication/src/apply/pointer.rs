//! Which run of a workflow id is current, after events arrived for one of them. Inside the transaction that
//! wrote the events, so that there is never more than one open run that is not a zombie.

use cluster_core::{Durability, MutableState, Request, Transition};
use cluster_shard::Txn;
use proto_ids::{FailoverVersion, RunId};
use proto_messages::temporal::api::common::v1::{Payload, Payloads};
use replication_ndc::{Arbitration, RunFacts, Suppress, reapply::SERVER_IDENTITY, runs};

use super::{
    LocalCluster,
    absorb::{ApplyError, keep_tasks, loaded},
};

/// Why a run that lost its place was terminated, as Temporal words it.
const VERSION_CONFLICT: &str = "Terminate Workflow Due To Version Conflict.";

/// Lets the run take the current place, keep it, or become a zombie beside it.
pub(super) async fn settle(
    txn: &mut Txn,
    run_id: &RunId,
    here: &LocalCluster,
) -> Result<(), ApplyError> {
    let current_id = txn.current().await?.map(|record| record.run_id);
    let target = facts(loaded(txn, run_id).await?);
    let current = match &current_id {
        Some(id) => txn.peek(id).await?.map(facts),
        None => None,
    };
    match runs::arbitrate(&target, current.as_ref(), |version| here.wrote(version)) {
        Arbitration::Current => take_place(txn, run_id).await,
        Arbitration::Takes(suppress) => {
            if let Some(loser) = &current_id {
                self::suppress(txn, loser, suppress, target.last_version).await?;
            }
            take_place(txn, run_id).await
        }
        Arbitration::Beside => suppress_as_zombie(txn, run_id).await,
    }
}

/// The facts that order a run among the others of its workflow id.
pub(super) fn facts(run: &MutableState) -> RunFacts {
    let first = run.versions.current().items.first();
    RunFacts {
        run_id: run.key.run_id.clone(),
        open: run.is_running(),
        last_version: run.last_version(),
        last_clock: run.execution_info.last_running_clock,
        first_version: first.map(|item| item.version).unwrap_or_default(),
        first_clock: run.start.clock,
        continues: run.start.continued_run_id.clone(),
        original: run.start.original_run_id.clone(),
        replaced_by: run.execution_info.reset_run_id.clone(),
        started: run.start.start_time,
    }
}

/// The run is current; one that was a zombie lives again, and owes everything it did not do meanwhile.
async fn take_place(txn: &mut Txn, run_id: &RunId) -> Result<(), ApplyError> {
    let context = txn.decision_context();
    let run = loaded(txn, run_id).await?;
    if run.revive() {
        let mut tasks = run.pending_tasks(context.borrowed().limits);
        keep_tasks(run, &mut tasks);
        tracing::info!(run = %run.key, version = %run.last_version(), "a run takes its place back");
        txn.put(
            run_id,
            Transition {
                tasks,
                durability: Durability::Durable,
                ..Transition::default()
            },
        )?;
    }
    txn.set_current(run_id)?;
    Ok(())
}

async fn suppress_as_zombie(txn: &mut Txn, run_id: &RunId) -> Result<(), ApplyError> {
    let run = loaded(txn, run_id).await?;
    if run.suppress() {
        tracing::info!(run = %run.key, version = %run.last_version(), "a run stands beside the current one");
        txn.put(
            run_id,
            Transition {
                durability: Durability::Durable,
                ..Transition::default()
            },
        )?;
    }
    Ok(())
}

async fn suppress(
    txn: &mut Txn,
    loser: &RunId,
    how: Suppress,
    winner: FailoverVersion,
) -> Result<(), ApplyError> {
    match how {
        Suppress::Closed => Ok(()),
        Suppress::Zombie => suppress_as_zombie(txn, loser).await,
        Suppress::Terminate => terminate(txn, loser, winner).await,
    }
}

/// Terminates a run that this cluster wrote last, under the version it was written under. Other clusters
/// hear of it.
async fn terminate(
    txn: &mut Txn,
    loser: &RunId,
    winner: FailoverVersion,
) -> Result<(), ApplyError> {
    let context = txn.decision_context();
    let run = loaded(txn, loser).await?;
    tracing::warn!(
        run = %run.key,
        version = %run.last_version(),
        winner = %winner,
        "a run is terminated: another cluster's run of the same workflow id wins"
    );
    let mut ctx = context.borrowed();
    ctx.version = run.last_version();
    let text = format!("terminated by version: {winner}");
    let details = Payload {
        metadata: [(
            "encoding".to_owned(),
            bytes::Bytes::from_static(b"json/plain"),
        )]
        .into(),
        data: format!("{text:?}").into(),
        ..Payload::default()
    };
    let request = Request::Terminate {
        reason: VERSION_CONFLICT.to_owned(),
        details: Some(Payloads {
            payloads: vec![details],
        }),
        identity: SERVER_IDENTITY.to_owned(),
        only_from_parent: None,
        first_execution_run_id: RunId::default(),
        links: Vec::new(),
    };
    match run.handle(request, &ctx) {
        Ok(transition) => {
            txn.put(loser, transition)?;
            Ok(())
        }
        Err(refusal) => {
            txn.invalidate();
            Err(ApplyError::Blocked(format!(
                "the losing run cannot be terminated: {refusal:?}"
            )))
        }
    }
}
