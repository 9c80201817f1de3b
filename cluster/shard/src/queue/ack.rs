//! Which tasks of a shard are not done yet, per category, and hence what may be trimmed. Ids are registered
//! before their commit begins, so that no trim computed meanwhile can pass them.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use cluster_core::task::Category;
use hashbrown::HashMap;
use parking_lot::Mutex;
use proto_ids::{ShardId, TaskId, Timestamp};
use tokio::sync::watch;

use super::{
    Home, Homed, Job, QueuedTask,
    replication::{Remote, Stream},
};
use crate::{
    record::{self, Positions},
    shard::Shard,
};

/// Tasks of one category in the outbox that are not done.
#[derive(Default)]
struct Track(BTreeSet<TaskId>);

/// The queues of one shard.
pub(crate) struct Queues {
    pub(super) state: Mutex<State>,
    /// Which shard this is, and of how many.
    shard: (ShardId, i32),
    watermark: watch::Sender<TaskId>,
    /// Commits so far; lets a worker see that something changed under it.
    commits: AtomicU64,
}

pub(super) struct State {
    transfer: Track,
    visibility: Track,
    near: Track,
    /// Timer rows up to `edge` that have not fired and ended.
    pub(super) rows: BTreeSet<(Timestamp, TaskId)>,
    /// Tasks that moved to a timer row.
    rehomed: HashMap<TaskId, Timestamp>,
    /// A timer row ended since positions were written.
    rows_ended: bool,
    pub(super) stream: Stream,
    /// Highest id that is durable.
    committed: TaskId,
    /// Everything the owner before left has been registered.
    pub(super) recovered: bool,
    /// Timer rows due up to here are in memory.
    pub(super) edge: Timestamp,
    /// When the next look at later rows is due, if there are any.
    pub(super) window_at: Option<Timestamp>,
    /// Positions as last given to the lane.
    written: Option<Positions>,
}

/// What a shard's queues allow to be written.
pub(crate) struct Advance {
    pub(crate) state: Bytes,
    pub(crate) trim_outbox: Option<TaskId>,
    pub(crate) trim_timers: Option<(Timestamp, TaskId)>,
}

impl Track {
    /// Everything up to here is done.
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
        stored: Positions,
        edge: Timestamp,
        ring: usize,
    ) -> Self {
        let stream = Stream::new(first, &stored, ring);
        Self {
            state: Mutex::new(State {
                transfer: Track::default(),
                visibility: Track::default(),
                near: Track::default(),
                rows: BTreeSet::new(),
                rehomed: HashMap::new(),
                rows_ended: false,
                stream,
                committed: TaskId::new(first.get() - 1),
                recovered: false,
                edge,
                window_at: None,
                written: Some(stored),
            }),
            shard,
            watermark: watch::Sender::new(first),
            commits: AtomicU64::new(0),
        }
    }

    /// Notes tasks whose commit is about to begin.
    pub(crate) fn register(&self, tasks: &[(QueuedTask, Home)], rehomed: &[Homed]) {
        let mut state = self.state.lock();
        for (task, home) in tasks {
            state.open(task, *home);
        }
        for homed in rehomed {
            state.rows.insert((homed.fire_at, homed.task.task_id));
        }
    }

    /// Takes back [`Self::register`].
    pub(crate) fn abort(&self, tasks: &[(QueuedTask, Home)], rehomed: &[Homed]) {
        let mut state = self.state.lock();
        for (task, home) in tasks {
            match home {
                Home::Row(fire_at) => {
                    state.rows.remove(&(*fire_at, task.task_id));
                }
                Home::Outbox => {
                    state.close(task.task.kind.category(), task.task_id);
                }
            }
        }
        for homed in rehomed {
            state.rows.remove(&(homed.fire_at, homed.task.task_id));
        }
    }

    /// The tasks are durable: off they go.
    pub(crate) fn committed(
        &self,
        shard: &Shard,
        tasks: Vec<(QueuedTask, Home)>,
        rehomed: Vec<Homed>,
    ) {
        self.commits.fetch_add(1, Ordering::AcqRel);
        let mut jobs = Vec::with_capacity(tasks.len());
        let mut later: Option<Timestamp> = None;
        let mut state = self.state.lock();
        for (task, home) in tasks {
            state.committed = state.committed.max(task.task_id);
            let task = Arc::new(task);
            match home {
                Home::Row(fire_at) if fire_at > state.edge => {
                    state.rows.remove(&(fire_at, task.task_id));
                    later = Some(later.map_or(fire_at, |l| l.min(fire_at)));
                }
                _ if task.task.kind.category() == Category::Replication => state.stream.push(task),
                _ => jobs.push(task),
            }
        }
        let window = later.and_then(|at| state.look_ahead(at, shard));
        drop(state);
        for task in jobs {
            let job = Job::new(shard, task);
            match job.task.task.fire_at {
                Some(at) => shard.0.host.timers.arm(at, super::timer::What::Fire(job)),
                None => job.dispatch(),
            }
        }
        if let Some(at) = window {
            shard
                .0
                .host
                .timers
                .arm(at, super::timer::What::Window(shard.clone()));
        }
        self.move_homes(rehomed);
    }

    fn move_homes(&self, rehomed: Vec<Homed>) {
        if rehomed.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        for homed in rehomed {
            let id = homed.task.task_id;
            let mut was_open = state.close(homed.task.task.kind.category(), id);
            let before = state.rehomed.insert(id, homed.fire_at);
            if let Some(before) = before.or(homed.task.task.fire_at) {
                was_open |= state.rows.remove(&(before, id));
            }
            if !was_open {
                // It was done while it moved: its new row is nobody's business.
                state.rehomed.remove(&id);
                state.rows.remove(&(homed.fire_at, id));
                state.rows_ended = true;
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

    pub(crate) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Acquire)
    }

    /// A task needs no more care.
    pub(crate) fn done(&self, task: &QueuedTask) {
        let id = task.task_id;
        let mut state = self.state.lock();
        state.close(task.task.kind.category(), id);
        let homes = [state.rehomed.remove(&id), task.task.fire_at];
        for at in homes.into_iter().flatten() {
            if state.rows.remove(&(at, id)) {
                state.rows_ended = true;
            }
        }
    }

    /// Whether the task's stored form holds back the trimming of what comes after it.
    pub(crate) fn is_in_the_way(&self, task: &QueuedTask, now: Timestamp) -> bool {
        let state = self.state.lock();
        let row = state
            .rehomed
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

    /// Tasks in memory that are not done.
    pub(crate) fn open(&self) -> usize {
        let state = self.state.lock();
        let outbox = state.transfer.0.len() + state.near.0.len() + state.visibility.0.len();
        outbox + state.rows.len()
    }

    /// Whether positions moved since they were written last.
    pub(crate) fn has_moved(&self, now: Timestamp, remotes: &[Remote]) -> bool {
        let mut state = self.state.lock();
        let positions = state.positions(self.shard, now, remotes);
        state.recovered && state.written.as_ref() != Some(&positions)
    }

    /// What may be written now, if anything moved. Whoever asks has to store all state behind the shard's
    /// writes first: a task may be done because of state that is not stored yet.
    pub(crate) fn advance(&self, now: Timestamp, remotes: &[Remote]) -> Option<Advance> {
        let mut state = self.state.lock();
        if !state.recovered {
            return None;
        }
        let positions = state.positions(self.shard, now, remotes);
        if state.written.as_ref() == Some(&positions) {
            return None;
        }
        let before = state.written.replace(positions.clone()).unwrap_or_default();
        state.rows_ended = false;
        let trim = positions.trim();
        Some(Advance {
            state: record::encode_positions(&positions),
            trim_outbox: (trim > before.trim()).then_some(trim),
            trim_timers: (positions.timer_rows > before.timer_rows).then_some(positions.timer_rows),
        })
    }

    /// The positions were not stored after all.
    pub(crate) fn forget_written(&self) {
        let mut state = self.state.lock();
        state.written = None;
        state.rows_ended = true;
    }
}

impl State {
    /// Notes a task as not done.
    pub(super) fn open(&mut self, task: &QueuedTask, home: Home) -> bool {
        if let Home::Row(fire_at) = home {
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
    pub(super) fn rehome(&mut self, id: TaskId, fire_at: Timestamp) {
        self.rehomed.insert(id, fire_at);
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

    /// Where the queues stand. Timer rows count only when one has ended, so that time passing on an idle
    /// shard is no reason to write.
    fn positions(
        &mut self,
        (shard, shard_count): (ShardId, i32),
        now: Timestamp,
        remotes: &[Remote],
    ) -> Positions {
        let committed = self.committed;
        let mut timer_rows = self
            .written
            .as_ref()
            .map(|w| w.timer_rows)
            .unwrap_or_default();
        if self.rows_ended {
            let fired = self.edge.min(now);
            let bound = match self.rows.first() {
                Some((at, id)) if *at <= fired => (*at, TaskId::new(id.get() - 1)),
                _ => (fired, TaskId::new(i64::MAX)),
            };
            timer_rows = timer_rows.max(bound);
        }
        Positions {
            transfer: self.transfer.level(committed),
            timer: self.near.level(committed),
            visibility: self.visibility.level(committed),
            replication: self.stream.level(shard, shard_count, committed, remotes),
            timer_rows,
            readers: self.stream.readers().clone(),
            dropped: self.stream.dropped(),
        }
    }
}
