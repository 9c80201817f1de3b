//! Delivers again what a losing branch or run had accepted. Only the active cluster can, since only it may
//! write. It gets the losing events from the cluster that wrote them, like everybody, and delivers them to
//! itself; when it wrote them itself, the cluster that gets them hands them back.
//!
//! Reapplied events are marked, by run, event id and version, in the run that lost it and in the one that got
//! it, in the transaction that delivers: a batch that comes twice does no harm, even after the run that got
//! its events has ended and another one follows under its id. The marks travel with the run that got them. A
//! task counts as done only after this.

use std::collections::BTreeMap;

use cluster_core::{Durability, NonHistoryState, Refusal, Request, Transition};
use cluster_shard::{Shard, Txn};
use prost::Message;
use proto_ids::{ClusterName, RunId, RunKey};
use proto_messages::temporal::{
    api::{common::v1::WorkflowExecution, history::v1::HistoryEvent},
    server::api::adminservice::v1::ReapplyEventsRequest,
};
use replication_ndc::{Reappliable, Source};
use tonic::{Code, Status};

use super::{
    Applier, ApplyTarget, LocalCluster,
    absorb::{ApplyError, loaded},
    pointer, reopen, status,
};
use crate::{remotes::request, wire};

/// Bytes of events in one call, below what a peer of Temporal Server takes in one message.
const CALL_BYTES_MAX: usize = 2 << 20;

impl Applier {
    /// Delivers events of a run to the current run of the workflow id, here or at their source.
    pub(super) async fn reapply_event(
        &self,
        at: &ApplyTarget,
        key: &RunKey,
        lost: &[HistoryEvent],
    ) -> Result<(), Status> {
        if lost.is_empty() {
            return Ok(());
        }
        // The namespace may have failed over since the task was admitted.
        let registry = &self.deps().registry;
        let namespace = registry
            .by_id(&key.namespace_id)
            .unwrap_or_else(|| at.namespace.clone());
        if namespace.is_active_in(&self.deps().clusters.current_name()) {
            return self.deliver_here(&at.shard, key, lost).await;
        }
        if namespace.active_cluster == at.source {
            return self.hand_back(&at.source, &at.shard, key, lost).await;
        }
        Ok(())
    }

    /// Delivers events of a run to the current run of its workflow id; this cluster is the active one.
    pub(crate) async fn deliver_here(
        &self,
        shard: &Shard,
        key: &RunKey,
        lost: &[HistoryEvent],
    ) -> Result<(), Status> {
        let here = self.here();
        shard
            .transact(
                &key.namespace_id,
                &key.workflow_id,
                async |txn: &mut Txn| deliver(txn, &key.run_id, lost, &here).await,
            )
            .await
            .map_err(|error| status::txn(error, key))
    }

    /// Gives losing events to the active cluster that wrote them.
    async fn hand_back(
        &self,
        active: &ClusterName,
        shard: &Shard,
        key: &RunKey,
        lost: &[HistoryEvent],
    ) -> Result<(), Status> {
        let delivered = shard
            .read(key, |run| run.execution_info.reapplied.clone())
            .await;
        let picked = Reappliable::pick(&key.run_id, lost, |mark| {
            delivered.as_ref().is_ok_and(|marks| marks.contains(mark))
        });
        if picked.is_empty() {
            return Ok(());
        }
        let mut admin = self.deps().remotes.admin(active)?;
        let mut rest = &picked.events[..];
        while !rest.is_empty() {
            let (chunk, later) = rest.split_at(fitting(rest));
            rest = later;
            let wanted = ReapplyEventsRequest {
                workflow_execution: Some(WorkflowExecution {
                    workflow_id: key.workflow_id.to_string(),
                    run_id: key.run_id.to_string(),
                }),
                events: Some(wire::events_to_blob(chunk)),
                namespace_id: key.namespace_id.to_string(),
            };
            match admin.reapply_events(request(wanted)).await {
                Ok(_) => {}
                // The workflow is gone there.
                Err(status) if status.code() == Code::NotFound => return Ok(()),
                Err(status) => return Err(status),
            }
        }
        tracing::info!(
            remote_cluster = %active,
            run = %key,
            events = picked.events.len(),
            "events of a losing branch are handed back to the active cluster"
        );
        Ok(())
    }
}

/// Delivers those of the events that are lost, and were not delivered before.
pub(super) async fn deliver(
    txn: &mut Txn,
    source: &RunId,
    events: &[HistoryEvent],
    here: &LocalCluster,
) -> Result<(), ApplyError> {
    let Some((target, picked)) = pick(txn, source, events, here).await? else {
        return Ok(());
    };
    if give(txn, &target, &picked).await? && *source != target {
        mark(txn, picked.keys()).await?;
    }
    Ok(())
}

/// The current run, and what it has to be given.
async fn pick(
    txn: &mut Txn,
    source: &RunId,
    events: &[HistoryEvent],
    here: &LocalCluster,
) -> Result<Option<(RunId, Reappliable)>, ApplyError> {
    let Some(current) = txn.current().await? else {
        return Ok(None);
    };
    let Some(target) = txn.peek(&current.run_id).await? else {
        return Ok(None);
    };
    let (facts, marks) = (
        pointer::facts(target),
        target.execution_info.reapplied.clone(),
    );
    let picked = match txn.peek(source).await? {
        Some(run) => {
            let from = Source {
                facts: pointer::facts(run),
                versions: &run.versions,
                is_zombie: run.execution_info.zombie,
            };
            let lost = events.iter().filter(|event| from.lost(event, &facts));
            Reappliable::pick(source, lost, |key| {
                marks.contains(key) || run.execution_info.reapplied.contains(key)
            })
        }
        // A run that this cluster wrote and deleted since had them in its history.
        None => {
            let lost = events
                .iter()
                .filter(|event| !here.wrote(event.version.into()));
            Reappliable::pick(source, lost, |key| marks.contains(key))
        }
    };
    Ok((!picked.is_empty()).then_some((current.run_id, picked)))
}

/// Gives events to the current run. Returns whether they are settled by that.
async fn give(txn: &mut Txn, target: &RunId, picked: &Reappliable) -> Result<bool, ApplyError> {
    let ids: Vec<i64> = picked.events.iter().map(|event| event.event_id).collect();
    let request = Request::Reapply {
        run_id: picked.run_id.clone(),
        events: picked.events.clone(),
    };
    let context = txn.decision_context();
    let run = loaded(txn, target).await?;
    let key = run.key.clone();
    match run.handle(request, &context.borrowed()) {
        Ok(transition) => {
            txn.put(target, transition)?;
            tracing::info!(run = %key, from_run = %picked.run_id, events = ?ids,
                "events of a losing branch are delivered again");
            Ok(true)
        }
        // The winner has ended without them.
        Err(Refusal::Closed(_)) => match reopen::reopen(txn, target, picked).await? {
            Some(new_run) => {
                tracing::info!(run = %key, from_run = %picked.run_id, events = ?ids, %new_run,
                    "the current run is reset, so that it gets events it had not seen");
                Ok(true)
            }
            // They stay readable on the losing branch.
            None => {
                tracing::warn!(run = %key, from_run = %picked.run_id, events = ?ids,
                    "events of a losing branch came after the current run had closed");
                Ok(false)
            }
        },
        Err(refusal) => {
            if matches!(refusal, Refusal::Corrupt(_)) {
                txn.invalidate();
            }
            Err(ApplyError::Blocked(format!(
                "events of a losing branch cannot be delivered again: {refusal:?}"
            )))
        }
    }
}

/// Marks events as delivered in the runs that lost them, as far as those are here.
pub(super) async fn mark(
    txn: &mut Txn,
    keys: impl IntoIterator<Item = (RunId, i64, i64)>,
) -> Result<(), ApplyError> {
    let mut by_run: BTreeMap<RunId, NonHistoryState> = BTreeMap::new();
    for key in keys {
        let non_history = by_run.entry(key.0.clone()).or_default();
        non_history.reapplied.insert(key);
    }
    for (run_id, non_history) in by_run {
        let Some(run) = txn.run(&run_id).await? else {
            continue;
        };
        let Some(delta) = run.sync_non_history(non_history) else {
            continue;
        };
        let transition = Transition {
            delta,
            durability: Durability::Durable,
            ..Transition::default()
        };
        txn.put(&run_id, transition)?;
    }
    Ok(())
}

/// How many events fit into one call; at least one.
fn fitting(events: &[HistoryEvent]) -> usize {
    let mut bytes = 0;
    let fit = events.iter().take_while(|event| {
        bytes += event.encoded_len();
        bytes <= CALL_BYTES_MAX
    });
    fit.count().max(1)
}
