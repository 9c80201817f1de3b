//! The end of a transaction: what is staged becomes rows, or state that is written behind.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use cluster_core::{Delta, Durability, MutableState, Task, task::Category};
use proto_ids::{RunKey, TaskId, Timestamp};
use schema_store::execution::{CurrentExpected, CurrentRecord, CurrentWrite, Expected, RowWrite};
use tokio::time::Instant;

use super::{CurrentChange, Mode, Staged, Txn};
use crate::{
    commit::{RunWrite, Ticket, Unit, Write, bytes_of},
    error::{ShardError, TxnError},
    handover::Barriers,
    load::WriteBehind,
    notify::RunProgress,
    queue::QueuedTask,
    record,
    shard::Shard,
};

impl Txn {
    pub(super) async fn submit<E>(&mut self) -> Result<(), TxnError<E>> {
        let mut staged = std::mem::take(&mut self.staged);
        staged.retain(|s| s.durability != Durability::None || s.current != CurrentChange::Keep);
        if staged.is_empty() {
            return Ok(());
        }
        let in_memory = |s: &Staged| {
            s.durability == Durability::WriteBehind
                && s.current == CurrentChange::Keep
                // What has to go out at once cannot wait for a later write. (Other clusters can.)
                && s.tasks.iter().all(|t| t.kind.category() != Category::Transfer)
        };
        if staged.iter().all(in_memory) {
            // It will be written without asking again, so it is asked now.
            let host = self.locked.shard.0.host.clone();
            let frozen = host.frozen.read();
            self.admit_still(&frozen)?;
            for s in staged {
                self.keep_write_behind(s);
            }
            return Ok(());
        }
        let pointer = self.pointer(&staged).await?;
        let mut runs = Vec::with_capacity(staged.len());
        for s in staged {
            runs.extend(self.encode(s));
        }
        self.attach(pointer, &mut runs);
        self.hand_over(runs)
    }

    /// State that is written behind: visible at once, its timers armed at once.
    fn keep_write_behind(&mut self, staged: Staged) {
        let shard = self.locked.shard.clone();
        let Some(at) = self.locked.loaded(&staged.run_id) else {
            return;
        };
        let slot = &mut self.locked.cached.runs[at];
        slot.ahead = true;
        let now = shard.0.host.now();
        let write_behind = slot.write_behind.get_or_insert_with(|| WriteBehind {
            since: Instant::now(),
            delta: Delta::default(),
            nodes: Vec::new(),
            tasks: Vec::new(),
            superseded: Arc::new(AtomicBool::new(false)),
        });
        write_behind.delta.merge(staged.delta);
        write_behind.nodes.extend(staged.nodes);
        shard.arm(
            &slot.mutable_state.key,
            &staged.tasks,
            now,
            &write_behind.superseded,
        );
        write_behind.tasks.extend(staged.tasks);
        shard.note_write_behind(&self.locked.entry);
    }

    /// The current pointer after everything staged, when it differs from the one before, with its guard.
    async fn pointer(&mut self, staged: &[Staged]) -> Result<Option<CurrentWrite>, ShardError> {
        // Most updates leave an open run open and need not know the pointer.
        let may_change = |s: &Staged| {
            s.delete
                || s.current == CurrentChange::Become
                || self
                    .locked
                    .loaded(&s.run_id)
                    .is_some_and(|at| !self.locked.cached.runs[at].mutable_state.is_running())
        };
        if self.locked.cached.current.is_none() && !staged.iter().any(may_change) {
            return Ok(None);
        }
        let before = self.locked.current().await?.clone();
        let mut after = before.clone();
        for s in staged {
            let Some(at) = self.locked.loaded(&s.run_id) else {
                continue;
            };
            let slot = &self.locked.cached.runs[at];
            let is_current = after.as_ref().is_some_and(|c| c.run_id == s.run_id);
            if s.delete {
                if is_current {
                    after = None;
                }
            } else if is_current || s.current == CurrentChange::Become {
                after = Some(current_of(&slot.mutable_state));
            }
        }
        if after == before {
            return Ok(None);
        }
        let expected = match &before {
            None => CurrentExpected::Absent,
            Some(record) => CurrentExpected::Run(record.run_id.clone()),
        };
        self.locked.cached.current = Some(after.clone());
        Ok(Some(CurrentWrite {
            expected,
            record: after,
        }))
    }

    /// Gives the pointer's change to the write of the run it names, or to the first.
    fn attach(&self, pointer: Option<CurrentWrite>, runs: &mut [RunWrite]) {
        let Some(pointer) = pointer else { return };
        let named = pointer.record.as_ref().map(|r| &r.run_id);
        let holder = runs
            .iter()
            .position(|r| Some(&r.key.run_id) == named)
            .unwrap_or(0);
        if let Some(run) = runs.get_mut(holder) {
            run.current = Some(pointer);
        }
    }

    /// Makes rows of a run's state, with its write-behind state.
    fn encode(&mut self, mut staged: Staged) -> Option<RunWrite> {
        let at = self.locked.shard.0.host.now();
        let key = self.locked.entry.run_key(&staged.run_id);
        let Some(place) = self.locked.loaded(&staged.run_id) else {
            // Only a task's home moves; the run itself may be gone or need not be loaded.
            let mut write = RunWrite::keep(key, Expected::Any, at);
            write.rescheduled = staged.rescheduled;
            return Some(write);
        };
        if staged.delete {
            let slot = self.locked.cached.runs.swap_remove(place);
            if let Some(write_behind) = slot.write_behind {
                write_behind.superseded.store(true, Ordering::Release);
            }
            if slot.row == 0 {
                return None;
            }
            let mut write = RunWrite::keep(key, Expected::Version(slot.row), at);
            write.row = RowWrite::Delete;
            write.tasks = staged.tasks;
            write.progress = Some(RunProgress {
                deleted: true,
                closed: true,
                ..RunProgress::default()
            });
            return Some(write);
        }
        let slot = &mut self.locked.cached.runs[place];
        if let Some(write_behind) = slot.write_behind.take() {
            write_behind.superseded.store(true, Ordering::Release);
            let mut delta = write_behind.delta;
            delta.merge(std::mem::take(&mut staged.delta));
            staged.delta = delta;
            let mut nodes = write_behind.nodes;
            nodes.append(&mut staged.nodes);
            staged.nodes = nodes;
            // What became obsolete meanwhile is never stored.
            let mut tasks = write_behind.tasks;
            tasks.retain(|t| slot.mutable_state.is_pending(&t.kind));
            tasks.append(&mut staged.tasks);
            staged.tasks = tasks;
        }
        let expected = if slot.row == 0 {
            Expected::Absent
        } else {
            Expected::Version(slot.row)
        };
        slot.row += 1;
        let hot = record::encode_execution_info(&slot.mutable_state);
        let start = staged
            .delta
            .start
            .then(|| record::encode_start(&slot.mutable_state));
        let items = record::encode_items(&slot.mutable_state, &staged.delta);
        slot.execution_info_bytes = hot.len();
        slot.start_bytes = start.as_ref().map_or(slot.start_bytes, Bytes::len);
        slot.item_bytes = if slot.mutable_state.has_items() {
            slot.item_bytes
                + items
                    .iter()
                    .filter_map(|i| i.value.as_ref())
                    .map(Bytes::len)
                    .sum::<usize>()
        } else {
            0
        };
        Some(RunWrite {
            expected,
            row: RowWrite::Put {
                version: slot.row,
                hot,
                start,
            },
            items,
            items_replaced: staged.delta.replaced && slot.row > 1,
            branches: staged.branches,
            history: staged.nodes,
            tasks: staged.tasks,
            rescheduled: staged.rescheduled,
            progress: Some(RunProgress::of(&slot.mutable_state)),
            ..RunWrite::keep(key, Expected::Any, at)
        })
    }

    /// Looks at the namespace once more: a freeze or a failover that was published since the transaction began
    /// holds for it. What it stages is handed on while `frozen` is held.
    fn admit_still<E>(&self, frozen: &Barriers<'_>) -> Result<(), TxnError<E>> {
        if self.mode == Mode::Replicating {
            return Ok(());
        }
        let registry = &self.locked.shard.0.host.deps.registry;
        let now = registry.by_id(&self.namespace.id);
        let now = now.as_ref().unwrap_or(&self.namespace);
        if now.handover || frozen.contains(&now.id) {
            return Err(TxnError::Handover(now.name.clone()));
        }
        if now.failover_version != self.namespace.failover_version {
            let why = "the namespace failed over meanwhile".to_owned();
            return Err(TxnError::Shard(ShardError::Dropped(why)));
        }
        Ok(())
    }

    /// Gives the write to the lane, if it may still be made.
    fn hand_over<E>(&mut self, runs: Vec<RunWrite>) -> Result<(), TxnError<E>> {
        if runs.is_empty() {
            return Ok(());
        }
        let shard = self.locked.shard.clone();
        shard.check()?;
        let host = &shard.0.host;
        let frozen = host.frozen.read();
        self.admit_still(&frozen)?;
        let ticket = Arc::new(Ticket::default());
        self.locked.cached.last = Some(ticket.clone());
        for run in &runs {
            if matches!(run.row, RowWrite::Delete) {
                let gone = (run.key.run_id.clone(), ticket.clone());
                self.locked.cached.deleted.push(gone);
            }
            if let Some(at) = self.locked.loaded(&run.key.run_id) {
                let slot = &mut self.locked.cached.runs[at];
                slot.last = Some(ticket.clone());
                slot.ahead = false;
            }
        }
        let write = Write {
            bytes: bytes_of(&runs),
            entry: self.locked.entry.clone(),
            epoch: self.locked.cached.epoch,
            shard: shard.clone(),
            runs,
            ticket,
            since: Instant::now(),
        };
        shard.0.lane.push(Unit::Write(Box::new(write)));
        drop(frozen);
        self.locked.prune();
        if self
            .locked
            .cached
            .runs
            .iter()
            .all(|s| s.write_behind.is_none())
        {
            shard.forget_write_behind(&self.locked.entry.key);
        }
        Ok(())
    }
}

impl RunWrite {
    fn keep(key: RunKey, expected: Expected, at: Timestamp) -> Self {
        Self {
            key,
            expected,
            row: RowWrite::Keep,
            items: Vec::new(),
            items_replaced: false,
            current: None,
            branches: Vec::new(),
            history: Vec::new(),
            tasks: Vec::new(),
            rescheduled: Vec::new(),
            at,
            progress: None,
        }
    }
}

impl Shard {
    /// Arms timers in memory that are not stored (yet); other tasks wait until they are.
    fn arm(&self, run: &RunKey, tasks: &[Task], at: Timestamp, superseded: &Arc<AtomicBool>) {
        for task in tasks.iter().filter(|t| t.fire_at.is_some()) {
            let queued = QueuedTask {
                task_id: TaskId::default(),
                run: run.clone(),
                task: task.clone(),
                at,
            };
            self.arm_unsaved(queued, Some(superseded.clone()));
        }
    }
}

fn current_of(ms: &MutableState) -> CurrentRecord {
    CurrentRecord {
        run_id: ms.key.run_id.clone(),
        request_id: ms.start.request_id.clone(),
        status: ms.execution_info.status as i32,
        last_write_version: ms.last_version().get(),
        start_time: ms.start.start_time,
        first_run_id: ms.start.first_run_id.clone(),
    }
}
