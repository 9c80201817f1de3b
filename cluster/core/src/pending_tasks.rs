//! The pending tasks of a run, generated from its mutable state alone. The applier asks the same questions to drop
//! tasks whose reason has gone, so a task is either pending here or not worth storing.

use proto_ids::{EventId, FailoverVersion, Timestamp};
use proto_messages::temporal::api::enums::v1::ParentClosePolicy;
use smallvec::SmallVec;

use crate::{
    Limits, MutableState,
    mutable_state::{ActivityInfo, Armed, WorkflowTask},
    task::{Task, TaskKind, Timeout},
};

impl MutableState {
    /// Generates every pending task from mutable state: after reset, import, a change of shard owner or a lost outbox.
    pub fn pending_tasks(&self, limits: &Limits) -> Vec<Task> {
        let version = self.last_version();
        let retention = Task {
            version,
            fire_at: Some(self.execution_info.close_time.plus(limits.retention)),
            kind: TaskKind::Retention,
        };
        if self.execution_info.zombie {
            // A zombie run is kept, but has no pending tasks until it wins, or its retention has passed.
            return match self.is_running() {
                true => Vec::new(),
                false => vec![retention],
            };
        }
        let mut tasks = vec![Task {
            version,
            fire_at: None,
            kind: TaskKind::Visibility,
        }];
        let mut add = |version: FailoverVersion, fire_at, kind| {
            tasks.push(Task {
                version,
                fire_at,
                kind,
            });
        };
        if !self.is_running() {
            add(version, None, TaskKind::Close);
            add(version, retention.fire_at, TaskKind::Retention);
        }
        for child in self.children.values() {
            let kind = TaskKind::StartChild {
                initiated_event_id: child.initiated_event_id,
            };
            if self.is_pending(&kind) {
                add(child.version, None, kind);
            }
        }
        if !self.is_running() {
            return tasks;
        }
        if let Some((at, kind)) = self.run_deadline() {
            add(version, Some(at), kind);
        }
        if !self.execution_info.first_workflow_task_scheduled
            && self.start.execution_time > self.start.start_time
        {
            add(
                version,
                Some(self.start.execution_time),
                TaskKind::WorkflowBackoff,
            );
        }
        if let Some(task) = &self.execution_info.workflow_task {
            self.pending_workflow_task(task, &mut add);
        }
        self.pending_item_tasks(&mut add);
        tasks
    }

    fn pending_item_tasks(
        &self,
        add: &mut impl FnMut(FailoverVersion, Option<Timestamp>, TaskKind),
    ) {
        for activity in self.activities.values() {
            activity.pending_tasks(add);
        }
        for timer in self.timers.values() {
            let kind = TaskKind::UserTimer {
                started_event_id: timer.started_event_id,
            };
            add(timer.version, Some(timer.expiry), kind);
        }
        for cancel in self.external_cancels.values() {
            let initiated_event_id = cancel.initiated_event_id;
            add(
                cancel.version,
                None,
                TaskKind::CancelExternal { initiated_event_id },
            );
        }
        for signal in self.external_signals.values() {
            let initiated_event_id = signal.initiated_event_id;
            add(
                signal.version,
                None,
                TaskKind::SignalExternal { initiated_event_id },
            );
        }
    }

    fn pending_workflow_task(
        &self,
        task: &WorkflowTask,
        add: &mut impl FnMut(FailoverVersion, Option<Timestamp>, TaskKind),
    ) {
        let (scheduled_event_id, attempt) = (task.scheduled_event_id, task.attempt);
        if task.started_event_id != EventId::default() {
            let timeout = Timeout::StartToClose;
            let at = task.started_time.plus(task.timeout);
            let kind = TaskKind::WorkflowTaskTimeout {
                scheduled_event_id,
                attempt,
                timeout,
            };
            add(task.version, Some(at), kind);
            return;
        }
        add(
            task.version,
            None,
            TaskKind::WorkflowTask {
                scheduled_event_id,
                attempt,
            },
        );
        if let Some(at) = self.sticky_deadline() {
            let timeout = Timeout::ScheduleToStart;
            let kind = TaskKind::WorkflowTaskTimeout {
                scheduled_event_id,
                attempt,
                timeout,
            };
            add(task.version, Some(at), kind);
        }
    }

    /// Whether a task is still pending: the reason for it still stands.
    pub fn is_pending(&self, kind: &TaskKind) -> bool {
        let running = self.is_running();
        match *kind {
            TaskKind::WorkflowTask {
                scheduled_event_id,
                attempt,
            } => self.has_attempt(scheduled_event_id, attempt, false),
            TaskKind::WorkflowTaskTimeout {
                scheduled_event_id,
                attempt,
                timeout,
            } => self.has_attempt(
                scheduled_event_id,
                attempt,
                timeout == Timeout::StartToClose,
            ),
            TaskKind::Activity {
                scheduled_event_id,
                attempt,
            }
            | TaskKind::ActivityRetry {
                scheduled_event_id,
                attempt,
            } => {
                running
                    && self
                        .activities
                        .get(&scheduled_event_id)
                        .is_some_and(|a| a.attempt == attempt && !a.is_started())
            }
            TaskKind::ActivityTimeout {
                scheduled_event_id,
                attempt,
                timeout,
            } => {
                running
                    && self.activities.get(&scheduled_event_id).is_some_and(|a| {
                        (timeout == Timeout::ScheduleToClose || a.attempt == attempt)
                            && a.deadline(timeout).is_some()
                    })
            }
            TaskKind::StartChild { initiated_event_id } => {
                self.children.get(&initiated_event_id).is_some_and(|c| {
                    c.started_event_id == EventId::default()
                        && (running || c.parent_close_policy == ParentClosePolicy::Abandon)
                })
            }
            TaskKind::SignalExternal { initiated_event_id } => {
                running && self.external_signals.contains_key(&initiated_event_id)
            }
            TaskKind::CancelExternal { initiated_event_id } => {
                running && self.external_cancels.contains_key(&initiated_event_id)
            }
            TaskKind::WorkflowBackoff => {
                running && !self.execution_info.first_workflow_task_scheduled
            }
            TaskKind::UserTimer { .. } | TaskKind::RunTimeout | TaskKind::ExecutionTimeout => {
                running
            }
            TaskKind::SyncActivity { scheduled_event_id } => {
                running && self.activities.contains_key(&scheduled_event_id)
            }
            TaskKind::Close | TaskKind::Retention => !running,
            TaskKind::Visibility
            | TaskKind::DeleteExecution
            | TaskKind::ReplicateHistory { .. }
            | TaskKind::SyncWorkflowState
            | TaskKind::ReplicateDelete => true,
        }
    }

    /// Whether this attempt of the workflow task is the pending one, started or not as `started` says.
    fn has_attempt(&self, scheduled_event_id: EventId, attempt: i32, started: bool) -> bool {
        self.execution_info.workflow_task.as_ref().is_some_and(|t| {
            t.scheduled_event_id == scheduled_event_id
                && t.attempt == attempt
                && started == (t.started_event_id != EventId::default())
        })
    }

    /// The earlier of the run timeout and the timeout over the whole chain.
    pub(crate) fn run_deadline(&self) -> Option<(Timestamp, TaskKind)> {
        let chain = self.start.execution_expiration;
        if self.start.run_timeout.is_zero() {
            return (!chain.is_zero()).then_some((chain, TaskKind::ExecutionTimeout));
        }
        let run = self.start.execution_time.plus(self.start.run_timeout);
        if !chain.is_zero() && chain <= run {
            return Some((chain, TaskKind::ExecutionTimeout));
        }
        Some((run, TaskKind::RunTimeout))
    }

    /// Until when a workflow task on the sticky queue may wait there.
    pub(crate) fn sticky_deadline(&self) -> Option<Timestamp> {
        let task = self
            .execution_info
            .workflow_task
            .as_ref()
            .filter(|t| t.sticky)?;
        let sticky = self.execution_info.sticky.as_ref()?;
        (!sticky.schedule_to_start_timeout.is_zero())
            .then(|| task.scheduled_time.plus(sticky.schedule_to_start_timeout))
    }
}

impl ActivityInfo {
    /// Whether the current attempt was handed to a worker.
    pub fn is_started(&self) -> bool {
        !self.started_time.is_zero()
    }

    /// When a timeout of the current attempt expires; `None` when it does not apply.
    pub fn deadline(&self, timeout: Timeout) -> Option<Timestamp> {
        let started = self.is_started();
        let (from, length) = match timeout {
            Timeout::ScheduleToStart if !started => {
                (self.attempt_scheduled_time, self.schedule_to_start_timeout)
            }
            Timeout::ScheduleToClose => (self.scheduled_time, self.schedule_to_close_timeout),
            Timeout::StartToClose if started => (self.started_time, self.start_to_close_timeout),
            Timeout::Heartbeat if started => (
                self.started_time.max(self.last_heartbeat_time),
                self.heartbeat_timeout,
            ),
            _ => return None,
        };
        (!length.is_zero()).then(|| from.plus(length))
    }

    /// All timeouts that apply now, earliest first.
    pub fn deadlines(&self) -> SmallVec<[(Timestamp, Timeout); 4]> {
        let kinds = [
            Timeout::ScheduleToStart,
            Timeout::ScheduleToClose,
            Timeout::StartToClose,
            Timeout::Heartbeat,
        ];
        let mut found: SmallVec<[_; 4]> = kinds
            .into_iter()
            .filter_map(|k| Some((self.deadline(k)?, k)))
            .collect();
        found.sort_unstable();
        found
    }

    /// Arms the earliest timeout unless it is armed already. One task under way is enough: when it fires,
    /// the next earliest is armed.
    pub(crate) fn arm(&mut self) -> Option<(Timestamp, TaskKind)> {
        let (at, timeout) = self.deadlines().first().copied()?;
        let flag = self.armed.flag(timeout);
        if std::mem::replace(flag, true) {
            return None;
        }
        if timeout == Timeout::Heartbeat {
            self.armed.heartbeat_at = at;
        }
        Some((at, self.timeout_task(timeout)))
    }

    fn timeout_task(&self, timeout: Timeout) -> TaskKind {
        TaskKind::ActivityTimeout {
            scheduled_event_id: self.scheduled_event_id,
            attempt: self.attempt,
            timeout,
        }
    }

    /// Forgets what was armed for the attempt that ended; the deadline over all attempts stays.
    pub(crate) fn disarm_attempt(&mut self) {
        let schedule_to_close = self.armed.schedule_to_close;
        self.armed = Armed {
            schedule_to_close,
            ..Armed::default()
        };
    }

    fn pending_tasks(&self, add: &mut impl FnMut(FailoverVersion, Option<Timestamp>, TaskKind)) {
        let (scheduled_event_id, attempt) = (self.scheduled_event_id, self.attempt);
        if !self.is_started() {
            if attempt > 1 {
                let at = Some(self.attempt_scheduled_time);
                add(
                    self.version,
                    at,
                    TaskKind::ActivityRetry {
                        scheduled_event_id,
                        attempt,
                    },
                );
            } else {
                add(
                    self.version,
                    None,
                    TaskKind::Activity {
                        scheduled_event_id,
                        attempt,
                    },
                );
            }
        }
        // What is armed is taken to be under way for good, so all of it has to be made again.
        let mut armed = self.armed;
        for (i, (at, timeout)) in self.deadlines().into_iter().enumerate() {
            if i == 0 || *armed.flag(timeout) {
                add(self.version, Some(at), self.timeout_task(timeout));
            }
        }
    }
}

impl Armed {
    fn flag(&mut self, timeout: Timeout) -> &mut bool {
        match timeout {
            Timeout::ScheduleToStart => &mut self.schedule_to_start,
            Timeout::ScheduleToClose => &mut self.schedule_to_close,
            Timeout::StartToClose => &mut self.start_to_close,
            Timeout::Heartbeat => &mut self.heartbeat,
        }
    }

    /// Clears the flags whose task has fired by `now`, given the deadlines they were armed for.
    pub(crate) fn clear_fired(&mut self, now: Timestamp) {
        if self.heartbeat && self.heartbeat_at <= now {
            self.heartbeat = false;
        }
    }
}
