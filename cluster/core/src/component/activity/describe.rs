//! Pending activities as DescribeWorkflowExecution shows them.

use proto_ids::Timestamp;
use proto_messages::{
    temporal::api::{
        activity::v1::ActivityOptions, enums::v1::PendingActivityState, workflow::v1 as view,
        workflowservice::v1::DescribeWorkflowExecutionResponse,
    },
    time::duration_to_proto,
};

use super::ActivityInfo;
use crate::{MutableState, describe::normal_queue, replica::at as time};

pub(super) fn describe(
    ms: &MutableState,
    now: Timestamp,
    to: &mut DescribeWorkflowExecutionResponse,
) {
    let pending = ms.activities.values();
    to.pending_activities = pending.map(|a| activity(a, now)).collect();
}

fn activity(a: &ActivityInfo, now: Timestamp) -> view::PendingActivityInfo {
    let state = activity_state(a);
    let backing_off =
        state == PendingActivityState::Scheduled && a.attempt > 1 && a.attempt_scheduled_time > now;
    let interval = a.attempt_scheduled_time.since(a.last_attempt_complete_time);
    view::PendingActivityInfo {
        activity_id: a.activity_id.clone(),
        activity_type: Some(a.activity_type.clone()),
        state: state as i32,
        heartbeat_details: a.heartbeat_details.clone(),
        last_heartbeat_time: time(a.last_heartbeat_time),
        last_started_time: time(a.started_time),
        attempt: a.attempt,
        maximum_attempts: a.retry_policy.as_ref().map_or(0, |p| p.maximum_attempts),
        scheduled_time: time(a.scheduled_time),
        expiration_time: time(a.retry_expiration),
        last_failure: a.last_failure.clone(),
        last_worker_identity: last_worker(a).to_owned(),
        current_retry_interval: backing_off.then(|| duration_to_proto(interval)),
        last_attempt_complete_time: time(a.last_attempt_complete_time),
        next_attempt_schedule_time: if backing_off {
            time(a.attempt_scheduled_time)
        } else {
            None
        },
        priority: a.priority.clone(),
        activity_options: Some(ActivityOptions {
            task_queue: Some(normal_queue(&a.task_queue)),
            schedule_to_close_timeout: Some(duration_to_proto(a.schedule_to_close_timeout)),
            schedule_to_start_timeout: Some(duration_to_proto(a.schedule_to_start_timeout)),
            start_to_close_timeout: Some(duration_to_proto(a.start_to_close_timeout)),
            heartbeat_timeout: Some(duration_to_proto(a.heartbeat_timeout)),
            retry_policy: a.retry_policy.clone(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn activity_state(a: &ActivityInfo) -> PendingActivityState {
    if a.cancel_requested_event_id.get() > 0 {
        PendingActivityState::CancelRequested
    } else if a.started_time.is_zero() {
        PendingActivityState::Scheduled
    } else {
        PendingActivityState::Started
    }
}

fn last_worker(a: &ActivityInfo) -> &str {
    if a.started_time.is_zero() || a.identity.is_empty() {
        &a.last_worker_identity
    } else {
        &a.identity
    }
}
