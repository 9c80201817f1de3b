//! Recovery by a new owner of the shard: every outbox row above the acknowledgement levels, and timer rows as they
//! come near.

use std::{sync::Arc, time::Duration};

use cluster_core::task::Category;
use cluster_runtime::{TaskKind, retry};
use proto_ids::{TaskId, Timestamp};
use schema_store::execution::TimerRow;

use super::{Executable, Placement, QueuedTask, timer::TimerAction};
use crate::{error::ShardError, flush::RESCHEDULED_FOR_MAX, record::AckLevels, shard::Shard};

/// Rows read at once.
const PAGE: usize = 512;

const PAUSES: retry::Policy =
    retry::Policy::exponential(Duration::from_millis(50), Duration::from_secs(5));

impl Shard {
    /// Finds again what the owner before left, in the background: new work need not wait for it, since its
    /// ids and edge lie beyond.
    pub(crate) fn recover(&self, stored: AckLevels, first: TaskId) {
        let shard = self.clone();
        let tasks = &self.0.host.deps.tasks;
        tasks.spawn_restarting(TaskKind::Background, "recover-shard", move || {
            let (shard, stored) = (shard.clone(), stored.clone());
            async move { shard.recover_now(&stored, first).await }
        });
    }

    async fn recover_now(&self, stored: &AckLevels, first: TaskId) {
        let attempt = || async {
            self.recover_outbox(stored, first).await?;
            let edge = self.0.queues.state.lock().edge;
            self.load_timers(edge).await?;
            self.load_rescheduled(edge).await
        };
        let worth_it = |error: &ShardError| {
            tracing::warn!(shard = %self.id(), %error,
                "tasks left by the owner before cannot be read yet");
            !self.is_lost()
        };
        if retry::retry(&PAUSES, worth_it, attempt).await.is_ok() {
            self.0.queues.state.lock().recovered = true;
            self.mark_dirty();
            self.refill_visibility().await;
        }
    }

    async fn recover_outbox(&self, stored: &AckLevels, first: TaskId) -> Result<(), ShardError> {
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
                let category = Category::Transfer;
                let tasks = self.tasks_of_row(category, row.last_task_id, &row.data);
                for task in tasks.await? {
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
    fn take_over(&self, task: QueuedTask, stored: &AckLevels) -> bool {
        let level = match task.task.kind.category() {
            Category::Transfer => stored.transfer,
            Category::Timer => stored.timer,
            Category::Visibility => stored.visibility,
            Category::Replication => stored.replication,
        };
        if task.task_id <= level || !self.0.queues.state.lock().open(&task, Placement::Outbox) {
            return false;
        }
        let executable = Executable::new(self, Arc::new(task));
        match executable.task.task.fire_at {
            Some(at) => self.0.host.timers.arm(at, TimerAction::Fire(executable)),
            None => executable.dispatch(),
        }
        true
    }

    /// Brings timer rows due up to `edge` into memory, all that were not read before, and notes when to look
    /// again. A new owner begins with the first row there is: what is done was trimmed. Commits have to arm
    /// their own timers up to `edge` already; `read`, on which trimming relies, follows when everything is here.
    async fn load_timers(&self, edge: Timestamp) -> Result<(), ShardError> {
        let store = self.0.host.deps.store.execution.clone();
        let _in_order = self.0.queues.window.lock().await;
        let read = self.0.queues.state.lock().read;
        let mut after = (read, TaskId::new(i64::MAX));
        loop {
            let rows = store.timer_read(self.id(), after, edge, PAGE).await?;
            for row in &rows {
                after = (row.fire_at, row.task_id);
                for task in self.tasks_of_timer_row(row).await? {
                    self.arm_row(row.fire_at, task);
                }
            }
            if rows.len() < PAGE {
                break;
            }
        }
        {
            let mut state = self.0.queues.state.lock();
            assert!(
                edge <= state.edge,
                "rows are read up to an edge that commits do not keep"
            );
            state.read = state.read.max(edge);
        }
        // A timer that ended while its row was being read may have been waiting for this to be trimmed.
        self.mark_dirty();
        let beyond = (edge, TaskId::new(i64::MAX));
        let next = store
            .timer_read(self.id(), beyond, Timestamp::MAX, 1)
            .await?;
        if let Some(next) = next.first() {
            let window = self.0.queues.state.lock().look_ahead(next.fire_at, self);
            if let Some(at) = window {
                self.0
                    .host
                    .timers
                    .arm(at, TimerAction::LoadWindow(self.clone()));
            }
        }
        Ok(())
    }

    /// Tasks that are not timers but were rescheduled to timer rows because they hung: a new owner has to know
    /// of them at once, since the run may change or the namespace fail over before their rows are due.
    async fn load_rescheduled(&self, edge: Timestamp) -> Result<(), ShardError> {
        let host = &self.0.host;
        // Twice as far as such rows lie: the host that wrote them may have had another idea of the time.
        let until = host
            .now()
            .plus(2 * RESCHEDULED_FOR_MAX.max(host.options.reschedule_after));
        let mut after = (edge, TaskId::new(i64::MAX));
        loop {
            let store = &host.deps.store.execution;
            let rows = store.timer_read(self.id(), after, until, PAGE).await?;
            for row in &rows {
                after = (row.fire_at, row.task_id);
                for task in self.tasks_of_timer_row(row).await? {
                    if task.task.fire_at != Some(row.fire_at) {
                        self.arm_row(row.fire_at, task);
                    }
                }
            }
            if rows.len() < PAGE {
                return Ok(());
            }
        }
    }

    async fn tasks_of_timer_row(&self, row: &TimerRow) -> Result<Vec<QueuedTask>, ShardError> {
        let tasks = self.tasks_of_row(Category::Timer, row.task_id, &row.data);
        let tasks = tasks.await?;
        if tasks.is_empty() {
            let mut state = self.0.queues.state.lock();
            state.end_unread(row.fire_at, row.task_id);
        }
        Ok(tasks)
    }

    fn arm_row(&self, fire_at: Timestamp, task: QueuedTask) {
        let mut state = self.0.queues.state.lock();
        if state.has_ended(fire_at, task.task_id)
            || !state.open(&task, Placement::TimerRow(fire_at))
        {
            return;
        }
        let is_rescheduled = task.task.fire_at != Some(fire_at);
        if is_rescheduled {
            state.reschedule(task.task_id, fire_at);
        }
        drop(state);
        let executable = Executable::new(self, Arc::new(task));
        if is_rescheduled {
            // Overdue already when it was made to wait.
            executable.dispatch();
        } else {
            self.0
                .host
                .timers
                .arm(fire_at, TimerAction::Fire(executable));
        }
    }

    /// The window's end comes near: read the next one. The edge moves first, so that commits meanwhile arm
    /// their own timers.
    pub(super) fn advance_window(&self) {
        if self.is_lost() {
            return;
        }
        let host = &self.0.host;
        let edge = {
            let mut state = self.0.queues.state.lock();
            state.window_at = None;
            let next = host.now().plus(host.options.timer_window);
            state.edge = state.edge.max(next);
            state.edge
        };
        let shard = self.clone();
        let tasks = &host.deps.tasks;
        tasks.spawn_restarting(TaskKind::Background, "timer-window", move || {
            let shard = shard.clone();
            async move {
                let attempt = || shard.load_timers(edge);
                let worth_it = |error: &ShardError| {
                    tracing::warn!(shard = %shard.id(), %error, "timer rows cannot be read yet");
                    !shard.is_lost()
                };
                let _ = retry::retry(&PAUSES, worth_it, attempt).await;
            }
        });
    }
}
