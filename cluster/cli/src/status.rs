//! `meridian replication`: how far the other clusters are with what this one wrote, what they lack, and sending
//! it again. That streams are caught up says nothing about what was never sent, so the runs are compared.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use clap::Subcommand;
use proto_messages::{
    meridian::replication::v1::{GetReplicationStatusRequest, GetReplicationStatusResponse},
    temporal::api::workflowservice::v1::ListNamespacesRequest,
};
use serde::Serialize;

use crate::{
    GlobalArgs,
    completeness::{self, Found},
    connect::Server,
    output,
};

/// Commands on replication.
#[derive(Clone, Debug, Subcommand)]
pub enum ReplicationCommand {
    /// How far each remote cluster is, and what it lacks of each namespace that is active here.
    Status {
        /// Only how far streams are; does not compare what the clusters hold.
        #[arg(long)]
        streams_only: bool,
        /// Where and how.
        #[command(flatten)]
        global: GlobalArgs,
    },
    /// Send again what a cluster lacks of a namespace.
    Repair(RepairArgs),
}

/// Sends again what is lacking.
#[derive(Clone, Debug, clap::Args)]
pub struct RepairArgs {
    /// The namespace.
    #[arg(long, short, env = "TEMPORAL_NAMESPACE", default_value = "default")]
    pub namespace: String,
    /// The cluster that lacks something.
    #[arg(long)]
    pub to: String,
    /// Where and how. Any cluster of the namespace can be asked.
    #[command(flatten)]
    pub global: GlobalArgs,
}

/// All that is printed.
#[derive(Debug, Default, Serialize)]
struct Status {
    remotes: Vec<Remote>,
    namespaces: Vec<Held>,
}

/// The state of a namespace in a cluster.
#[derive(Debug, Serialize)]
struct Held {
    namespace: String,
    cluster: String,
    completeness: Found,
}

#[derive(Debug, Default, Serialize)]
struct Remote {
    cluster: String,
    shards: usize,
    connected_shards: usize,
    /// Shards whose newest task is acknowledged.
    caught_up_shards: usize,
    /// None when a reader never connected or came back empty, or not all that waits was looked at.
    lag_ms_max: Option<u128>,
    pending_tasks: i64,
    /// Not all that is pending was counted.
    pending_at_least: bool,
    /// Shards whose reader came back with an empty store, after rows it needs were gone.
    came_back_empty_shards: usize,
    /// Shards whose reader never connected.
    never_connected_shards: usize,
    /// Tasks that could not be sent and wait among the dead letters here; none when they cannot be counted.
    set_aside_tasks: Option<u64>,
}

pub(crate) async fn run(command: ReplicationCommand) -> anyhow::Result<ExitCode> {
    let (global, streams_only) = match command {
        ReplicationCommand::Status {
            global,
            streams_only,
        } => (global, streams_only),
        ReplicationCommand::Repair(args) => return repair(args).await,
    };
    let server = global.connect.connect().await?;
    let request = GetReplicationStatusRequest {
        by_namespace: true,
        ..Default::default()
    };
    let status = server.replication().get_replication_status(request).await;
    let status = status
        .context("ask for the replication status")?
        .into_inner();
    let here = status.cluster.clone();
    let namespaces = match streams_only {
        true => Vec::new(),
        false => held(&server, &here).await?,
    };
    let shown = Status {
        remotes: summary(status, &complete(&namespaces)),
        namespaces,
    };
    global.output.print(&shown, text)?;
    let complete = shown
        .namespaces
        .iter()
        .all(|h| h.completeness.is_complete());
    Ok(match complete {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(crate::REFUSED),
    })
}

/// The state in other clusters of the namespaces that are active here.
async fn held(server: &Server, here: &str) -> anyhow::Result<Vec<Held>> {
    let mut request = ListNamespacesRequest {
        page_size: 100,
        ..Default::default()
    };
    let mut found = Vec::new();
    loop {
        let page = server.workflow().list_namespaces(request.clone()).await;
        let page = page.context("list the namespaces")?.into_inner();
        for namespace in page.namespaces {
            let replication = namespace.replication_config.unwrap_or_default();
            if !namespace.is_global_namespace || replication.active_cluster_name != here {
                continue;
            }
            let name = namespace.namespace_info.unwrap_or_default().name;
            let others = replication.clusters.into_iter().map(|c| c.cluster_name);
            for cluster in others.filter(|c| c != here) {
                let completeness = completeness::ask(server, &name, &cluster, false, None).await;
                found.push(Held {
                    namespace: name.clone(),
                    cluster,
                    completeness,
                });
            }
        }
        if page.next_page_token.is_empty() {
            return Ok(found);
        }
        request.next_page_token = page.next_page_token;
    }
}

impl Remote {
    /// Warnings that the numbers of streams do not show.
    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.came_back_empty_shards > 0 {
            lines.push(format!(
                "came back empty ({} of {} shards); needs a resync, see `meridian replication repair`",
                self.came_back_empty_shards, self.shards
            ));
        }
        if self.never_connected_shards > 0 {
            lines.push(format!(
                "{} of {} shards never connected",
                self.never_connected_shards, self.shards
            ));
        }
        match self.set_aside_tasks {
            Some(0) => {}
            Some(tasks) => lines.push(format!(
                "{tasks} tasks could not be sent and are set aside, see `meridian dlq`"
            )),
            None => lines.push("it is unknown how many tasks could not be sent".to_owned()),
        }
        lines
    }
}

fn text(status: &Status) -> String {
    let mut text = match status.remotes.is_empty() {
        true => "no other cluster reads from this one; `meridian cluster list` shows those that are disabled".into(),
        false => {
            let header = ["remote", "streams", "caught up", "lag", "pending"];
            output::table(
                &header,
                status.remotes.iter().map(|r| {
                    vec![
                        r.cluster.clone(),
                        format!("{}/{}", r.connected_shards, r.shards),
                        format!("{}/{}", r.caught_up_shards, r.shards),
                        match r.lag_ms_max {
                            Some(lag) => output::span(Duration::from_millis(lag as u64)),
                            None => "unknown".into(),
                        },
                        match r.pending_at_least {
                            true => format!("at least {}", r.pending_tasks),
                            false => r.pending_tasks.to_string(),
                        },
                    ]
                }),
            )
        }
    };
    for remote in &status.remotes {
        for line in remote.lines() {
            text.push_str(&format!("\n  {}: {line}", remote.cluster));
        }
    }
    if status.namespaces.is_empty() {
        return text;
    }
    let header = ["namespace", "cluster", "has"];
    let rows = status.namespaces.iter().map(|h| {
        vec![
            h.namespace.clone(),
            h.cluster.clone(),
            h.completeness.brief(),
        ]
    });
    text.push_str("\n\n");
    text.push_str(&output::table(&header, rows));
    for held in &status.namespaces {
        for line in held.completeness.lines() {
            text.push_str(&format!(
                "\n  {} in {}: {line}",
                held.namespace, held.cluster
            ));
        }
    }
    text
}

async fn repair(args: RepairArgs) -> anyhow::Result<ExitCode> {
    let server = args.global.connect.connect().await?;
    let found = completeness::ask(&server, &args.namespace, &args.to, true, None).await;
    args.global.output.print(&found, |found| {
        let mut lines = vec![format!(
            "{} in {}: {}",
            args.namespace,
            args.to,
            found.brief()
        )];
        lines.extend(found.lines().into_iter().map(|line| format!("  {line}")));
        if found.sent_again > 0 {
            lines.push(format!(
                "{} runs are sent again; `meridian replication status` tells when they have arrived",
                found.sent_again
            ));
        }
        if found.dead_letters > 0 {
            let text = "dead letters are replayed in the cluster that has them with `meridian dlq replay`";
            lines.push(text.to_owned());
        }
        lines.join("\n")
    })?;
    Ok(match found.known {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(crate::UNKNOWN),
    })
}

/// Clusters that were found to have everything of the namespaces that are active here.
fn complete(namespaces: &[Held]) -> BTreeSet<String> {
    let (has, lacks): (Vec<_>, Vec<_>) = namespaces
        .iter()
        .partition(|held| held.completeness.is_complete());
    let mut complete: BTreeSet<_> = has.into_iter().map(|held| held.cluster.clone()).collect();
    complete.retain(|cluster| lacks.iter().all(|held| held.cluster != *cluster));
    complete
}

/// A cluster that came back empty is told as such until a comparison has found it complete again.
fn summary(status: GetReplicationStatusResponse, complete: &BTreeSet<String>) -> Vec<Remote> {
    let mut remotes: BTreeMap<String, Remote> = BTreeMap::new();
    for shard in &status.shards {
        for remote in &shard.remotes {
            let entry = remotes
                .entry(remote.cluster.clone())
                .or_insert_with(|| Remote {
                    cluster: remote.cluster.clone(),
                    lag_ms_max: Some(0),
                    set_aside_tasks: Some(0),
                    ..Remote::default()
                });
            entry.shards += 1;
            entry.connected_shards += usize::from(remote.connected);
            let is_empty = remote.came_back_empty && !complete.contains(&remote.cluster);
            entry.came_back_empty_shards += usize::from(is_empty);
            entry.never_connected_shards += usize::from(!remote.ever_connected);
            let aside = u64::try_from(remote.set_aside_tasks).ok();
            let all_aside = entry.set_aside_tasks.zip(aside);
            entry.set_aside_tasks = all_aside.map(|(all, tasks)| all + tasks);
            let behind = if is_empty || !remote.ever_connected {
                // What is left of the queue says nothing of what went before.
                None
            } else if remote.acked_task_id >= shard.max_task_id {
                entry.caught_up_shards += 1;
                Some(Duration::ZERO)
            } else {
                output::ago(remote.acked_task_time.as_ref())
            };
            let lag = entry.lag_ms_max.zip(behind);
            entry.lag_ms_max = lag.map(|(max, lag)| max.max(lag.as_millis()));
        }
    }
    for namespace in &status.namespaces {
        if let Some(remote) = remotes.get_mut(&namespace.cluster) {
            remote.pending_tasks += namespace.pending_tasks;
            remote.pending_at_least |= namespace.at_least;
        }
    }
    remotes.into_values().collect()
}

#[cfg(test)]
mod tests {
    use proto_messages::meridian::replication::v1::{RemoteStatus, ShardStatus};

    use super::*;

    fn shown(remote: RemoteStatus) -> String {
        shown_beside(remote, vec![])
    }

    fn shown_beside(remote: RemoteStatus, namespaces: Vec<Held>) -> String {
        let shard = ShardStatus {
            shard_id: 1,
            max_task_id: 7,
            remotes: vec![remote],
            ..Default::default()
        };
        text(&Status {
            remotes: summary(
                GetReplicationStatusResponse {
                    shards: vec![shard],
                    ..Default::default()
                },
                &complete(&namespaces),
            ),
            namespaces,
        })
    }

    #[test]
    fn what_is_not_known_of_a_reader_is_not_shown_as_zero() {
        let never = shown(RemoteStatus {
            cluster: "east".into(),
            acked_task_time: Some(std::time::SystemTime::now().into()),
            ..Default::default()
        });
        assert!(never.contains("unknown"), "{never}");
        let wiped = shown(RemoteStatus {
            cluster: "east".into(),
            acked_task_id: 7,
            ever_connected: true,
            came_back_empty: true,
            ..Default::default()
        });
        assert!(
            wiped.contains("0/1") && wiped.contains("unknown"),
            "{wiped}"
        );
        let uncounted = shown(RemoteStatus {
            cluster: "east".into(),
            acked_task_id: 7,
            ever_connected: true,
            connected: true,
            set_aside_tasks: -1,
            ..Default::default()
        });
        assert!(uncounted.contains("0 ms"), "{uncounted}");
        assert!(
            uncounted.contains("unknown how many tasks could not be sent"),
            "{uncounted}"
        );
    }

    #[test]
    fn a_cluster_that_came_back_empty_needs_a_resync_until_it_was_found_complete() {
        let remote = RemoteStatus {
            cluster: "east".into(),
            acked_task_id: 7,
            ever_connected: true,
            connected: true,
            came_back_empty: true,
            ..Default::default()
        };
        let held = |namespace: &str, lacking_runs| Held {
            namespace: namespace.into(),
            cluster: "east".into(),
            completeness: Found {
                known: true,
                lacking_runs,
                ..Found::default()
            },
        };
        let text = shown_beside(remote.clone(), vec![held("orders", 0), held("bills", 1)]);
        assert!(
            text.contains("needs a resync") && text.contains("0/1"),
            "{text}"
        );
        let text = shown_beside(remote, vec![held("orders", 0), held("bills", 0)]);
        assert!(!text.contains("needs a resync"), "{text}");
        assert!(text.contains("1/1      1/1        0 ms"), "{text}");
    }
}
