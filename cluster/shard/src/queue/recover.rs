//! What a new owner owes: every outbox row above the acknowledged levels, and timer rows as they come near.

use std::{sync::Arc, time::Duration};

use cluster_core::task::Category;
use cluster_runtime::{TaskKind, retry};
use proto_ids::{TaskId, Timestamp};

use super::{Home, Job, QueuedTask, timer::What};
use crate::{
    error::ShardError,
    record::{self, Positions},
    shard::Shard,
    sweep::REHOMED_FOR_MAX,
};

/// Rows read at once.
const PAGE: usize = 512;

const PAUSES: retry::Policy =
    retry::Policy::exponential(Duration::from_millis(50), Duration::from_secs(5));

impl Shard {
    /// Finds again what the owner before left, in the background: new work need not wait for it, since its
    /// ids and edge lie beyond.
    pub(crate) fn recover(&self, stored: Positions, first: TaskId) {
        let shard = self.clone();
        let name = format!("recover-shard-{}", self.id());
        self.0.host.deps.tasks.spawn(TaskKind::Background, name, async move {
            let attempt = || async {
                shard.recover_outbox(&stored, first).await?;
                shard.load_timers(stored.timer_rows, None).await?;
                    shard.load_rehomed().await
            };
            let worth_it = |error: &ShardError| {
                tracing::warn!(shard = %shard.id(), %error, "tasks left by the owner before cannot be read yet");
                !shard.is_lost()
            };
            if retry::retry(&PAUSES, worth_it, attempt).await.is_ok() {
                shard.0.queues.state.lock().recovered = true;
                shard.mark();
            }
        });
    }

    async fn recover_outbox(&self, stored: &Positions, first: TaskId) -> Result<(), ShardError> {
        let store = &self.0.host.deps.store.execution;
        let mut after = stored.trim();
        let mut found = 0_usize;
        loop {
            let rows = store.outbox_read(self.id(), after, PAGE).await?;
            for row in &rows {
                after = row.last_task_id;
                if row.first_task_id >= first {
                    continue;
                }
                let tasks = read_tasks(&row.data)?;
                for task in tasks {
                    found += usize::from(self.take_over(task, stored));
                }
            }
            if rows.len() < PAGE || after >= first {
                break;
            }
        }
        if found > 0 {
            tracing::info!(shard = %self.id(), tasks = found, "took over tasks that were not done");
        }
        Ok(())
    }

    /// Registers and dispatches one task, unless it is done or known.
    fn take_over(&self, task: QueuedTask, stored: &Positions) -> bool {
        let level = match task.task.kind.category() {
            Category::Transfer => stored.transfer,
            Category::Timer => stored.timer,
            Category::Visibility => stored.visibility,
            Category::Replication => stored.replication,
        };
        if task.task_id <= level || !self.0.queues.state.lock().open(&task, Home::Outbox) {
            return false;
        }
        let job = Job::new(self, Arc::new(task));
        match job.task.task.fire_at {
            Some(at) => self.0.host.timers.arm(at, What::Fire(job)),
            None => job.dispatch(),
        }
        true
    }

    /// Brings timer rows due within the window into memory, and notes when to do so again. `after` is what
    /// was read before; the edge is moved first, so that commits meanwhile arm their own timers.
    pub(super) async fn load_timers(
        &self,
        after: (Timestamp, TaskId),
        edge: Option<Timestamp>,
    ) -> Result<(), ShardError> {
        let store = self.0.host.deps.store.execution.clone();
        let edge = match edge {
            Some(edge) => edge,
            None => self.0.queues.state.lock().edge,
        };
        let mut after = after;
        loop {
            let rows = store.timer_read(self.id(), after, edge, PAGE).await?;
            for row in &rows {
                after = (row.fire_at, row.task_id);
                self.arm_row(row.fire_at, &row.data)?;
            }
            if rows.len() < PAGE {
                break;
            }
        }
        let beyond = (edge, TaskId::new(i64::MAX));
        let next = store
            .timer_read(self.id(), beyond, Timestamp::MAX, 1)
            .await?;
        if let Some(next) = next.first() {
            let window = self.0.queues.state.lock().look_ahead(next.fire_at, self);
            if let Some(at) = window {
                self.0.host.timers.arm(at, What::Window(self.clone()));
            }
        }
        Ok(())
    }

    /// Tasks that are not timers but moved to timer rows because they hung: a new owner has to know of them at
    /// once, since the run may change or the namespace fail over before their rows are due.
    async fn load_rehomed(&self) -> Result<(), ShardError> {
        let host = &self.0.host;
        let edge = self.0.queues.state.lock().edge;
        let until = host
            .now()
            .plus(REHOMED_FOR_MAX.max(host.options.rehome_after));
        let mut after = (edge, TaskId::new(i64::MAX));
        loop {
            let store = &host.deps.store.execution;
            let rows = store.timer_read(self.id(), after, until, PAGE).await?;
            for row in &rows {
                after = (row.fire_at, row.task_id);
                for task in read_tasks(&row.data)? {
                    if task.task.fire_at != Some(row.fire_at) {
                        self.arm_task(row.fire_at, task);
                    }
                }
            }
            if rows.len() < PAGE {
                return Ok(());
            }
        }
    }

    fn arm_row(&self, fire_at: Timestamp, data: &[u8]) -> Result<(), ShardError> {
        for task in read_tasks(data)? {
            self.arm_task(fire_at, task);
        }
        Ok(())
    }

    fn arm_task(&self, fire_at: Timestamp, task: QueuedTask) {
        let mut state = self.0.queues.state.lock();
        if !state.open(&task, Home::Row(fire_at)) {
            return;
        }
        let is_rehomed = task.task.fire_at != Some(fire_at);
        if is_rehomed {
            state.rehome(task.task_id, fire_at);
        }
        drop(state);
        let job = Job::new(self, Arc::new(task));
        if is_rehomed {
            // Overdue already when it was made to wait.
            job.dispatch();
        } else {
            self.0.host.timers.arm(fire_at, What::Fire(job));
        }
    }

    /// The window's end comes near: read the next one.
    pub(super) fn advance_window(&self) {
        if self.is_lost() {
            return;
        }
        let shard = self.clone();
        self.0
            .host
            .deps
            .tasks
            .spawn(TaskKind::Background, "timer-window", async move {
                let host = &shard.0.host;
                let (before, edge) = {
                    let mut state = shard.0.queues.state.lock();
                    let before = state.edge;
                    state.window_at = None;
                    state.edge = before.max(host.now().plus(host.options.timer_window));
                    (before, state.edge)
                };
                let after = (before, TaskId::new(i64::MAX));
                let attempt = || shard.load_timers(after, Some(edge));
                let worth_it = |error: &ShardError| {
                    tracing::warn!(shard = %shard.id(), %error, "timer rows cannot be read yet");
                    !shard.is_lost()
                };
                let _ = retry::retry(&PAUSES, worth_it, attempt).await;
            });
    }
}

fn read_tasks(data: &[u8]) -> Result<Vec<QueuedTask>, ShardError> {
    record::decode_tasks(data).map_err(|e| ShardError::Corrupt(e.to_string()))
}
