//! How far other clusters have got with what a shard wrote. A cluster stands right before the first task it
//! has not acknowledged; ids that belong to no replication task count for nobody, so a cluster that lacks
//! nothing stands at the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use cluster_core::{Task, TaskKind};
use cluster_shard::{Shard, ShardError};
use proto_ids::{ClusterName, NamespaceId, TaskId, Timestamp};
use proto_messages::{
    meridian::replication::v1::{FrozenNamespace, NamespaceStatus, RemoteStatus, ShardStatus},
    time,
};

use super::ReplicationHost;
use crate::metrics::Sent;

/// Pending tasks looked at per reader; a longer tail is told as at least this long.
const PENDING_MAX: usize = 1_000;

/// The shard's standing towards these clusters (all when empty), and by namespace.
pub(super) async fn of(
    host: &ReplicationHost,
    shard: &Shard,
    clusters: &[String],
) -> Result<(ShardStatus, Vec<NamespaceStatus>), ShardError> {
    let (now, end) = (host.now(), *shard.replication_watermark().borrow());
    let known = host.deps.clusters.remotes();
    let mut remotes = Vec::new();
    let mut namespaces = Vec::new();
    for remote in &known {
        let cluster = &remote.name;
        if !clusters.is_empty() && !clusters.iter().any(|c| c == cluster.as_str()) {
            continue;
        }
        let connected: BTreeSet<_> = host
            .senders
            .connected(shard.id(), cluster)
            .into_iter()
            .collect();
        for (remote_shard, reader) in shard.replication_readers_of(cluster, remote.shard_count) {
            let acked = reader.acked;
            let aside = host.aside.count(cluster, shard.id(), remote_shard);
            let pending = shard.replication_read(acked, end, PENDING_MAX).await?;
            // What this cluster does not need holds nothing back.
            let pending: Vec<_> = pending
                .into_iter()
                .filter(|task| lives_in(host, &task.run.namespace_id, cluster))
                .collect();
            let first = pending.first();
            remotes.push(RemoteStatus {
                cluster: cluster.to_string(),
                remote_shard_id: remote_shard.get(),
                // Whoever never came has nothing, even where nothing waits for it.
                acked_task_id: match reader.connected {
                    true => first.map_or(end, |task| task.task_id).get() - 1,
                    false => 0,
                },
                acked_task_time: Some(time::to_proto(first.map_or(now, |task| task.at))),
                connected: connected.contains(&remote_shard),
                incarnation: reader.incarnation,
                ever_connected: reader.connected,
                complete_since_task_id: reader.complete_since.get(),
                came_back_empty: reader.came_back_empty,
                set_aside_tasks: aside.unwrap_or(-1),
            });
            let tasks = pending.iter().map(|task| (&task.run.namespace_id, task.at));
            merge(&mut namespaces, by_namespace(cluster, tasks, now));
        }
    }
    let status = ShardStatus {
        shard_id: shard.id().get(),
        max_task_id: end.get() - 1,
        max_task_time: Some(time::to_proto(now)),
        shard_time: Some(time::to_proto(now)),
        remotes,
        frozen: frozen(host, end),
    };
    Ok((status, namespaces))
}

/// Counts how far other clusters are with the shards of this host.
pub(super) async fn count(host: &ReplicationHost, meters: &Sent) {
    let mut found = Vec::new();
    for shard in host.deps.shards.owned() {
        // A shard that is lost meanwhile is counted elsewhere.
        if let Ok((_, namespaces)) = of(host, &shard, &[]).await {
            merge(&mut found, namespaces);
        }
    }
    for remote in host.deps.clusters.remotes() {
        let name = remote.name.as_str();
        let behind = found.iter().filter(|status| status.cluster == name);
        let (pending, lag) = behind.fold((0, Duration::ZERO), |(pending, lag), status| {
            let more = time::duration_from_proto(status.lag.as_ref());
            (pending + status.pending_tasks, lag.max(more))
        });
        meters.pending.with_label_values(&[name]).set(pending);
        meters.lag.with_label_values(&[name]).set(lag.as_secs_f64());
    }
}

fn lives_in(host: &ReplicationHost, id: &NamespaceId, cluster: &ClusterName) -> bool {
    host.deps
        .registry
        .by_id(id)
        .is_some_and(|namespace| namespace.lives_in(cluster))
}

fn frozen(host: &ReplicationHost, end: TaskId) -> Vec<FrozenNamespace> {
    let holds = host.holds.lock();
    let shut = holds.iter().map(|(namespace_id, until)| {
        let left = until.saturating_duration_since(tokio::time::Instant::now());
        FrozenNamespace {
            namespace_id: namespace_id.to_string(),
            last_task_id: end.get() - 1,
            until: Some(time::to_proto(host.now().plus(left))),
        }
    });
    shut.collect()
}

fn by_namespace<'a>(
    cluster: &ClusterName,
    tasks: impl Iterator<Item = (&'a NamespaceId, Timestamp)>,
    now: Timestamp,
) -> Vec<NamespaceStatus> {
    let mut found: BTreeMap<&NamespaceId, (i64, Duration)> = BTreeMap::new();
    for (namespace_id, at) in tasks {
        let entry = found.entry(namespace_id).or_default();
        *entry = (entry.0 + 1, entry.1.max(now.since(at)));
    }
    let told = found
        .into_iter()
        .map(|(namespace_id, (pending, lag))| NamespaceStatus {
            namespace_id: namespace_id.to_string(),
            cluster: cluster.to_string(),
            pending_tasks: pending,
            lag: Some(time::duration_to_proto(lag)),
        });
    told.collect()
}

/// Adds standings of one shard to those of others.
pub(super) fn merge(into: &mut Vec<NamespaceStatus>, more: Vec<NamespaceStatus>) {
    for status in more {
        let same = into
            .iter_mut()
            .find(|s| s.namespace_id == status.namespace_id && s.cluster == status.cluster);
        match same {
            Some(known) => {
                let lag = |s: &NamespaceStatus| time::duration_from_proto(s.lag.as_ref());
                known.pending_tasks += status.pending_tasks;
                known.lag = Some(time::duration_to_proto(lag(known).max(lag(&status))));
            }
            None => into.push(status),
        }
    }
}

/// The events a replication task stands for: the first, and the one after the last.
pub(super) fn events_of(task: &Task) -> (i64, i64) {
    match task.kind {
        TaskKind::ReplicateHistory {
            first_event_id,
            next_event_id,
            ..
        } => (first_event_id.get(), next_event_id.get()),
        _ => (0, 0),
    }
}
