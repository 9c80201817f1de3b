//! State outside history, replicated from another cluster: of an activity, and of the run itself.

use std::collections::BTreeSet;

use proto_ids::{EventId, RunId};

use crate::{
    Limits, MutableState,
    mutable_state::ActivityInfo,
    task::{Task, TaskKind},
    transition::{Applied, Delta, ItemKey},
};

/// State of a run that no event records. Each part is valid on every branch of the run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NonHistoryState {
    /// Request id of the call that started it; empty when unknown.
    pub create_request_id: String,
    /// Request id of the call that asked to cancel it; empty for none, or unknown.
    pub cancel_request_id: String,
    /// The run that a reset put in its place; empty for none.
    pub reset_run_id: RunId,
    /// Events of losing branches and runs that it was given: (run, event id, version).
    pub reapplied: BTreeSet<(RunId, i64, i64)>,
}

impl MutableState {
    /// Takes over state that no event records; what is known here already stays. `None` when nothing
    /// changed.
    pub fn sync_non_history(&mut self, non_history: NonHistoryState) -> Option<Delta> {
        let mut delta = Delta::default();
        let mut changed = false;
        if self.start.request_id.is_empty() && !non_history.create_request_id.is_empty() {
            self.start.request_id = non_history.create_request_id;
            delta.start = true;
        }
        // Only where the request itself is part of the history.
        if let Some(known) = &mut self.execution_info.cancel_request
            && known.is_empty()
            && !non_history.cancel_request_id.is_empty()
        {
            *known = non_history.cancel_request_id;
            changed = true;
        }
        if !non_history.reset_run_id.is_empty()
            && non_history.reset_run_id != self.execution_info.reset_run_id
        {
            self.execution_info.reset_run_id = non_history.reset_run_id;
            changed = true;
        }
        let before = self.execution_info.reapplied.len();
        self.execution_info.reapplied.extend(non_history.reapplied);
        changed |= self.execution_info.reapplied.len() != before;
        (changed || delta.start).then_some(delta)
    }

    /// Takes over what happened to an activity elsewhere. `None` when it is older than what is known here,
    /// or the activity is gone: nothing changed.
    pub fn sync_activity(&mut self, incoming: ActivityInfo, _limits: &Limits) -> Option<Applied> {
        if !self.is_running() {
            return None;
        }
        let id = incoming.scheduled_event_id;
        let local = self.activities.get_mut(&id)?;
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
        applied.delta.items.insert(ItemKey::Activity(id));
        let (version, attempt) = (local.version, local.attempt);
        // A zombie run is kept, but has no pending tasks.
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
}

impl MutableState {
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
