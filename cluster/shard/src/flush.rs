//! The flusher: background writes of write-behind state and of acknowledgement levels. Runs only while some
//! shard has something to write.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use cluster_runtime::CancellationToken;
use futures::future::join_all;
use hashbrown::{HashMap, HashSet};
use parking_lot::Mutex;
use proto_ids::{ClusterName, NamespaceId, ShardId};
use tokio::{sync::Notify, time::Instant};

use crate::{
    commit::{Progress, Unit},
    host::Host,
    load::WorkflowKey,
    queue::{QueuedTask, Remote},
    shard::Shard,
    txn::{Mode, Txn},
};

/// A task that hangs gets a timer row at most this far ahead: a new owner looks that far for such rows.
pub(crate) const RESCHEDULED_FOR_MAX: Duration = Duration::from_secs(600);

/// Shards with something to write.
#[derive(Default)]
pub(crate) struct Flusher {
    dirty: Mutex<HashMap<ShardId, Shard>>,
    ready: Notify,
    /// Clusters that have a copy of some namespace, and the registry's state they were read from.
    copies: Mutex<Option<(u64, HashSet<ClusterName>)>>,
}

/// Shards of one round. A panic in its midst forgets none of them.
struct FlushRound(Vec<Shard>);

impl Drop for FlushRound {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.iter().for_each(Shard::mark_dirty);
        }
    }
}

impl Flusher {
    pub(crate) fn mark_dirty(&self, shard: &Shard) {
        self.dirty.lock().insert(shard.id(), shard.clone());
        self.ready.notify_one();
    }

    fn take(&self) -> Vec<Shard> {
        let taken = self
            .dirty
            .lock()
            .drain()
            .map(|(_, shard)| shard)
            .collect::<Vec<_>>();
        for shard in &taken {
            shard.0.dirty.store(false, Ordering::Release);
        }
        taken
    }

    /// Sweeps until it is stopped, and then once more for everything.
    pub(crate) async fn run(host: Arc<Host>, stop: CancellationToken) {
        let flusher = &host.flusher;
        while !stop.is_cancelled() {
            if flusher.dirty.lock().is_empty() {
                tokio::select! {
                    () = flusher.ready.notified() => {}
                    () = stop.cancelled() => break,
                }
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep(host.options.write_behind_after) => {}
                () = stop.cancelled() => break,
            }
            let remotes = remotes(&host);
            let shards = FlushRound(flusher.take());
            join_all(shards.0.iter().map(|shard| shard.flush(&remotes))).await;
            host.measure(&shards.0);
        }
        join_all(flusher.take().iter().map(|shard| shard.flush_all())).await;
    }
}

/// The clusters whose acknowledgement replication tasks wait for: those that are connected, and those that
/// have a copy of a namespace and are disabled for now, which would miss for good what is trimmed meanwhile.
fn remotes(host: &Host) -> Vec<Remote> {
    let clusters = &host.deps.clusters;
    let current = clusters.current_name();
    let mut copies = host.flusher.copies.lock();
    // Read before the namespaces, so that a change in between is seen by the next look.
    let version = *host.deps.registry.watch().borrow();
    if copies.as_ref().is_none_or(|(seen, _)| *seen != version) {
        let namespaces = host.deps.registry.all();
        let shared = namespaces
            .iter()
            .filter(|n| n.is_replicated() && !n.is_deleted() && n.lives_in(&current));
        let found = shared.flat_map(|n| n.clusters.iter().cloned()).collect();
        *copies = Some((version, found));
    }
    let has_copy = |name: &ClusterName| copies.as_ref().is_some_and(|(_, c)| c.contains(name));
    let all = clusters.all().into_iter();
    all.filter(|c| c.name != current && (c.connection_enabled || has_copy(&c.name)))
        .map(|c| Remote {
            name: c.name.clone(),
            shard_count: c.shard_count,
        })
        .collect()
}

impl Host {
    /// Sets gauges, which cost nothing per event.
    fn measure(&self, shards: &[Shard]) {
        let meters = &self.meters;
        let depth = |queue: &str, n: usize| {
            meters
                .queue_waiting
                .with_label_values(&[queue])
                .set(i64::try_from(n).unwrap_or(i64::MAX));
        };
        depth("transfer", self.transfer_queue.len());
        depth("timer", self.timer_queue.len());
        depth("armed", self.timers.len());
        depth("visibility", self.visibility_queue.len());
        depth("open", shards.iter().map(|s| s.0.queues.open()).sum());
        depth("waiting", shards.iter().map(|s| s.0.wait_list.len()).sum());
        meters
            .cache_bytes
            .set(self.cache_bytes.load(Ordering::Relaxed) as i64);
        meters
            .event_cache_bytes
            .set(self.event_cache_bytes.load(Ordering::Relaxed) as i64);
    }
}

impl Shard {
    /// Runs one round: stores write-behind state that is old enough, and acknowledgement levels when their time
    /// has come.
    async fn flush(&self, remotes: &[Remote]) {
        if self.is_lost() {
            return;
        }
        let host = &self.0.host;
        self.flush_write_behind(host.options.write_behind_after)
            .await;
        self.0.cache.trim(host);
        self.0.event_cache.trim(host);
        if !self.0.regenerations.is_empty() {
            self.run_regenerations();
            return self.mark_dirty();
        }
        let due = self.0.last_flush.lock().elapsed() >= host.options.progress_every;
        let moved = self.0.queues.has_moved(remotes);
        if due && moved {
            *self.0.last_flush.lock() = Instant::now();
            self.store_progress(remotes).await;
        }
        if (moved && !due) || !self.0.write_behind.lock().is_empty() {
            self.mark_dirty();
        }
    }

    /// Stores everything that is not stored yet.
    pub(crate) async fn flush_all(&self) {
        if self.is_lost() {
            return;
        }
        self.flush_write_behind(Duration::ZERO).await;
        self.store_progress(&remotes(&self.0.host)).await;
    }

    /// Gives write-behind state of at least this age to the lane.
    pub(crate) async fn flush_write_behind(&self, older_than: Duration) {
        self.flush_write_behind_of(None, older_than).await;
    }

    /// The same for one namespace. Returns how many of its workflows still have write-behind state: the lane
    /// was full, or a read failed.
    pub(crate) async fn flush_write_behind_of(
        &self,
        namespace_id: Option<&NamespaceId>,
        older_than: Duration,
    ) -> usize {
        let is_meant =
            |key: &WorkflowKey| namespace_id.is_none_or(|wanted| key.namespace_id == *wanted);
        let entries: Vec<_> = self
            .0
            .write_behind
            .lock()
            .iter()
            .filter(|(key, _)| is_meant(key))
            .map(|(_, entry)| entry.clone())
            .collect();
        for entry in entries {
            let txn = Txn::begin::<()>(self, entry.key.clone(), Mode::Replicating).await;
            let stored = match txn {
                Ok(mut txn) => {
                    txn.stage_write_behind(older_than);
                    txn.end_unawaited().await
                }
                Err(error) => Err(error),
            };
            match stored {
                Err(error) if !self.is_lost() => {
                    tracing::debug!(shard = %self.id(), ?error, "state stays behind for now");
                }
                _ => {}
            }
        }
        let write_behind = self.0.write_behind.lock();
        write_behind.keys().filter(|key| is_meant(key)).count()
    }

    /// Stores queue positions and trims what they allow. A task may be done because of state that is still
    /// behind, so that goes to the lane first, after the positions were taken: lane order does the rest.
    async fn store_progress(&self, remotes: &[Remote]) {
        let queues = &self.0.queues;
        if !self.0.regenerations.is_empty() {
            return;
        }
        let Some(advance) = queues.advance(remotes) else {
            return;
        };
        self.flush_write_behind(Duration::ZERO).await;
        if !self.0.write_behind.lock().is_empty() {
            queues.forget_written();
            return self.mark_dirty();
        }
        self.0.lane.push(Unit::Progress(Progress {
            shard: self.clone(),
            state: advance.state,
            trim_outbox: advance.trim_outbox,
            trim_timers: advance.trim_timers,
        }));
    }

    /// Reschedules a task that is not getting done: moves it to a timer row, in the background.
    pub(crate) fn reschedule(&self, task: Arc<QueuedTask>) {
        let shard = self.clone();
        let tasks = self.0.host.deps.tasks.clone();
        tasks.spawn(
            cluster_runtime::TaskKind::Background,
            "reschedule",
            async move {
                let host = &shard.0.host;
                let key = crate::shard::key_of(&task.run.namespace_id, &task.run.workflow_id);
                let Ok(mut txn) = Txn::begin::<()>(&shard, key, Mode::Replicating).await else {
                    return;
                };
                // The older, the longer it stays away: what hangs for long is not rewritten all the time.
                let now = host.now();
                let away = now.since(task.at).min(RESCHEDULED_FOR_MAX);
                txn.reschedule(task, now.plus(away.max(host.options.reschedule_after)));
                let _ = txn.end_unawaited().await;
            },
        );
    }
}
