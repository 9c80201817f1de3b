//! `meridian replication status`: how far the other clusters are with what this one wrote.

use std::{collections::BTreeMap, process::ExitCode, time::Duration};

use anyhow::Context;
use clap::Subcommand;
use proto_messages::meridian::replication::v1::{
    GetReplicationStatusRequest, GetReplicationStatusResponse,
};
use serde::Serialize;

use crate::{GlobalArgs, output};

/// Commands on replication.
#[derive(Clone, Debug, Subcommand)]
pub enum ReplicationCommand {
    /// How far each remote cluster is.
    Status {
        /// Where and how.
        #[command(flatten)]
        global: GlobalArgs,
    },
}

#[derive(Debug, Default, Serialize)]
struct Remote {
    cluster: String,
    shards: usize,
    connected_shards: usize,
    /// Shards whose newest task is acknowledged.
    caught_up_shards: usize,
    lag_ms_max: u128,
    pending_tasks: i64,
}

pub(crate) async fn run(command: ReplicationCommand) -> anyhow::Result<ExitCode> {
    let ReplicationCommand::Status { global } = command;
    let server = global.connect.connect().await?;
    let request = GetReplicationStatusRequest {
        by_namespace: true,
        ..Default::default()
    };
    let status = server.replication().get_replication_status(request).await;
    let remotes = summary(
        status
            .context("ask for the replication status")?
            .into_inner(),
    );
    global.output.print(&remotes, |remotes| {
        if remotes.is_empty() {
            return "no other cluster reads from this one".into();
        }
        let header = ["remote", "streams", "caught up", "lag", "pending"];
        output::table(
            &header,
            remotes.iter().map(|r| {
                vec![
                    r.cluster.clone(),
                    format!("{}/{}", r.connected_shards, r.shards),
                    format!("{}/{}", r.caught_up_shards, r.shards),
                    output::span(Duration::from_millis(r.lag_ms_max as u64)),
                    r.pending_tasks.to_string(),
                ]
            }),
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

fn summary(status: GetReplicationStatusResponse) -> Vec<Remote> {
    let mut remotes: BTreeMap<String, Remote> = BTreeMap::new();
    for shard in &status.shards {
        for remote in &shard.remotes {
            let entry = remotes.entry(remote.cluster.clone()).or_default();
            entry.cluster.clone_from(&remote.cluster);
            entry.shards += 1;
            entry.connected_shards += usize::from(remote.connected);
            if remote.acked_task_id >= shard.max_task_id {
                entry.caught_up_shards += 1;
            } else {
                let behind = output::ago(remote.acked_task_time.as_ref()).unwrap_or_default();
                entry.lag_ms_max = entry.lag_ms_max.max(behind.as_millis());
            }
        }
    }
    for namespace in &status.namespaces {
        if let Some(remote) = remotes.get_mut(&namespace.cluster) {
            remote.pending_tasks += namespace.pending_tasks;
        }
    }
    remotes.into_values().collect()
}
