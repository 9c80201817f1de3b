//! The state of an activity that no event tells, as another cluster has it.

use proto_ids::EventId;

use super::{ActivityInfo, item_key};
use crate::{
    Limits, MutableState,
    task::{Task, TaskKind},
    transition::Applied,
};

impl MutableState {
    /// Takes over what happened to an activity elsewhere. `None` when it is older than what is known here,
    /// or the activity is gone: nothing changed.
    pub fn sync_activity(&mut self, incoming: ActivityInfo, _policy: &Limits) -> Option<Applied> {
        if !self.is_running() {
            return None;
        }
        let id = incoming.scheduled_event_id;
        let local = self.activities.0.get_mut(&id)?;
        if age(&incoming) <= age(local) {
            return None;
        }
        let retried = incoming.attempt > local.attempt && !incoming.is_started();
        // What is armed for the attempt stays armed: a standby keeps each timeout until the attempt ends, and
        // would keep one more for every heartbeat.
        if (incoming.version, incoming.attempt) != (local.version, local.attempt) {
            local.disarm_attempt();
        }
        local.version = incoming.version;
        local.attempt = incoming.attempt;
        local.attempt_scheduled_time = incoming.attempt_scheduled_time;
        local.started_time = incoming.started_time;
        if incoming.started_event_id != EventId::default() {
            local.started_event_id = incoming.started_event_id;
        }
        local.request_id = incoming.request_id;
        local.identity = incoming.identity;
        local.last_heartbeat_time = incoming.last_heartbeat_time;
        local.heartbeat_details = incoming.heartbeat_details;
        local.last_failure = incoming.last_failure;
        local.last_worker_identity = incoming.last_worker_identity;
        local.last_attempt_complete_time = incoming.last_attempt_complete_time;
        let mut applied = Applied::default();
        applied.delta.items.insert(item_key(&id));
        let (version, attempt) = (local.version, local.attempt);
        // A run that lost to another one is kept, but owes nothing.
        if self.execution_info.zombie {
            return Some(applied);
        }
        let mut add_task = |fire_at, kind| {
            applied.tasks.push(Task {
                version,
                fire_at,
                kind,
            })
        };
        if retried {
            let due = Some(local.attempt_scheduled_time);
            add_task(
                due,
                TaskKind::ActivityRetry {
                    scheduled_event_id: id,
                    attempt,
                },
            );
        }
        if let Some((at, kind)) = local.arm() {
            add_task(Some(at), kind);
        }
        Some(applied)
    }

    /// Whether in-flight state of an activity that another cluster has is known here, or of no use: what
    /// [`Self::sync_activity`] would leave out.
    pub fn knows_activity(&self, other: &ActivityInfo) -> bool {
        let local = self.activities.get(&other.scheduled_event_id);
        !self.is_running() || local.is_none_or(|local| age(other) <= age(local))
    }
}

/// The order of two states of one activity: by writer, then by attempt, then by what happened in it.
fn age(a: &ActivityInfo) -> impl Ord + use<> {
    (a.version, a.attempt, a.is_started(), a.last_heartbeat_time)
}
