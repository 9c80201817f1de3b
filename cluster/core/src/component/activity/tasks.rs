//! The tasks that activities owe. One timeout task under way is enough for each: when it fires, the next earliest
//! is armed.

use proto_ids::{EventId, Timestamp};
use smallvec::SmallVec;

use super::{ActivityInfo, Armed};
use crate::{
    MutableState,
    component::PendingTasks,
    task::{TaskKind, Timeout},
};

pub(super) fn is_pending(ms: &MutableState, kind: &TaskKind) -> bool {
    if !ms.is_running() {
        return false;
    }
    let pending = |id: &EventId| ms.activities.get(id);
    match kind {
        TaskKind::Activity {
            scheduled_event_id,
            attempt,
        }
        | TaskKind::ActivityRetry {
            scheduled_event_id,
            attempt,
        } => pending(scheduled_event_id).is_some_and(|a| a.attempt == *attempt && !a.is_started()),
        TaskKind::ActivityTimeout {
            scheduled_event_id,
            attempt,
            timeout,
        } => pending(scheduled_event_id).is_some_and(|a| {
            (*timeout == Timeout::ScheduleToClose || a.attempt == *attempt)
                && a.deadline(*timeout).is_some()
        }),
        TaskKind::SyncActivity { scheduled_event_id } => pending(scheduled_event_id).is_some(),
        _ => false,
    }
}

pub(super) fn pending_tasks(ms: &MutableState, pending: &mut PendingTasks<'_>) {
    if ms.is_running() {
        for activity in ms.activities.values() {
            activity.pending_tasks(pending);
        }
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
    pub(super) fn arm(&mut self) -> Option<(Timestamp, TaskKind)> {
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
    pub(super) fn disarm_attempt(&mut self) {
        let schedule_to_close = self.armed.schedule_to_close;
        self.armed = Armed {
            schedule_to_close,
            ..Armed::default()
        };
    }

    fn pending_tasks(&self, pending: &mut PendingTasks<'_>) {
        let (scheduled_event_id, attempt) = (self.scheduled_event_id, self.attempt);
        if !self.is_started() {
            if attempt > 1 {
                let at = Some(self.attempt_scheduled_time);
                pending.add(
                    self.version,
                    at,
                    TaskKind::ActivityRetry {
                        scheduled_event_id,
                        attempt,
                    },
                );
            } else {
                pending.add(
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
                pending.add(self.version, Some(at), self.timeout_task(timeout));
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
    pub(super) fn clear_fired(&mut self, now: Timestamp) {
        if self.heartbeat && self.heartbeat_at <= now {
            self.heartbeat = false;
        }
    }
}
