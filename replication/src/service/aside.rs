//! Tries again to send what was set aside: a row whose run can be read by now goes into its shard's queue
//! anew, for every cluster; one whose run is gone needs nothing.

use std::{sync::Arc, time::Duration};

use cluster_shard::Shard;
use proto_ids::{ClusterName, TaskId};
use proto_messages::temporal::server::api::persistence::v1::ReplicationTaskInfo;
use tonic::{Code, Status};

use super::{ReplicationHost, runs};
use crate::{metrics::Sending, sender::ShardSource};

/// How often rows are tried again.
const AGAIN_EVERY: Duration = Duration::from_secs(30);

/// Tries for ever.
pub(super) async fn keep_trying(host: Arc<ReplicationHost>, meters: Sending) {
    loop {
        for remote in host.deps.clusters.all() {
            if remote.name == host.deps.clusters.current_name() {
                continue;
            }
            if let Err(error) = host.try_again(&remote.name).await {
                tracing::warn!(remote_cluster = %remote.name, %error,
                    "tasks that were set aside cannot be looked at; it is tried again");
            }
            let lacking = host.aside.total(&remote.name).unwrap_or(-1);
            let labels = &[remote.name.as_str()];
            meters.unsent_rows.with_label_values(labels).set(lacking);
        }
        tokio::time::sleep(AGAIN_EVERY).await;
    }
}

impl ReplicationHost {
    /// Looks at all rows of own shards that a cluster lacks.
    pub(super) async fn try_again(&self, cluster: &ClusterName) -> Result<(), Status> {
        let unavailable = |e: schema_store::StoreError| Status::unavailable(e.to_string());
        for ((shard, id), row) in self.aside.rows(cluster).await.map_err(unavailable)? {
            let owned = self.deps.shards.owned().into_iter();
            let Some(shard) = owned.into_iter().find(|owned| owned.id() == shard) else {
                continue;
            };
            if self.send_aside(&shard, id, &row.raw, cluster).await? {
                let removed = self.aside.remove(cluster, row.letter).await;
                removed.map_err(unavailable)?;
                tracing::info!(remote_cluster = %cluster, shard = %shard.id(), task_id = %id,
                    workflow_id = row.raw.workflow_id, run_id = row.raw.run_id,
                    "a task that was set aside is sent, or its run is gone");
            }
        }
        Ok(())
    }

    /// Whether the row needs to be kept no longer.
    async fn send_aside(
        &self,
        shard: &Shard,
        id: TaskId,
        raw: &ReplicationTaskInfo,
        cluster: &ClusterName,
    ) -> Result<bool, Status> {
        let Some(row) = runs::row_of(id, raw) else {
            return Ok(false);
        };
        let registry = self.deps.registry.clone();
        let source = ShardSource::new(shard.clone(), registry, self.aside.clone());
        if !source.can_send(&row, cluster.as_str()).await {
            return Ok(false);
        }
        let key = row.run.clone();
        if key.workflow_id.is_empty() {
            // Only the place of the row is known; an operator compares and removes it.
            return Ok(false);
        }
        match self.stage(&key, |_| (vec![row.task], ())).await {
            Ok(()) => Ok(true),
            Err(status) if status.code() == Code::NotFound => Ok(true),
            // The run itself cannot be read.
            Err(status) if status.code() == Code::DataLoss => Ok(false),
            Err(status) => Err(status),
        }
    }
}
