//! One batch: ids for its tasks, rows for its outbox, and what follows once it is stored.

use proto_ids::{RunKey, TaskId, Timestamp};
use schema_store::execution::{
    CommitBatch, Fence, HistoryNode, OutboxRow, RowWrite, ShardProgress, TimerRow,
};

use super::{Progress, lane::Driver, merge::Merged};
use crate::{
    queue::{Placement, QueuedTask, Rescheduled},
    record,
    shard::Shard,
};

/// A batch with what follows when it is stored.
pub(super) struct Prepared {
    pub(super) batch: CommitBatch,
    pub(super) shards: Vec<Shard>,
    effects: Vec<Effect>,
    pub(super) count: usize,
}

/// The effects of a commit for one run.
struct Effect {
    shard: Shard,
    run: RunKey,
    tasks: Vec<(QueuedTask, Placement)>,
    rescheduled: Vec<Rescheduled>,
    history: Vec<HistoryNode>,
    ended: bool,
}

impl Driver {
    /// Gives tasks their ids and builds the batch. Fails when a shard's range has no more ids; it has a new
    /// range then, or is lost.
    pub(super) async fn prepare(
        &mut self,
        parts: Vec<Merged>,
        progress: &[Progress],
    ) -> Result<Prepared, ()> {
        let mut prepared = Prepared {
            batch: CommitBatch {
                lane: self.lane.name().to_owned(),
                ..CommitBatch::default()
            },
            shards: Vec::new(),
            effects: Vec::with_capacity(parts.len()),
            count: parts.len(),
        };
        let near = self.host.now().plus(self.host.options.near_timer);
        for part in parts {
            let Ok(first) = part.shard.0.lease.take(part.tasks.len()) else {
                prepared.abort();
                let _ = self.renew(&part.shard).await;
                return Err(());
            };
            prepared.add(part, first, near);
        }
        for p in progress {
            prepared.progress(p);
        }
        self.seq += 1;
        prepared.batch.seq = self.seq;
        Ok(prepared)
    }
}

impl Prepared {
    /// Adds one run's part; its tasks get ids from `first` on, and rows where they belong: those due later
    /// than `near` as timer rows, the others together as one outbox row.
    fn add(&mut self, mut part: Merged, first: TaskId, near: Timestamp) {
        self.fence(&part.shard);
        let mut tasks = Vec::with_capacity(part.tasks.len());
        for (n, (task, at)) in part.tasks.into_iter().enumerate() {
            let task_id = TaskId::new(first.get() + n as i64);
            let far = task.fire_at.filter(|fire_at| *fire_at > near);
            let queued = QueuedTask {
                task_id,
                run: part.update.key.clone(),
                task,
                at,
            };
            let placement = match far {
                Some(fire_at) => {
                    let data = record::encode_tasks(&queued.run, &[&queued]);
                    part.update.timers.push(TimerRow {
                        fire_at,
                        task_id,
                        data,
                    });
                    Placement::TimerRow(fire_at)
                }
                None => Placement::Outbox,
            };
            tasks.push((queued, placement));
        }
        let in_outbox = tasks
            .iter()
            .filter(|(_, placement)| *placement == Placement::Outbox);
        let outbox: Vec<_> = in_outbox.map(|(queued, _)| queued).collect();
        if let (Some(low), Some(high)) = (outbox.first(), outbox.last()) {
            part.update.outbox.push(OutboxRow {
                first_task_id: low.task_id,
                last_task_id: high.task_id,
                data: record::encode_tasks(&part.update.key, &outbox),
            });
        }
        for moved in &part.rescheduled {
            part.update.timers.push(TimerRow {
                fire_at: moved.fire_at,
                task_id: moved.task.task_id,
                data: record::encode_tasks(&moved.task.run, &[moved.task.as_ref()]),
            });
        }
        part.shard.0.queues.register(&tasks, &part.rescheduled);
        self.effects.push(Effect {
            history: part.shard.0.event_cache.wants(&part.update.history),
            ended: matches!(part.update.row, RowWrite::Delete),
            shard: part.shard,
            run: part.update.key.clone(),
            tasks,
            rescheduled: part.rescheduled,
        });
        self.batch.updates.push(part.update);
    }

    /// Adds a shard's positions and what they allow to trim; every task of the batch is registered by now. Of
    /// two for one shard the later positions count, and what either of them trims.
    fn progress(&mut self, p: &Progress) {
        self.fence(&p.shard);
        let (trim_outbox, trim_timers) =
            p.shard
                .0
                .queues
                .still_trims(p.shard.id(), p.trim_outbox, p.trim_timers);
        if (trim_outbox, trim_timers) != (p.trim_outbox, p.trim_timers) {
            p.shard.mark_dirty();
        }
        let progress = &mut self.batch.progress;
        match progress
            .iter_mut()
            .find(|known| known.shard == p.shard.id())
        {
            Some(known) => {
                known.state = p.state.clone();
                known.trim_outbox = known.trim_outbox.max(trim_outbox);
                known.trim_timers = known.trim_timers.max(trim_timers);
            }
            None => progress.push(ShardProgress {
                shard: p.shard.id(),
                state: p.state.clone(),
                trim_outbox,
                trim_timers,
            }),
        }
    }

    fn fence(&mut self, shard: &Shard) {
        if self.shards.iter().any(|s| s.id() == shard.id()) {
            return;
        }
        let fence = Fence {
            shard: shard.id(),
            range: shard.range(),
        };
        self.batch.fences.push(fence);
        self.shards.push(shard.clone());
    }

    /// The batch is stored: tasks go to their queues.
    pub(super) fn follow(self) {
        for effect in self.effects {
            let shard = effect.shard;
            shard
                .0
                .event_cache
                .extend(&shard.0.host, effect.history, effect.ended);
            let moved = !effect.rescheduled.is_empty();
            shard
                .0
                .queues
                .committed(&shard, effect.tasks, effect.rescheduled);
            if moved {
                shard.mark_dirty();
            }
            // Whatever changed, with or without tasks: what waits for the run looks again.
            shard.0.wait_list.wake(&effect.run);
        }
        for shard in &self.shards {
            shard.0.queues.publish();
        }
    }

    /// The batch is not stored: ids that were registered are free.
    pub(super) fn abort(&self) {
        for effect in &self.effects {
            effect
                .shard
                .0
                .queues
                .abort(&effect.tasks, &effect.rescheduled);
        }
    }
}
