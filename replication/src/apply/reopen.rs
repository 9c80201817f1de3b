//! A signal that was acknowledged on the losing side, when the run that won has closed meanwhile. A worker
//! could not have closed the run over a signal it had not seen; so the run is reset to its last workflow task,
//! and goes on as another one that has the signal. A run that an operator or a timeout ended stays ended.

use cluster_core::{Durability, MutableState, NonHistoryState, Refusal, Reset, SERVER, Transition};
use cluster_shard::{CurrentChange, Txn};
use proto_ids::{EventId, RunId};
use proto_messages::temporal::api::{
    enums::v1::WorkflowExecutionStatus, history::v1::history_event::Attributes,
};
use replication_ndc::Reappliable;

use super::{
    absorb::{ApplyError, loaded},
    rebuild,
};

/// Why the run was reset, as Temporal words it.
const REASON: &str = "events-reapplication";

/// Resets the closed run, if a worker closed it, so that it gets the signals among the events. Returns the run
/// it goes on as.
pub(super) async fn reopen(
    txn: &mut Txn,
    run_id: &RunId,
    picked: &Reappliable,
) -> Result<Option<RunId>, ApplyError> {
    let base = loaded(txn, run_id).await?.clone();
    let started = base.execution_info.last_completed_started_event_id;
    if !has_signal(picked) || !was_closed_by_worker(&base) || started == EventId::default() {
        return Ok(None);
    }
    let branch = &base.versions.current().branch;
    let (first, finish, next) = (
        EventId::new(1),
        started.next(),
        base.execution_info.next_event_id,
    );
    let kept = rebuild::read(txn, &base.key, branch, first, finish).await?;
    let later = rebuild::read(txn, &base.key, branch, finish, next).await?;
    let later = later.into_iter().flat_map(|batch| batch.events);
    let later = later.chain(picked.events.iter().cloned()).collect();
    let (ids, context) = (txn.decision_context(), txn.decision_context());
    let reset = Reset {
        new_run_id: RunId::new(ids.borrowed().seed.uuid(0)),
        finish_event_id: finish,
        reason: REASON.to_owned(),
        request_id: ids.borrowed().seed.uuid(1),
        identity: SERVER.to_owned(),
        ..Reset::default()
    };
    let mut new = match MutableState::reset(&base, kept, later, &reset, &context.borrowed()) {
        Ok(new) => new,
        Err(Refusal::Corrupt(corrupt)) => return Err(corrupt.into()),
        Err(refusal) => {
            tracing::warn!(run = %base.key, ?refusal, "the run cannot be reset");
            return Ok(None);
        }
    };
    new.mutable_state.sync_non_history(NonHistoryState {
        reapplied: picked.keys().collect(),
        ..NonHistoryState::default()
    });
    let non_history = NonHistoryState {
        reset_run_id: reset.new_run_id.clone(),
        reapplied: picked.keys().collect(),
        ..NonHistoryState::default()
    };
    if let Some(delta) = loaded(txn, run_id).await?.sync_non_history(non_history) {
        let transition = Transition {
            delta,
            durability: Durability::Durable,
            ..Transition::default()
        };
        txn.put(run_id, transition)?;
    }
    txn.insert(
        new.mutable_state,
        new.events,
        new.tasks,
        CurrentChange::Become,
    )?;
    Ok(Some(reset.new_run_id))
}

fn has_signal(picked: &Reappliable) -> bool {
    picked.events.iter().any(|event| {
        matches!(
            event.attributes,
            Some(Attributes::WorkflowExecutionSignaledEventAttributes(_))
        )
    })
}

fn was_closed_by_worker(run: &MutableState) -> bool {
    use WorkflowExecutionStatus as S;
    !run.execution_info.zombie
        && !run.is_running()
        && matches!(
            run.execution_info.status,
            S::Completed | S::Failed | S::Canceled
        )
}
