//! Delivers again what a losing branch or run had accepted. Only the active cluster can, since only it may
//! write. It gets the losing events from the cluster that wrote them, like everybody, and delivers them to
//! itself; when it wrote them itself, whoever gets them from it hands them back. What was delivered before
//! is known by its run, id and version, so trying twice does no harm, and a task counts as done only after
//! this.

use cluster_core::{Refusal, Request};
use cluster_shard::{Shard, UpdateError};
use prost::Message;
use proto_ids::{ClusterName, RunId, RunKey};
use proto_messages::temporal::{
    api::{common::v1::WorkflowExecution, history::v1::HistoryEvent},
    server::api::adminservice::v1::ReapplyEventsRequest,
};
use replication_ndc::Reappliable;
use tonic::{Code, Status};

use super::{Applier, Place, status};
use crate::{remotes::request, wire};

/// Bytes of events in one call, below what a peer of Temporal Server takes in one message.
const CALL_BYTES_MAX: usize = 2 << 20;

impl Applier {
    /// Delivers events of a run to the current run of the workflow id, here or at their source.
    pub(super) async fn deliver_again(
        &self,
        at: &Place,
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
            return self.hand_back(&at.source, key, lost).await;
        }
        Ok(())
    }

    async fn deliver_here(
        &self,
        shard: &Shard,
        key: &RunKey,
        lost: &[HistoryEvent],
    ) -> Result<(), Status> {
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

    /// Gives losing events to the active cluster that wrote them.
    async fn hand_back(
        &self,
        active: &ClusterName,
        key: &RunKey,
        lost: &[HistoryEvent],
    ) -> Result<(), Status> {
        let mut admin = self.deps().remotes.admin(active)?;
        let mut rest = lost;
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
            events = lost.len(),
            "events of a losing branch are handed back to the active cluster"
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
            Ok(_) => Ok(()),
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

/// How many events fit into one call; at least one.
fn fitting(events: &[HistoryEvent]) -> usize {
    let mut bytes = 0;
    let fit = events.iter().take_while(|event| {
        bytes += event.encoded_len();
        bytes <= CALL_BYTES_MAX
    });
    fit.count().max(1)
}
