//! A commit lane: one task that takes whatever is ready when the previous commit returned, and commits it
//! as one store transaction. No timer: under load a batch fills while the one before is written.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use cluster_runtime::{CancellationToken, retry};
use parking_lot::Mutex;
use schema_store::CommitError;
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};
use tracing::Instrument;

use super::{
    Failure, Progress, Unit, Write, batch::Prepared, merge::merge, resolve::CommitOutcome,
};
use crate::host::Host;

/// Pauses while the store cannot be reached.
const PAUSES: retry::Policy =
    retry::Policy::exponential(Duration::from_millis(20), Duration::from_secs(2));

/// Longest pause while the store has no room: it is asked again with what comes next.
const FULL_PAUSE_MAX: Duration = Duration::from_millis(250);

/// How often whatever can run is let before a batch at most.
const GATHER_ROUNDS: usize = 3;

/// The queue of a lane.
pub(crate) struct Lane {
    name: String,
    queue: Mutex<LaneQueue>,
    ready: Notify,
    capacity: usize,
    capacity_bytes: usize,
    most_updates: usize,
    most_bytes: usize,
}

#[derive(Default)]
struct LaneQueue {
    units: VecDeque<Unit>,
    writes: usize,
    bytes: usize,
}

/// The units of one round.
#[derive(Default)]
struct Taken {
    writes: Vec<Write>,
    progress: Vec<Progress>,
    barrier: Option<oneshot::Sender<()>>,
}

/// The lane's task.
pub(crate) struct Driver {
    pub(super) lane: Arc<Lane>,
    pub(super) host: Arc<Host>,
    pub(super) seq: i64,
    pauses: retry::Pauses,
    /// How long the last round took: what a write has to wait even when the lane keeps up.
    round: Duration,
}

impl Lane {
    pub(crate) fn new(name: String, options: &crate::ShardsOptions) -> Self {
        Self {
            name,
            queue: Mutex::default(),
            ready: Notify::new(),
            capacity: options.lane_capacity,
            capacity_bytes: options.lane_capacity_bytes,
            most_updates: options.batch_updates,
            most_bytes: options.batch_bytes,
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its number within the process, for metrics: the name is another one after each start.
    fn number(&self) -> &str {
        self.name.rsplit('-').next().unwrap_or_default()
    }

    /// Whether another write may come. Asked before a decision is made, so that a full lane costs nothing.
    pub(crate) fn has_room(&self) -> bool {
        let queue = self.queue.lock();
        queue.writes < self.capacity && queue.bytes < self.capacity_bytes
    }

    pub(crate) fn push(&self, unit: Unit) {
        let mut queue = self.queue.lock();
        if let Unit::Write(write) = &unit {
            queue.writes += 1;
            queue.bytes += write.bytes;
        }
        queue.units.push_back(unit);
        drop(queue);
        self.ready.notify_one();
    }

    /// Returns when everything pushed before has ended; false when the lane ends first.
    pub(crate) async fn barrier(&self) -> bool {
        let (done, ended) = oneshot::channel();
        self.push(Unit::Barrier(done));
        ended.await.is_ok()
    }

    pub(crate) fn waiting(&self) -> usize {
        self.queue.lock().units.len()
    }

    /// Lets whatever can run now run first, as long as that brings more to write: what is about to be
    /// decided joins this batch instead of waiting for the whole of it. On an idle process that is once
    /// around the scheduler; there is no timer.
    async fn gather(&self) {
        let mut before = 0;
        for _ in 0..GATHER_ROUNDS {
            let waiting = self.waiting();
            if waiting == before || waiting >= self.most_updates {
                return;
            }
            before = waiting;
            tokio::task::yield_now().await;
        }
    }

    fn take(&self) -> Taken {
        let mut taken = Taken::default();
        let (mut updates, mut bytes) = (0, 0);
        let mut queue = self.queue.lock();
        while let Some(unit) = queue.units.front() {
            if let Unit::Write(write) = unit {
                let full = updates + write.runs.len() > self.most_updates
                    || bytes + write.bytes > self.most_bytes;
                if full && !taken.writes.is_empty() {
                    break;
                }
                updates += write.runs.len();
                bytes += write.bytes;
            }
            match queue.units.pop_front() {
                Some(Unit::Write(write)) => taken.writes.push(*write),
                Some(Unit::Progress(progress)) => taken.progress.push(progress),
                Some(Unit::Barrier(done)) => {
                    taken.barrier = Some(done);
                    break;
                }
                None => break,
            }
        }
        queue.writes = queue.writes.saturating_sub(taken.writes.len());
        queue.bytes = queue.bytes.saturating_sub(bytes);
        taken
    }
}

impl Driver {
    pub(crate) fn new(lane: Arc<Lane>, host: Arc<Host>) -> Self {
        Self {
            lane,
            host,
            seq: 0,
            pauses: PAUSES.pauses(),
            round: Duration::ZERO,
        }
    }

    /// Commits until it is stopped and nothing waits any more.
    pub(crate) async fn drive(mut self, stop: CancellationToken) {
        let waiting = self
            .host
            .meters
            .lane_waiting
            .with_label_values(&[self.lane.number()]);
        let lane = self.lane.clone();
        loop {
            let ready = lane.ready.notified();
            lane.gather().await;
            let taken = lane.take();
            let nothing =
                taken.writes.is_empty() && taken.progress.is_empty() && taken.barrier.is_none();
            if nothing {
                tokio::select! {
                    () = ready => {}
                    () = stop.cancelled() => {
                        if self.lane.waiting() == 0 {
                            return;
                        }
                    }
                }
                continue;
            }
            self.round(taken.writes, taken.progress).await;
            if let Some(done) = taken.barrier {
                let _ = done.send(());
            }
            waiting.set(i64::try_from(self.lane.waiting()).unwrap_or(i64::MAX));
        }
    }

    /// Commits what was taken, and tells admission control how long it had waited and that it is under way.
    async fn round(&mut self, writes: Vec<Write>, progress: Vec<Progress>) {
        let overload = self.host.deps.overload.clone();
        let begun = Instant::now();
        let waited = writes
            .first()
            .map_or(Duration::ZERO, |w| begun.saturating_duration_since(w.since));
        overload.commit_begins(waited.saturating_sub(self.round));
        self.commit_all(writes, progress).await;
        overload.commit_ended();
        self.round = begun.elapsed();
    }

    /// Brings every write to an end, in order. Parts that fail together are split, so that only those at
    /// fault fail.
    async fn commit_all(&mut self, writes: Vec<Write>, mut progress: Vec<Progress>) {
        let mut parts = VecDeque::from([writes]);
        while let Some(mut part) = parts.pop_front() {
            part = self.without_invalid(part, &mut progress);
            let (merged, n) = merge(&part);
            if n < part.len() {
                parts.push_front(part.split_off(n));
            }
            let with = if parts.is_empty() {
                progress.as_slice()
            } else {
                &[]
            };
            if part.is_empty() && with.is_empty() {
                continue;
            }
            let prepared = match self.prepare(merged, with).await {
                Ok(prepared) => prepared,
                // A range was used up. The part goes again, without the shard if that was lost meanwhile.
                Err(()) => {
                    parts.push_front(part);
                    continue;
                }
            };
            match self.commit(prepared).await {
                CommitOutcome::Stored => {
                    for write in part {
                        for run in &write.runs {
                            write.shard.0.changes.note(&run.key);
                            if let Some(progress) = &run.progress {
                                write.shard.0.watchers.notify(&run.key, progress);
                            }
                        }
                        write.ticket.end(Ok(()));
                    }
                }
                CommitOutcome::Again => parts.push_front(part),
                CommitOutcome::NotStored(why) => self.drop_writes(part, &mut progress, why),
                CommitOutcome::Conflict(keys) => {
                    let (failed, rest): (Vec<_>, Vec<_>) = part
                        .into_iter()
                        .partition(|w| w.runs.iter().any(|r| keys.contains(&r.key)));
                    if failed.is_empty() {
                        tracing::error!(
                            lane = self.lane.name,
                            ?keys,
                            "the store names guards that are not in the batch"
                        );
                        self.drop_writes(rest, &mut progress, "a guard failed");
                    } else {
                        tracing::warn!(
                            lane = self.lane.name,
                            ?keys,
                            "stored runs are not what this owner wrote; they are read again"
                        );
                        self.drop_writes(failed, &mut progress, "a guard failed");
                        parts.push_front(rest);
                    }
                }
                CommitOutcome::Full(text) => self.refuse_full(part, &mut progress, &text).await,
                CommitOutcome::Refused(text) => {
                    if part.len() > 1 {
                        let later = part.split_off(part.len() / 2);
                        parts.push_front(later);
                        parts.push_front(part);
                    } else {
                        self.reject(part, &mut progress, &text);
                    }
                }
            }
        }
    }

    /// Ends writes whose ground has gone, and forgets progress of shards that are lost or regenerate tasks: a
    /// task that counts as done may be one of those.
    fn without_invalid(&self, writes: Vec<Write>, progress: &mut Vec<Progress>) -> Vec<Write> {
        give_up(progress, |p| {
            p.shard.is_lost() || !p.shard.0.regenerations.is_empty()
        });
        let mut kept = Vec::with_capacity(writes.len());
        for write in writes {
            if write.is_invalid() {
                self.host.meters.dropped.with_label_values(&["void"]).inc();
                write.fail(Failure::Dropped("an earlier write of the workflow failed"));
            } else {
                kept.push(write);
            }
        }
        kept
    }

    fn drop_writes(&self, writes: Vec<Write>, progress: &mut Vec<Progress>, why: &'static str) {
        for write in writes {
            // What a trim relies on may just have failed to be stored.
            give_up(progress, |p| p.shard.id() == write.shard.id());
            self.host.meters.dropped.with_label_values(&[why]).inc();
            write.fail(Failure::Dropped(why));
        }
    }

    /// Fails writes at once when the store is full: waiting does not make room.
    async fn refuse_full(&mut self, writes: Vec<Write>, progress: &mut Vec<Progress>, why: &str) {
        tracing::error!(
            lane = self.lane.name,
            why,
            writes = writes.len(),
            "the store has no room; writes are refused until there is some"
        );
        give_up(progress, |_| true);
        let dropped = self.host.meters.dropped.with_label_values(&["full"]);
        for write in writes {
            dropped.inc();
            write.fail(Failure::Full(why.to_owned()));
        }
        tokio::time::sleep(self.pauses.next_pause().min(FULL_PAUSE_MAX)).await;
    }

    fn reject(&self, writes: Vec<Write>, progress: &mut Vec<Progress>, text: &str) {
        if writes.is_empty() {
            tracing::error!(
                lane = self.lane.name,
                text,
                "the store refuses queue positions"
            );
            give_up(progress, |_| true);
        }
        for write in writes {
            give_up(progress, |p| p.shard.id() == write.shard.id());
            tracing::error!(shard = %write.shard.id(), namespace = %write.entry.key.namespace_id,
                workflow_id = %write.entry.key.workflow_id, text, "the store refuses a write");
            self.host
                .meters
                .dropped
                .with_label_values(&["refused"])
                .inc();
            write.fail(Failure::Rejected(text.to_owned()));
        }
    }

    async fn commit(&mut self, mut prepared: Prepared) -> CommitOutcome {
        let meters = &self.host.meters;
        let count = prepared.count;
        let begun = Instant::now();
        let batch = std::mem::take(&mut prepared.batch);
        let span = tracing::debug_span!("commit", lane = self.lane.name, runs = count);
        let committing = self.host.deps.store.execution.commit(batch);
        let ended = committing.instrument(span).await;
        meters.commit_seconds.observe(begun.elapsed().as_secs_f64());
        let outcome = match ended {
            Ok(()) => CommitOutcome::Stored,
            Err(CommitError::Fenced(shards)) => {
                let mut any = false;
                for shard in prepared.shards.iter().filter(|s| shards.contains(&s.id())) {
                    shard.lose("another owner took it");
                    any = true;
                }
                if any {
                    CommitOutcome::Again
                } else {
                    CommitOutcome::NotStored("the store named no shard")
                }
            }
            Err(CommitError::Conflict(keys)) => CommitOutcome::Conflict(keys),
            Err(CommitError::Unavailable(text)) => {
                let pause = self.pauses.next_pause();
                tracing::warn!(
                    lane = self.lane.name,
                    error = text,
                    ?pause,
                    waiting = count,
                    "the store is unavailable; the batch is submitted again"
                );
                prepared.abort();
                meters.batches.with_label_values(&["unavailable"]).inc();
                tokio::time::sleep(pause).await;
                return CommitOutcome::Again;
            }
            Err(CommitError::Unknown(text)) => {
                tracing::warn!(
                    lane = self.lane.name,
                    seq = self.seq,
                    error = text,
                    "the outcome of a commit is unknown; its shards are acquired anew"
                );
                meters.batches.with_label_values(&["unknown"]).inc();
                self.resolve(&prepared.shards).await
            }
            Err(CommitError::Full(text)) => CommitOutcome::Full(text),
            Err(CommitError::Refused(text)) => CommitOutcome::Refused(text),
        };
        if matches!(outcome, CommitOutcome::Stored) {
            self.pauses.reset();
            self.host
                .meters
                .batches
                .with_label_values(&["stored"])
                .inc();
            self.host.meters.updates.inc_by(count as u64);
            self.host.meters.batch_size.observe(count as f64);
            prepared.follow();
        } else {
            self.host
                .meters
                .batches
                .with_label_values(&["failed"])
                .inc();
            prepared.abort();
        }
        outcome
    }
}

/// Positions that will not be stored; the shard computes them anew when something moves again.
fn give_up(progress: &mut Vec<Progress>, which: impl Fn(&Progress) -> bool) {
    progress.retain(|p| {
        let goes = which(p);
        if goes {
            p.shard.0.queues.forget_written();
        }
        !goes
    });
}
