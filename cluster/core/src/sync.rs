//! An activity's state outside history, as another cluster tells it.

use proto_ids::EventId;

use crate::{
    Policy, Workflow,
    outcome::{Applied, ItemKey},
    state::{Activity, Armed},
    task::{Task, TaskKind},
};

impl Workflow {
    /// Takes over what happened to an activity elsewhere. `None` when it is older than what is known here,
    /// or the activity is gone: nothing changed.
    pub fn sync_activity(&mut self, incoming: Activity, _policy: &Policy) -> Option<Applied> {
        if !self.is_running() {
            return None;
        }
        let id = incoming.scheduled_event_id;
        let local = self.activities.get_mut(&id)?;
        if age(&incoming) <= age(local) {
            return None;
        }
        let retried = incoming.attempt > local.attempt && !incoming.is_started();
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
        local.armed = Armed::default();
        let mut applied = Applied::default();
        applied.delta.items.insert(ItemKey::Activity(id));
        let (version, attempt) = (local.version, local.attempt);
        // A run that lost to another one is kept, but owes nothing.
        if self.hot.zombie {
            return Some(applied);
        }
        let mut owe = |fire_at, kind| {
            applied.tasks.push(Task {
                version,
                fire_at,
                kind,
            })
        };
        if retried {
            let due = Some(local.attempt_scheduled_time);
            owe(
                due,
                TaskKind::ActivityRetry {
                    scheduled_event_id: id,
                    attempt,
                },
            );
        }
        if let Some((at, kind)) = local.arm() {
            owe(Some(at), kind);
        }
        Some(applied)
    }
}

/// What orders two states of one activity: the later writer, then the attempt, then what happened in it.
fn age(a: &Activity) -> impl Ord + use<> {
    (a.version, a.attempt, a.is_started(), a.last_heartbeat_time)
}
