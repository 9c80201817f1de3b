//! A batch of events, inside a transaction on its workflow id: decision, branch, state, pointer. One
//! transaction takes as many batches as come without another branch winning; a branch that wins is read
//! back from the store, so everything before it has to be there first.

use cluster_core::{
    Corrupt, Durability, EventBatch, MutableState, NonHistoryState, Request, Transition,
    VersionItem,
    mutable_state::WorkflowTask,
    task::{Category, Task, TaskKind},
    version::BranchToken,
};
use cluster_shard::{CurrentChange, OwnedDecisionContext, ShardError, Txn};
use proto_ids::{EventId, RunId, RunKey};
use proto_messages::temporal::api::{
    enums::v1::WorkflowTaskFailedCause,
    history::v1::{HistoryEvent, history_event::Attributes},
};
use replication_ndc::{
    Absent, BatchDecision, BranchRole, Broken, Incoming, Missing, Plan, Refused, Target,
    batch_decision::fork_token, reapply,
};

use super::{LocalCluster, again, pointer, rebuild};
use crate::wire::{self, NewRun};

/// Batches of one branch of one run, on their way into the state.
#[derive(Clone, Debug)]
pub(super) struct Work {
    pub key: RunKey,
    /// The whole branch at its source.
    pub items: Vec<VersionItem>,
    /// Gapless.
    pub batches: Vec<EventBatch>,
    /// Run that the last batch continues as.
    pub new_run: Option<NewRun>,
    /// State of the run outside history.
    pub non_history: NonHistoryState,
}

/// The result of a transaction.
#[derive(Clone, Debug, Default)]
pub(super) struct Absorbed {
    /// Batches that are settled; the rest needs another transaction.
    pub batches: usize,
    /// Events written, on any branch.
    pub events: usize,
    /// Events of this run that lost their place and may have to be reapplied.
    pub lost: Vec<HistoryEvent>,
}

/// The reason why a transaction was given up.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApplyError {
    /// Events are missing first.
    #[error("events are missing before {}", .0.before.event_id)]
    Gap(Missing),
    /// No history explains the batch.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The events do not fit the state they meet.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// The rules refused what had to be done first.
    #[error("{0}")]
    Blocked(String),
    /// The kernel.
    #[error(transparent)]
    Shard(#[from] ShardError),
}

impl From<Broken> for ApplyError {
    fn from(broken: Broken) -> Self {
        Self::Refused(Refused::Malformed(broken))
    }
}

impl Work {
    fn incoming<'a>(&'a self, batch: &EventBatch) -> Incoming<'a> {
        Incoming {
            items: &self.items,
            first: batch.first_event_id(),
            next: batch.next_event_id(),
            version: batch.version(),
        }
    }
}

/// Takes the batches in, as far as one transaction can.
pub(super) async fn absorb(
    txn: &mut Txn,
    work: &Work,
    here: &LocalCluster,
) -> Result<Absorbed, ApplyError> {
    let mut absorbed = Absorbed::default();
    for batch in &work.batches {
        let settled = take_batch(txn, work, batch, here, &mut absorbed).await?;
        if !settled {
            break;
        }
        absorbed.batches += 1;
    }
    if absorbed.batches > 0 {
        take_non_history(txn, &work.key.run_id, work.non_history.clone()).await?;
        note_reset(txn, work, absorbed.batches).await?;
    }
    if absorbed.events > 0 {
        pointer::settle(txn, &work.key.run_id, here).await?;
    }
    let run_id = &work.key.run_id;
    if txn
        .peek(run_id)
        .await?
        .is_some_and(|run| run.execution_info.zombie)
    {
        let events = work.batches[..absorbed.batches]
            .iter()
            .flat_map(|b| &b.events);
        for event in events.filter(|e| reapply::is_reappliable(e)) {
            if !absorbed.lost.contains(event) {
                absorbed.lost.push(event.clone());
            }
        }
    }
    if let Some(new_run) = &work.new_run
        && absorbed.batches == work.batches.len()
        && txn.peek(&new_run.run_id).await?.is_none()
    {
        let key = RunKey {
            run_id: new_run.run_id.clone(),
            ..work.key.clone()
        };
        absorbed.events += new_run.batch.events.len();
        create(txn, key, new_run.batch.clone())?;
        take_non_history(txn, &new_run.run_id, new_run.non_history.clone()).await?;
        pointer::settle(txn, &new_run.run_id, here).await?;
    }
    Ok(absorbed)
}

/// Takes over state of a run outside history.
async fn take_non_history(
    txn: &mut Txn,
    run_id: &RunId,
    non_history: NonHistoryState,
) -> Result<(), ApplyError> {
    let reapplied: Vec<_> = non_history.reapplied.iter().cloned().collect();
    if non_history == NonHistoryState::default() {
        return Ok(());
    }
    if let Some(delta) = loaded(txn, run_id).await?.sync_non_history(non_history) {
        let transition = Transition {
            delta,
            durability: Durability::Durable,
            ..Transition::default()
        };
        txn.put(run_id, transition)?;
        // The runs that lost these events know it too: the run they were given to may end.
        again::mark(txn, reapplied).await?;
    }
    Ok(())
}

/// A run that a reset made names the run it was made of: that one says since when it goes on elsewhere.
async fn note_reset(txn: &mut Txn, work: &Work, batches: usize) -> Result<(), ApplyError> {
    let events = work.batches[..batches].iter().flat_map(|b| &b.events);
    let base = events.rev().find_map(|event| match &event.attributes {
        Some(Attributes::WorkflowTaskFailedEventAttributes(a))
            if a.new_run_id == work.key.run_id.as_str() && a.base_run_id != a.new_run_id =>
        {
            Some(RunId::new(&a.base_run_id))
        }
        _ => None,
    });
    let Some(base) = base else { return Ok(()) };
    if txn.peek(&base).await?.is_some() {
        let non_history = NonHistoryState {
            reset_run_id: work.key.run_id.clone(),
            ..NonHistoryState::default()
        };
        take_non_history(txn, &base, non_history).await?;
    }
    Ok(())
}

/// Takes one batch in; false when it has to wait for another transaction.
async fn take_batch(
    txn: &mut Txn,
    work: &Work,
    batch: &EventBatch,
    here: &LocalCluster,
    absorbed: &mut Absorbed,
) -> Result<bool, ApplyError> {
    let run_id = &work.key.run_id;
    let incoming = work.incoming(batch);
    let Some(run) = txn.peek(run_id).await? else {
        return match incoming.for_absent()? {
            Absent::Create => {
                create(txn, work.key.clone(), batch.clone())?;
                absorbed.events += batch.events.len();
                Ok(true)
            }
            Absent::Gap(missing) => Err(ApplyError::Gap(missing)),
        };
    };
    let plan = match incoming.against(&run.versions)? {
        BatchDecision::Duplicate => {
            if !is_current(run, batch) {
                absorbed.lost.extend(reappliable(batch));
            }
            return Ok(true);
        }
        // Batches are gapless, so a gap is before the first of them and nothing is staged yet.
        BatchDecision::Gap(missing) => return Err(ApplyError::Gap(missing)),
        BatchDecision::Apply(plan) => plan,
    };
    if plan.role != BranchRole::NonCurrent && holds_loose_ends(run) {
        settle_loose_ends(txn, run_id).await?;
        // What was buffered is history now, so the batch may mean a fork where it meant an append.
        return Ok(false);
    }
    let Some(batch) = wire::cut_before(batch.clone(), plan.from) else {
        return Ok(true);
    };
    let written = batch.events.len();
    match plan.role {
        BranchRole::Current => apply(txn, run_id, batch).await?,
        BranchRole::NonCurrent => {
            absorbed.lost.extend(reappliable(&batch));
            write_behind(txn, run_id, &plan, batch).await?;
        }
        BranchRole::Wins => {
            if absorbed.events > 0 {
                return Ok(false);
            }
            let lost = rebuild::switch(txn, run_id, &plan, batch).await?;
            // A standby tells the active cluster what it loses, which may not have it from the stream.
            match txn.namespace().is_active_in(&here.name) {
                true => deliver_own(txn, run_id, &lost, here).await?,
                false => absorbed.lost.extend(lost),
            }
        }
    }
    absorbed.events += written;
    Ok(true)
}

/// Delivers again what the active cluster had on the branch that lost. Nobody else would: what is taken from it
/// now it has sent to everybody before, as its history.
async fn deliver_own(
    txn: &mut Txn,
    run_id: &RunId,
    lost: &[HistoryEvent],
    here: &LocalCluster,
) -> Result<(), ApplyError> {
    if lost.is_empty() {
        return Ok(());
    }
    if txn.namespace().handover {
        let text = "writes are held back, and events of a losing branch have to be delivered again";
        return Err(ApplyError::Blocked(text.to_owned()));
    }
    again::deliver(txn, run_id, lost, here).await
}

/// Whether the current branch holds the batch.
fn is_current(run: &MutableState, batch: &EventBatch) -> bool {
    let last = VersionItem {
        event_id: EventId::new(batch.next_event_id().get() - 1),
        version: batch.version(),
    };
    replication_ndc::branch::contains(&run.versions.current().items, last)
}

fn reappliable(batch: &EventBatch) -> impl Iterator<Item = HistoryEvent> + '_ {
    batch
        .events
        .iter()
        .filter(|event| reapply::is_reappliable(event))
        .cloned()
}

/// Tasks that replicated events lead to. They are verified here while another cluster is active and
/// executed when this one is; nothing is sent on, since every cluster reads from the one that wrote.
pub(super) fn keep_tasks(run: &MutableState, tasks: &mut Vec<Task>) {
    tasks.retain(|task| {
        task.kind.category() != Category::Replication
            && (!run.execution_info.zombie
                || matches!(task.kind, TaskKind::Retention | TaskKind::Visibility))
    });
}

fn create(txn: &mut Txn, key: RunKey, batch: EventBatch) -> Result<(), ApplyError> {
    let context = txn.decision_context();
    let ctx = context.borrowed();
    let branch = BranchToken {
        tree_id: key.run_id.to_string(),
        branch_id: ctx.seed.uuid(0),
        ancestors: Vec::new(),
    };
    let mut run = MutableState::empty(key, branch);
    let mut applied = run.apply(&batch, ctx.limits)?;
    keep_tasks(&run, &mut applied.tasks);
    txn.insert(run, vec![batch], applied.tasks, CurrentChange::Keep)?;
    Ok(())
}

/// Applies a batch to the current branch.
pub(super) async fn apply(
    txn: &mut Txn,
    run_id: &RunId,
    batch: EventBatch,
) -> Result<(), ApplyError> {
    let context = txn.decision_context();
    let run = loaded(txn, run_id).await?;
    let applied = run.apply(&batch, context.borrowed().limits);
    let mut applied = match applied {
        Ok(applied) => applied,
        Err(corrupt) => {
            txn.invalidate();
            return Err(corrupt.into());
        }
    };
    keep_tasks(loaded(txn, run_id).await?, &mut applied.tasks);
    let transition = Transition {
        events: vec![batch],
        delta: applied.delta,
        tasks: applied.tasks,
        durability: Durability::Durable,
        ..Transition::default()
    };
    txn.put(run_id, transition)?;
    Ok(())
}

/// Writes a batch to a branch that stays behind the current one.
async fn write_behind(
    txn: &mut Txn,
    run_id: &RunId,
    plan: &Plan,
    batch: EventBatch,
) -> Result<(), ApplyError> {
    let seed = txn.decision_context().borrowed().seed;
    let run = loaded(txn, run_id).await?;
    let (next, version) = (batch.next_event_id(), batch.version());
    let fork = |base: &cluster_core::VersionHistory, at| fork_token(&base.branch, at, seed.uuid(0));
    let index = plan.carry_out(&mut run.versions, fork, next, version)?;
    let branch = run.versions.histories[index].branch.clone();
    if matches!(plan.target, Target::Fork { .. }) {
        txn.new_branch(run_id, &branch)?;
    }
    txn.write_branch_events(run_id, &branch, vec![batch])?;
    Ok(())
}

/// Whether this cluster has accepted events for the run that have no place in its history yet.
fn holds_loose_ends(run: &MutableState) -> bool {
    !run.buffered.is_empty() && run.is_running() && !run.execution_info.zombie
}

/// Gives buffered events their place, under the version they were accepted under: the workflow task they
/// wait for is failed. This is a write of the old active side, so other clusters get it, and what of it can
/// be is delivered again by the new one.
async fn settle_loose_ends(txn: &mut Txn, run_id: &RunId) -> Result<(), ApplyError> {
    let context: OwnedDecisionContext = txn.decision_context();
    let run = loaded(txn, run_id).await?;
    let Some(WorkflowTask {
        scheduled_event_id,
        started_event_id,
        attempt,
        ..
    }) = run.execution_info.workflow_task.clone()
    else {
        return Err(ApplyError::Blocked(
            "events are buffered without a workflow task".to_owned(),
        ));
    };
    let mut ctx = context.borrowed();
    ctx.version = run.last_version();
    let request = Request::FailWorkflowTask {
        scheduled_event_id,
        started_event_id,
        attempt,
        cause: WorkflowTaskFailedCause::FailoverCloseCommand,
        failure: None,
        identity: reapply::SERVER_IDENTITY.to_owned(),
        binary_checksum: String::new(),
    };
    match run.handle(request, &ctx) {
        Ok(transition) => {
            txn.put(run_id, transition)?;
            Ok(())
        }
        Err(refusal) => {
            txn.invalidate();
            Err(ApplyError::Blocked(format!(
                "buffered events cannot be flushed: {refusal:?}"
            )))
        }
    }
}

/// A run that was found before in this transaction.
pub(super) async fn loaded<'a>(
    txn: &'a mut Txn,
    run_id: &RunId,
) -> Result<&'a mut MutableState, ShardError> {
    txn.run(run_id)
        .await?
        .ok_or_else(|| ShardError::Corrupt(format!("run {run_id} went away in a transaction")))
}
