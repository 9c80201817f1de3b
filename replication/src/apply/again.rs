//! Delivers again what a losing branch or run had accepted. Only the active cluster does, since only it may
//! write; every cluster that holds the events tries, so the active one is among them. What was delivered
//! before is known by its run, id and version, so trying twice does no harm, and a task counts as done only
//! after this.

use cluster_core::{Refusal, Request};
use cluster_shard::{Shard, UpdateError};
use namespaces::Namespace;
use proto_ids::{RunId, RunKey};
use proto_messages::temporal::api::history::v1::HistoryEvent;
use replication_ndc::Reappliable;
use tonic::Status;

use super::{Applier, status};

impl Applier {
    /// Delivers events of `run_id` to the current run of the workflow id.
    pub(super) async fn deliver_again(
        &self,
        shard: &Shard,
        namespace: &Namespace,
        key: &RunKey,
        lost: &[HistoryEvent],
    ) -> Result<(), Status> {
        if lost.is_empty() || !namespace.is_active_in(&self.deps().clusters.current_name()) {
            return Ok(());
        }
        let current = shard.current(&key.namespace_id, &key.workflow_id).await;
        let Some(current) = current.map_err(status::shard)? else {
            return Ok(());
        };
        let target = RunKey {
            run_id: current.run_id,
            ..key.clone()
        };
        let picked = shard
            .read(&target, |run| {
                Reappliable::pick(&key.run_id, lost, &run.hot.reapplied)
            })
            .await
            .map_err(status::read)?;
        if picked.is_empty() {
            return Ok(());
        }
        let events = picked.events.len();
        self.reapply(shard, &target, key.run_id.clone(), picked.events)
            .await?;
        tracing::info!(
            run = %target,
            from_run = %key.run_id,
            events,
            "events of a losing branch are delivered again"
        );
        Ok(())
    }

    /// Asks a run to take events of another branch.
    pub(crate) async fn reapply(
        &self,
        shard: &Shard,
        target: &RunKey,
        run_id: RunId,
        events: Vec<HistoryEvent>,
    ) -> Result<(), Status> {
        let ids: Vec<i64> = events.iter().map(|event| event.event_id).collect();
        let request = Request::Reapply {
            run_id: run_id.clone(),
            events,
        };
        let done = shard
            .update(target, |run, given| Ok((run.handle(request, given)?, ())))
            .await;
        match done {
            Ok(_) | Err(UpdateError::NotActive { .. }) => Ok(()),
            Err(UpdateError::Refused(Refusal::Closed(_)) | UpdateError::NotFound) => {
                // The winner has ended without them. They stay readable on the losing branch.
                tracing::warn!(
                    run = %target,
                    from_run = %run_id,
                    events = ?ids,
                    "events of a losing branch came after the current run had closed"
                );
                Ok(())
            }
            Err(error) => Err(status::update(error)),
        }
    }
}
