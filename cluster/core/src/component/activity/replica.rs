//! Activities as other clusters and tools see them.

use proto_ids::EventId;
use proto_messages::temporal::server::api::persistence::v1 as wire;

use super::ActivityInfo;
use crate::{
    MutableState,
    replica::{at, lasting},
};

pub(super) fn replicate(ms: &MutableState, to: &mut wire::WorkflowMutableState) {
    let infos = ms.activities.iter();
    let infos = infos.map(|(id, activity)| (id.get(), activity_info(activity)));
    to.activity_infos = infos.collect();
}

fn activity_info(activity: &ActivityInfo) -> wire::ActivityInfo {
    let mut info = wire::ActivityInfo {
        version: activity.version.get(),
        scheduled_event_batch_id: activity.scheduled_batch_id.get(),
        scheduled_event_id: activity.scheduled_event_id.get(),
        scheduled_time: at(activity.attempt_scheduled_time),
        first_scheduled_time: at(activity.scheduled_time),
        started_event_id: activity.started_event_id.get(),
        started_time: at(activity.started_time),
        activity_id: activity.activity_id.clone(),
        request_id: activity.request_id.clone(),
        schedule_to_start_timeout: lasting(activity.schedule_to_start_timeout),
        schedule_to_close_timeout: lasting(activity.schedule_to_close_timeout),
        start_to_close_timeout: lasting(activity.start_to_close_timeout),
        heartbeat_timeout: lasting(activity.heartbeat_timeout),
        cancel_requested: activity.cancel_requested_event_id != EventId::default(),
        cancel_request_id: activity.cancel_requested_event_id.get(),
        attempt: activity.attempt,
        task_queue: activity.task_queue.clone(),
        started_identity: activity.identity.clone(),
        retry_expiration_time: at(activity.retry_expiration),
        retry_last_failure: activity.last_failure.clone(),
        retry_last_worker_identity: activity.last_worker_identity.clone(),
        last_heartbeat_details: activity.heartbeat_details.clone(),
        last_heartbeat_update_time: at(activity.last_heartbeat_time),
        activity_type: Some(activity.activity_type.clone()),
        last_attempt_complete_time: at(activity.last_attempt_complete_time),
        priority: activity.priority.clone(),
        start_version: activity.version.get(),
        ..wire::ActivityInfo::default()
    };
    if let Some(policy) = &activity.retry_policy {
        info.has_retry_policy = true;
        info.retry_initial_interval = policy.initial_interval;
        info.retry_maximum_interval = policy.maximum_interval;
        info.retry_maximum_attempts = policy.maximum_attempts;
        info.retry_backoff_coefficient = policy.backoff_coefficient;
        info.retry_non_retryable_error_types = policy.non_retryable_error_types.clone();
    }
    info
}
