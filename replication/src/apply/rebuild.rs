//! Another branch wins: the run's state is made anew from that branch's events. What is not in events and
//! belongs to the run whatever its branch (what was delivered again, who started it) is carried over.

use cluster_core::{EventBatch, MutableState, version::BranchToken};
use cluster_shard::{ReadError, ShardError, Txn};
use proto_ids::{EventId, RunId, RunKey};
use proto_messages::temporal::api::history::v1::HistoryEvent;
use replication_ndc::{
    Plan, Target, batch_decision::fork_token, branch::losing_range, reapply::is_reappliable,
};

use super::absorb::{ApplyError, keep_tasks, loaded};
use crate::wire;

/// Batches read at once.
const PAGE: usize = 1_000;

/// Makes the plan's branch current and applies the batch to it. Returns the events that the run loses by it
/// and that are delivered again.
pub(super) async fn switch(
    txn: &mut Txn,
    run_id: &RunId,
    plan: &Plan,
    batch: EventBatch,
) -> Result<Vec<HistoryEvent>, ApplyError> {
    let context = txn.decision_context();
    let ctx = context.borrowed();
    let before = loaded(txn, run_id).await?.clone();
    let mut versions = before.versions.clone();
    let (next, version) = (batch.next_event_id(), batch.version());
    let fork =
        |base: &cluster_core::VersionHistory, at| fork_token(&base.branch, at, ctx.seed.uuid(0));
    let index = plan.carry_out(&mut versions, fork, next, version)?;
    let branch = versions.histories[index].branch.clone();
    tracing::warn!(
        run = %before.key,
        losing_version = %before.last_version(),
        winning_version = %version,
        from_event = %plan.from,
        "another branch of a run's history wins"
    );

    let loser = before.versions.current();
    let lost = match losing_range(&loser.items, &versions.histories[index].items) {
        Some((from, until)) => {
            let batches = read(txn, &before.key, &loser.branch, from, until).await?;
            let events = batches.into_iter().flat_map(|batch| batch.events);
            events.filter(is_reappliable).collect()
        }
        None => Vec::new(),
    };

    let mut run = MutableState::empty(before.key.clone(), branch.clone());
    for old in read(txn, &before.key, &branch, EventId::new(1), plan.from).await? {
        run.apply(&old, ctx.limits)?;
    }
    run.versions = versions;
    run.apply(&batch, ctx.limits)?;
    run.carry_over(before);
    let mut tasks = run.pending_tasks(ctx.limits);
    keep_tasks(&run, &mut tasks);

    txn.replace(run, tasks)?;
    if matches!(plan.target, Target::Fork { .. }) {
        txn.new_branch(run_id, &branch)?;
    }
    txn.write_branch_events(run_id, &branch, vec![batch])?;
    Ok(lost)
}

/// The events of a branch from `first` on and below `until`, cut there.
pub(super) async fn read(
    txn: &Txn,
    key: &RunKey,
    branch: &BranchToken,
    first: EventId,
    until: EventId,
) -> Result<Vec<EventBatch>, ApplyError> {
    let mut batches = Vec::new();
    let mut from = first;
    while from < until {
        let page = match txn
            .shard()
            .history(key, Some(branch), from, until, PAGE)
            .await
        {
            Ok(page) => page.batches,
            Err(ReadError::NotFound) => Vec::new(),
            Err(ReadError::Shard(error)) => return Err(error.into()),
        };
        let Some(last) = page.last() else {
            // An attempt that was given up may still be on its way to the store; if not, the retries end.
            let text = format!("branch {} lacks event {from}", branch.branch_id);
            return Err(ShardError::Unavailable(text).into());
        };
        from = last.next;
        for node in page {
            let corrupt = |e: wire::Malformed| ShardError::Corrupt(e.to_string());
            let events = wire::events_from_blob(&wire::blob(node.data)).map_err(corrupt)?;
            let within: Vec<_> = events
                .into_iter()
                .filter(|e| (first.get()..until.get()).contains(&e.event_id))
                .collect();
            if !within.is_empty() {
                batches.push(wire::batch(within).map_err(corrupt)?);
            }
        }
    }
    Ok(batches)
}
