//! In-flight state of activities. The core says which state is newer, and arms timeouts and the retry, so
//! that a failover finds them armed.

use cluster_core::{Durability, Transition, VersionItem, mutable_state::ActivityInfo};
use cluster_shard::Txn;
use proto_ids::{EventId, RunId, Timestamp};
use proto_messages::{temporal::server::api::replication::v1::SyncActivityTaskAttributes, time};
use replication_ndc::{Admission, activity};

use super::absorb::{ApplyError, keep_tasks, loaded};
use crate::wire;

/// The started event of an attempt that runs without one being written yet, as Temporal numbers it.
pub(crate) const TRANSIENT_EVENT: i64 = -124;

/// The result of syncing an activity's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is here now.
    Applied,
    /// The local state is as new.
    Duplicate,
    /// There is nothing it could belong to.
    Skipped,
}

/// Takes an activity's state over.
pub(super) async fn take(
    txn: &mut Txn,
    run_id: &RunId,
    attributes: &SyncActivityTaskAttributes,
) -> Result<Taken, ApplyError> {
    let Some(run) = txn.peek(run_id).await? else {
        return Ok(Taken::Skipped);
    };
    let items: Vec<VersionItem> = attributes
        .version_history
        .as_ref()
        .map(|history| wire::items_from_wire(&history.items))
        .unwrap_or_default();
    let scheduled = EventId::new(attributes.scheduled_event_id);
    match activity::admit(&run.versions, &items, scheduled)? {
        Admission::Admit => {}
        Admission::Drop => return Ok(Taken::Skipped),
        Admission::Gap(missing) => return Err(ApplyError::Gap(missing)),
    }
    if !run.is_running() || !run.activities.contains_key(&scheduled) {
        return Ok(Taken::Skipped);
    }
    let context = txn.decision_context();
    let run = loaded(txn, run_id).await?;
    let Some(applied) = run.sync_activity(in_flight(attributes), context.borrowed().limits) else {
        return Ok(Taken::Duplicate);
    };
    let mut tasks = applied.tasks;
    keep_tasks(run, &mut tasks);
    let transition = Transition {
        delta: applied.delta,
        tasks,
        durability: Durability::Durable,
        ..Transition::default()
    };
    txn.put(run_id, transition)?;
    Ok(Taken::Applied)
}

fn in_flight(a: &SyncActivityTaskAttributes) -> ActivityInfo {
    let at = |time: Option<&prost_types::Timestamp>| {
        time.map(time::from_proto).unwrap_or(Timestamp::ZERO)
    };
    let is_started = a.started_event_id != 0;
    ActivityInfo {
        version: a.version.into(),
        scheduled_event_id: a.scheduled_event_id.into(),
        attempt: a.attempt.max(1),
        attempt_scheduled_time: at(a.scheduled_time.as_ref()),
        started_event_id: EventId::new(a.started_event_id.max(0)),
        started_time: if is_started {
            at(a.started_time.as_ref())
        } else {
            Timestamp::ZERO
        },
        last_heartbeat_time: at(a.last_heartbeat_time.as_ref()),
        heartbeat_details: a.details.clone(),
        last_failure: a.last_failure.clone(),
        last_worker_identity: a.last_worker_identity.clone(),
        last_attempt_complete_time: at(a.last_attempt_complete_time.as_ref()),
        ..ActivityInfo::default()
    }
}
