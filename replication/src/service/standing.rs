//! How far other clusters have got with what a shard wrote. A cluster stands right before the first task it
//! has not acknowledged; ids that belong to no replication task it needs do not count, so a cluster that
//! lacks nothing stands at the end. Only what was looked at counts: when the rest is too long to look through,
//! the cluster stands where the look ended.

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

/// Tasks read at once.
const PAGE: usize = 1_000;
/// Pages looked through per reader and request.
pub(super) const PAGES_ASKED: usize = 100;
/// The same for what is counted at intervals.
const PAGES_COUNTED: usize = 2;

/// The shard's standing towards these clusters (all when empty), and by namespace.
pub(super) async fn of(
    host: &ReplicationHost,
    shard: &Shard,
    clusters: &[String],
    pages: usize,
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
            let aside = host.aside.count(cluster, shard.id(), remote_shard).await;
            let pending = pending(host, shard, cluster, (acked, end), pages).await?;
            let at = pending.since(end, now);
            let below = pending.first.map_or(pending.looked, |(task, _)| task);
            remotes.push(RemoteStatus {
                cluster: cluster.to_string(),
                remote_shard_id: remote_shard.get(),
                // A reader that never connected has nothing, even where nothing waits for it.
                acked_task_id: match reader.connected {
                    true => below.get() - 1,
                    false => 0,
                },
                acked_task_time: at.map(time::to_proto),
                connected: connected.contains(&remote_shard),
                incarnation: reader.incarnation,
                ever_connected: reader.connected,
                complete_since_task_id: reader.complete_since.get(),
                came_back_empty: reader.came_back_empty,
                set_aside_tasks: aside.unwrap_or(-1),
            });
            if pending.looked < end {
                // There may be more of each.
                let all = host.deps.registry.all().into_iter();
                let unknown = all.filter(|n| n.lives_in(cluster));
                let unknown = unknown.map(|n| NamespaceStatus {
                    namespace_id: n.id.to_string(),
                    cluster: cluster.to_string(),
                    at_least: true,
                    ..NamespaceStatus::default()
                });
                merge(&mut namespaces, unknown.collect());
            }
            merge(&mut namespaces, by_namespace(cluster, pending, now));
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

/// The tasks that a reader has not acknowledged and needs.
struct Pending {
    /// The first task, and when it was written.
    first: Option<(TaskId, Timestamp)>,
    /// Per namespace: how many, and when the first was written.
    namespaces: BTreeMap<NamespaceId, (i64, Timestamp)>,
    /// Everything below was looked at.
    looked: TaskId,
}

impl Pending {
    /// When the first task was written that waits, or now when none does. None when not all was looked at and
    /// nothing was found: nobody knows then.
    fn since(&self, end: TaskId, now: Timestamp) -> Option<Timestamp> {
        match self.first {
            Some((_, at)) => Some(at),
            None => (self.looked >= end).then_some(now),
        }
    }
}

/// Looks through what is pending between an acknowledgement and the end, page by page: what the cluster does
/// not need holds nothing back, and hides nothing behind it.
async fn pending(
    host: &ReplicationHost,
    shard: &Shard,
    cluster: &ClusterName,
    (acked, end): (TaskId, TaskId),
    pages: usize,
) -> Result<Pending, ShardError> {
    let mut found = Pending {
        first: None,
        namespaces: BTreeMap::new(),
        looked: acked.min(end),
    };
    let mut needed: BTreeMap<NamespaceId, bool> = BTreeMap::new();
    for _ in 0..pages {
        let page = shard.replication_read(found.looked, end, PAGE).await?;
        found.looked = match page.last() {
            Some(last) if page.len() == PAGE => last.task_id.next(),
            _ => end,
        };
        for task in page {
            let id = task.run.namespace_id;
            let is_needed = match needed.get(&id) {
                Some(known) => *known,
                None => *needed
                    .entry(id.clone())
                    .or_insert(lives_in(host, &id, cluster)),
            };
            if is_needed {
                found.first.get_or_insert((task.task_id, task.at));
                found.namespaces.entry(id).or_insert((0, task.at)).0 += 1;
            }
        }
        if found.looked >= end {
            break;
        }
    }
    Ok(found)
}

/// Counts how far other clusters are with the shards of this host.
pub(super) async fn count(host: &ReplicationHost, meters: &Sent) {
    let mut found = Vec::new();
    for shard in host.deps.shards.owned() {
        // A shard that is lost meanwhile is counted elsewhere.
        if let Ok((_, namespaces)) = of(host, &shard, &[], PAGES_COUNTED).await {
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
    let held = host.deps.shards.frozen().into_iter();
    let shut = held.map(|(namespace_id, left)| FrozenNamespace {
        namespace_id: namespace_id.to_string(),
        last_task_id: end.get() - 1,
        until: Some(time::to_proto(host.now().plus(left))),
    });
    shut.collect()
}

fn by_namespace(cluster: &ClusterName, pending: Pending, now: Timestamp) -> Vec<NamespaceStatus> {
    let told = pending
        .namespaces
        .into_iter()
        .map(|(namespace_id, (tasks, since))| NamespaceStatus {
            namespace_id: namespace_id.to_string(),
            cluster: cluster.to_string(),
            pending_tasks: tasks,
            lag: Some(time::duration_to_proto(now.since(since))),
            at_least: false,
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
                known.at_least |= status.at_least;
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
