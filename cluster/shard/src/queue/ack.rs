//! Acknowledgement levels: which tasks of a shard are not done yet, per category, and hence what may be
//! trimmed. Ids are registered before their commit begins, so that no trim computed meanwhile can pass them.
//!
//! Invariants: a timer row of this shard at or before `read` is in memory, done, or not stored; nothing beyond
//! `read` is trimmed; no decision rests on the clock of the owner before.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use cluster_core::task::Category;
use hashbrown::{HashMap, HashSet};
use parking_lot::Mutex;
use proto_ids::{ShardId, TaskId, Timestamp};
use tokio::sync::watch;

use super::{
    Executable, Placement, QueuedTask, Rescheduled,
    replication::{Remote, Stream},
};
use crate::{
    record::{self, AckLevels},
    shard::Shard,
};

/// The tasks of one category in the outbox that are not done.
#[derive(Default)]
struct AckTracker(BTreeSet<TaskId>);

/// The queues of one shard.
pub(crate) struct Queues {
    pub(super) state: Mutex<State>,
    /// Which shard this is, and of how many.
    shard: (ShardId, i32),
    /// Held while timer rows are read, so that they are read in order and without gaps.
    pub(super) window: tokio::sync::Mutex<()>,
    watermark: watch::Sender<TaskId>,
}

pub(super) struct State {
    transfer: AckTracker,
    visibility: AckTracker,
    near: AckTracker,
    /// Timer rows in memory that have not fired and ended.
    pub(super) rows: BTreeSet<(Timestamp, TaskId)>,
    /// Timer rows that ended and are stored still.
    ended: BTreeSet<(Timestamp, TaskId)>,
    /// Tasks that were rescheduled to a timer row.
    rescheduled: HashMap<TaskId, Timestamp>,
    pub(super) stream: Stream,
    /// Highest id that is durable.
    committed: TaskId,
    /// Everything the owner before left has been registered.
    pub(super) recovered: bool,
    /// Commits arm their own timers due up to here; later ones are left to a read of their rows.
    pub(super) edge: Timestamp,
    /// Timer rows due up to here have been read. Follows `edge` once the rows up to it are in memory.
    pub(super) read: Timestamp,
    /// When the next look at later rows is due, if there are any.
    pub(super) window_at: Option<Timestamp>,
    /// Rows that cannot be decoded and were sent to the dead-letter queue, by their id.
    in_dlq: HashSet<TaskId>,
    /// Positions as last given to the lane.
    written: AckLevels,
    /// They may not have been stored, nor what they allowed to trim have gone.
    unsure: bool,
}

/// The acknowledgement levels and trims that a shard's queues allow to be written.
pub(crate) struct Advance {
    pub(crate) state: Bytes,
    pub(crate) trim_outbox: Option<TaskId>,
    pub(crate) trim_timers: Option<(Timestamp, TaskId)>,
}

impl AckTracker {
    /// The acknowledgement level: everything up to here is done.
    fn level(&self, committed: TaskId) -> TaskId {
        self.0
            .first()
            .map_or(committed, |id| TaskId::new(id.get() - 1))
    }
}

impl Queues {
    /// Queues of a shard that was just acquired: `first` is the first id of its range.
    pub(crate) fn new(
        shard: (ShardId, i32),
        first: TaskId,
        stored: AckLevels,
        edge: Timestamp,
        ring: usize,
    ) -> Self {
        let stream = Stream::new(first, &stored, ring);
        Self {
            state: Mutex::new(State {
                transfer: AckTracker::default(),
                visibility: AckTracker::default(),
                near: AckTracker::default(),
                rows: BTreeSet::new(),
                ended: BTreeSet::new(),
                rescheduled: HashMap::new(),
                stream,
                committed: TaskId::new(first.get() - 1),
                recovered: false,
                edge,
                read: Timestamp::from_nanos(i64::MIN),
                window_at: None,
                in_dlq: HashSet::new(),
                written: stored,
                unsure: false,
            }),
            shard,
            window: tokio::sync::Mutex::default(),
            watermark: watch::Sender::new(first),
        }
    }

    /// Notes tasks whose commit is about to begin.
    pub(crate) fn register(&self, tasks: &[(QueuedTask, Placement)], rescheduled: &[Rescheduled]) {
        let mut state = self.state.lock();
        for (task, placement) in tasks {
            state.open(task, *placement);
        }
        for moved in rescheduled {
            state.rows.insert((moved.fire_at, moved.task.task_id));
        }
    }

    /// Takes back [`Self::register`].
    pub(crate) fn abort(&self, tasks: &[(QueuedTask, Placement)], rescheduled: &[Rescheduled]) {
        let mut state = self.state.lock();
        for (task, placement) in tasks {
            match placement {
                Placement::TimerRow(fire_at) => {
                    state.rows.remove(&(*fire_at, task.task_id));
                }
                Placement::Outbox => {
                    state.close(task.task.kind.category(), task.task_id);
                }
            }
        }
        for moved in rescheduled {
            state.rows.remove(&(moved.fire_at, moved.task.task_id));
        }
    }

    /// Dispatches tasks that are durable now.
    pub(crate) fn committed(
        &self,
        shard: &Shard,
        tasks: Vec<(QueuedTask, Placement)>,
        rescheduled: Vec<Rescheduled>,
    ) {
        let mut executables = Vec::with_capacity(tasks.len());
        let mut later: Option<Timestamp> = None;
        let mut state = self.state.lock();
        for (task, placement) in tasks {
            state.committed = state.committed.max(task.task_id);
            let task = Arc::new(task);
            match placement {
                Placement::TimerRow(fire_at) if fire_at > state.edge => {
                    state.rows.remove(&(fire_at, task.task_id));
                    later = Some(later.map_or(fire_at, |l| l.min(fire_at)));
                }
                _ if task.task.kind.category() == Category::Replication => state.stream.push(task),
                _ => executables.push(task),
            }
        }
        let window = later.and_then(|at| state.look_ahead(at, shard));
        drop(state);
        for task in executables {
            let executable = Executable::new(shard, task);
            match executable.task.task.fire_at {
                Some(at) => shard
                    .0
                    .host
                    .timers
                    .arm(at, super::timer::TimerAction::Fire(executable)),
                None => executable.dispatch(),
            }
        }
        if let Some(at) = window {
            shard
                .0
                .host
                .timers
                .arm(at, super::timer::TimerAction::LoadWindow(shard.clone()));
        }
        self.move_placements(rescheduled);
    }

    fn move_placements(&self, rescheduled: Vec<Rescheduled>) {
        if rescheduled.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        for moved in rescheduled {
            let id = moved.task.task_id;
            let mut was_open = state.close(moved.task.task.kind.category(), id);
            let before = state.rescheduled.insert(id, moved.fire_at);
            if let Some(before) = before.or(moved.task.task.fire_at) {
                was_open |= state.end_row(before, id);
            }
            if !was_open {
                // It was done while it moved: its new row holds nothing to be done.
                state.rescheduled.remove(&id);
                state.end_row(moved.fire_at, id);
            }
        }
    }

    /// Tells the streams how far the shard's writes are durable.
    pub(crate) fn publish(&self) {
        let next = self.state.lock().committed.next();
        self.watermark.send_if_modified(|w| {
            let rises = next > *w;
            if rises {
                *w = next;
            }
            rises
        });
    }

    /// Exclusive: everything below is durable.
    pub(crate) fn watermark(&self) -> watch::Receiver<TaskId> {
        self.watermark.subscribe()
    }

    /// Notes that a task is done.
    pub(crate) fn done(&self, task: &QueuedTask) {
        let id = task.task_id;
        let mut state = self.state.lock();
        state.close(task.task.kind.category(), id);
        let placements = [state.rescheduled.remove(&id), task.task.fire_at];
        for at in placements.into_iter().flatten() {
            state.end_row(at, id);
        }
    }

    /// Whether the task's stored form blocks the trimming of what comes after it.
    pub(crate) fn blocks_trimming(&self, task: &QueuedTask, now: Timestamp) -> bool {
        let state = self.state.lock();
        let row = state
            .rescheduled
            .get(&task.task_id)
            .copied()
            .or(task.task.fire_at);
        if row.is_some_and(|at| at <= now && state.rows.contains(&(at, task.task_id))) {
            return true;
        }
        let track = match task.task.kind.category() {
            Category::Transfer => &state.transfer,
            Category::Timer => &state.near,
            Category::Visibility | Category::Replication => return false,
        };
        track.0.contains(&task.task_id)
    }

    /// Whether this owner has sent this row to the dead-letter queue.
    pub(crate) fn is_in_dlq(&self, id: TaskId) -> bool {
        self.state.lock().in_dlq.contains(&id)
    }

    pub(crate) fn note_in_dlq(&self, id: TaskId) {
        self.state.lock().in_dlq.insert(id);
    }

    /// Tasks in memory that are not done.
    pub(crate) fn open(&self) -> usize {
        let state = self.state.lock();
        let outbox = state.transfer.0.len() + state.near.0.len() + state.visibility.0.len();
        outbox + state.rows.len()
    }

    /// Whether positions moved since they were written last, or rows can go.
    pub(crate) fn has_moved(&self, remotes: &[Remote]) -> bool {
        let mut state = self.state.lock();
        if !state.recovered {
            return false;
        }
        let ack_levels = state.ack_levels(self.shard, remotes);
        state.unsure || state.written != ack_levels || state.rows_to_trim().is_some()
    }

    /// Returns what may be written now, if anything moved. The caller has to store all write-behind state of
    /// the shard's writes first: a task may be done because of state that is not stored yet.
    pub(crate) fn advance(&self, remotes: &[Remote]) -> Option<Advance> {
        let mut state = self.state.lock();
        if !state.recovered {
            return None;
        }
        let ack_levels = state.ack_levels(self.shard, remotes);
        let trim_timers = match state.unsure {
            true => Some(state.rows_bound()),
            false => state.rows_to_trim(),
        };
        if !state.unsure && state.written == ack_levels && trim_timers.is_none() {
            return None;
        }
        let before = std::mem::replace(&mut state.written, ack_levels.clone());
        let unsure = std::mem::take(&mut state.unsure);
        if let Some((at, id)) = trim_timers {
            state.ended = state.ended.split_off(&(at, id.next()));
        }
        let trim = ack_levels.trim();
        Some(Advance {
            state: record::encode_ack_levels(&ack_levels),
            trim_outbox: (unsure || trim > before.trim()).then_some(trim),
            trim_timers,
        })
    }

    /// The positions were not stored after all, nor was anything trimmed.
    pub(crate) fn forget_written(&self) {
        self.state.lock().unsure = true;
    }

    /// Returns which of the trims computed a moment ago still hold: since then a clock may have been set back, and a
    /// timer row have come that is due before the ones that ended. Called by the lane when every task of the
    /// batch, and of all before it, is registered.
    pub(crate) fn still_trims(
        &self,
        shard: ShardId,
        outbox: Option<TaskId>,
        timers: Option<(Timestamp, TaskId)>,
    ) -> (Option<TaskId>, Option<(Timestamp, TaskId)>) {
        let mut state = self.state.lock();
        let open = [&state.transfer, &state.near, &state.visibility];
        let lowest = open.iter().filter_map(|track| track.0.first()).min();
        let is_open = outbox.is_some_and(|trim| lowest.is_some_and(|id| *id <= trim));
        debug_assert!(
            !is_open,
            "shard {shard}: {outbox:?} is not done, {lowest:?}"
        );
        if is_open {
            tracing::error!(%shard, ?outbox, ?lowest,
                "outbox rows that are not done were about to be trimmed; they stay");
        }
        let rows_hold = timers.is_some_and(|bound| {
            bound.0 <= state.read && state.rows.first().is_none_or(|first| *first > bound)
        });
        let timers_stay = timers.is_some() && !rows_hold;
        state.unsure |= is_open || timers_stay;
        (outbox.filter(|_| !is_open), timers.filter(|_| !timers_stay))
    }
}

impl State {
    /// Notes a task as not done.
    pub(super) fn open(&mut self, task: &QueuedTask, placement: Placement) -> bool {
        if let Placement::TimerRow(fire_at) = placement {
            return self.rows.insert((fire_at, task.task_id));
        }
        match task.task.kind.category() {
            Category::Transfer => self.transfer.0.insert(task.task_id),
            Category::Timer => self.near.0.insert(task.task_id),
            Category::Visibility => self.visibility.0.insert(task.task_id),
            Category::Replication => self.stream.open(task.task_id),
        }
    }

    /// Notes that a task's row lies elsewhere than its fire time says.
    pub(super) fn reschedule(&mut self, id: TaskId, fire_at: Timestamp) {
        self.rescheduled.insert(id, fire_at);
    }

    fn close(&mut self, category: Category, id: TaskId) -> bool {
        match category {
            Category::Transfer => self.transfer.0.remove(&id),
            Category::Timer => self.near.0.remove(&id),
            Category::Visibility => self.visibility.0.remove(&id),
            Category::Replication => self.stream.close(id),
        }
    }

    /// Notes that there are rows at `at`, past the edge. Returns when to look, if nobody will before.
    pub(super) fn look_ahead(&mut self, at: Timestamp, shard: &Shard) -> Option<Timestamp> {
        // Half a window early, so that a whole page is read long before its first row is due.
        let look = at.minus(shard.0.host.options.timer_window / 2);
        if self.window_at.is_some_and(|known| known <= look) {
            return None;
        }
        self.window_at = Some(look);
        Some(look)
    }

    /// A timer row needs no more care; it goes with a later trim.
    fn end_row(&mut self, fire_at: Timestamp, id: TaskId) -> bool {
        let was_open = self.rows.remove(&(fire_at, id));
        if was_open {
            self.ended.insert((fire_at, id));
        }
        was_open
    }

    /// A row that holds nothing to be done; it goes with a later trim.
    pub(super) fn end_unread(&mut self, fire_at: Timestamp, id: TaskId) {
        self.ended.insert((fire_at, id));
    }

    /// Whether the task of a row that is stored still is done.
    pub(super) fn has_ended(&self, fire_at: Timestamp, id: TaskId) -> bool {
        self.ended.contains(&(fire_at, id))
    }

    /// Every stored timer row up to here has ended: below the first one that has not, and not beyond what was
    /// read.
    fn rows_bound(&self) -> (Timestamp, TaskId) {
        let read = (self.read, TaskId::new(i64::MAX - 1));
        match self.rows.first() {
            Some((at, id)) => read.min((*at, TaskId::new(id.get() - 1))),
            None => read,
        }
    }

    /// Up to where timer rows can go, when that makes any go: time passing on an idle shard is no reason to
    /// write.
    fn rows_to_trim(&self) -> Option<(Timestamp, TaskId)> {
        let bound = self.rows_bound();
        self.ended
            .first()
            .is_some_and(|first| *first <= bound)
            .then_some(bound)
    }

    /// The acknowledgement levels of all queues. What is done stays done, so no position falls.
    fn ack_levels(
        &mut self,
        (shard, shard_count): (ShardId, i32),
        remotes: &[Remote],
    ) -> AckLevels {
        let committed = self.committed;
        let before = &self.written;
        let found = AckLevels {
            transfer: self.transfer.level(committed),
            timer: self.near.level(committed),
            visibility: self.visibility.level(committed),
            replication: self.stream.level(shard, shard_count, committed, remotes),
            readers: self.stream.readers().clone(),
            dropped: self.stream.dropped(),
        };
        debug_assert!(
            found.transfer >= before.transfer
                && found.timer >= before.timer
                && found.visibility >= before.visibility
                && found.replication >= before.replication,
            "positions fell from {before:?} to {found:?}"
        );
        found
    }
}
