//! Pending items, each a row of its own.

use std::time::Duration;

use cluster_core::mutable_state::{
    ActivityInfo, Armed, ChildExecutionInfo, RequestCancelInfo, SignalInfo, TimerInfo,
};
use proto_ids::{EventId, FailoverVersion, Timestamp};
use proto_messages::temporal::api::enums::v1::ParentClosePolicy;

use super::{RecordError, decode_message, message};

pub(super) fn nanos(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}

pub(super) fn read_nanos(n: u64) -> Duration {
    Duration::from_nanos(n)
}

pub(super) fn activity(s: &ActivityInfo) -> message::Activity {
    message::Activity {
        version: s.version.get(),
        scheduled_event_id: s.scheduled_event_id.get(),
        scheduled_batch_id: s.scheduled_batch_id.get(),
        activity_id: s.activity_id.clone(),
        activity_type: Some(s.activity_type.clone()),
        task_queue: s.task_queue.clone(),
        input: s.input.clone(),
        header: s.header.clone(),
        scheduled_time: s.scheduled_time.nanos(),
        attempt_scheduled_time: s.attempt_scheduled_time.nanos(),
        started_event_id: s.started_event_id.get(),
        started_time: s.started_time.nanos(),
        request_id: s.request_id.clone(),
        identity: s.identity.clone(),
        attempt: s.attempt,
        schedule_to_close_timeout: nanos(s.schedule_to_close_timeout),
        schedule_to_start_timeout: nanos(s.schedule_to_start_timeout),
        start_to_close_timeout: nanos(s.start_to_close_timeout),
        heartbeat_timeout: nanos(s.heartbeat_timeout),
        last_heartbeat_time: s.last_heartbeat_time.nanos(),
        heartbeat_details: s.heartbeat_details.clone(),
        retry_policy: s.retry_policy.clone(),
        retry_expiration: s.retry_expiration.nanos(),
        last_failure: s.last_failure.clone(),
        last_worker_identity: s.last_worker_identity.clone(),
        last_attempt_complete_time: s.last_attempt_complete_time.nanos(),
        cancel_requested_event_id: s.cancel_requested_event_id.get(),
        eager: s.eager,
        priority: s.priority.clone(),
        user_metadata: s.user_metadata.clone(),
        armed: Some(armed(&s.armed)),
    }
}

pub(super) fn read_activity(data: &[u8]) -> Result<ActivityInfo, RecordError> {
    let s: message::Activity = decode_message("activity", data)?;
    Ok(ActivityInfo {
        version: FailoverVersion::new(s.version),
        scheduled_event_id: EventId::new(s.scheduled_event_id),
        scheduled_batch_id: EventId::new(s.scheduled_batch_id),
        activity_id: s.activity_id,
        activity_type: s.activity_type.unwrap_or_default(),
        task_queue: s.task_queue,
        input: s.input,
        header: s.header,
        scheduled_time: Timestamp::from_nanos(s.scheduled_time),
        attempt_scheduled_time: Timestamp::from_nanos(s.attempt_scheduled_time),
        started_event_id: EventId::new(s.started_event_id),
        started_time: Timestamp::from_nanos(s.started_time),
        request_id: s.request_id,
        identity: s.identity,
        attempt: s.attempt,
        schedule_to_close_timeout: read_nanos(s.schedule_to_close_timeout),
        schedule_to_start_timeout: read_nanos(s.schedule_to_start_timeout),
        start_to_close_timeout: read_nanos(s.start_to_close_timeout),
        heartbeat_timeout: read_nanos(s.heartbeat_timeout),
        last_heartbeat_time: Timestamp::from_nanos(s.last_heartbeat_time),
        heartbeat_details: s.heartbeat_details,
        retry_policy: s.retry_policy,
        retry_expiration: Timestamp::from_nanos(s.retry_expiration),
        last_failure: s.last_failure,
        last_worker_identity: s.last_worker_identity,
        last_attempt_complete_time: Timestamp::from_nanos(s.last_attempt_complete_time),
        cancel_requested_event_id: EventId::new(s.cancel_requested_event_id),
        eager: s.eager,
        priority: s.priority,
        user_metadata: s.user_metadata,
        armed: read_armed(s.armed),
        ..ActivityInfo::default()
    })
}

fn armed(s: &Armed) -> message::Armed {
    message::Armed {
        schedule_to_start: s.schedule_to_start,
        schedule_to_close: s.schedule_to_close,
        start_to_close: s.start_to_close,
        heartbeat: s.heartbeat,
        heartbeat_at: s.heartbeat_at.nanos(),
    }
}

fn read_armed(s: Option<message::Armed>) -> Armed {
    let s = s.unwrap_or_default();
    Armed {
        schedule_to_start: s.schedule_to_start,
        schedule_to_close: s.schedule_to_close,
        start_to_close: s.start_to_close,
        heartbeat: s.heartbeat,
        heartbeat_at: Timestamp::from_nanos(s.heartbeat_at),
        ..Armed::default()
    }
}

pub(super) fn timer(s: &TimerInfo) -> message::UserTimer {
    message::UserTimer {
        version: s.version.get(),
        timer_id: s.timer_id.clone(),
        started_event_id: s.started_event_id.get(),
        expiry: s.expiry.nanos(),
    }
}

pub(super) fn read_timer(data: &[u8]) -> Result<TimerInfo, RecordError> {
    let s: message::UserTimer = decode_message("timer", data)?;
    Ok(TimerInfo {
        version: FailoverVersion::new(s.version),
        timer_id: s.timer_id,
        started_event_id: EventId::new(s.started_event_id),
        expiry: Timestamp::from_nanos(s.expiry),
        ..TimerInfo::default()
    })
}

pub(super) fn child(s: &ChildExecutionInfo) -> message::Child {
    message::Child {
        version: s.version.get(),
        initiated_event_id: s.initiated_event_id.get(),
        initiated_batch_id: s.initiated_batch_id.get(),
        started_event_id: s.started_event_id.get(),
        namespace: s.namespace.clone(),
        namespace_id: s.namespace_id.clone(),
        workflow_id: s.workflow_id.clone(),
        run_id: s.run_id.to_string(),
        workflow_type: Some(s.workflow_type.clone()),
        create_request_id: s.create_request_id.clone(),
        parent_close_policy: s.parent_close_policy as i32,
    }
}

pub(super) fn read_child(data: &[u8]) -> Result<ChildExecutionInfo, RecordError> {
    let s: message::Child = decode_message("child", data)?;
    let policy = ParentClosePolicy::try_from(s.parent_close_policy).map_err(|_| {
        RecordError::Unknown("parent close policy", s.parent_close_policy.to_string())
    })?;
    Ok(ChildExecutionInfo {
        version: FailoverVersion::new(s.version),
        initiated_event_id: EventId::new(s.initiated_event_id),
        initiated_batch_id: EventId::new(s.initiated_batch_id),
        started_event_id: EventId::new(s.started_event_id),
        namespace: s.namespace,
        namespace_id: s.namespace_id,
        workflow_id: s.workflow_id,
        run_id: s.run_id.into(),
        workflow_type: s.workflow_type.unwrap_or_default(),
        create_request_id: s.create_request_id,
        parent_close_policy: policy,
        ..ChildExecutionInfo::default()
    })
}

pub(super) fn external_cancel(s: &RequestCancelInfo) -> message::ExternalCancel {
    message::ExternalCancel {
        version: s.version.get(),
        initiated_event_id: s.initiated_event_id.get(),
        initiated_batch_id: s.initiated_batch_id.get(),
        namespace: s.namespace.clone(),
        namespace_id: s.namespace_id.clone(),
        target: Some(s.target.clone()),
        request_id: s.request_id.clone(),
    }
}

pub(super) fn read_external_cancel(data: &[u8]) -> Result<RequestCancelInfo, RecordError> {
    let s: message::ExternalCancel = decode_message("external cancel", data)?;
    Ok(RequestCancelInfo {
        version: FailoverVersion::new(s.version),
        initiated_event_id: EventId::new(s.initiated_event_id),
        initiated_batch_id: EventId::new(s.initiated_batch_id),
        namespace: s.namespace,
        namespace_id: s.namespace_id,
        target: s.target.unwrap_or_default(),
        request_id: s.request_id,
        ..RequestCancelInfo::default()
    })
}

pub(super) fn external_signal(s: &SignalInfo) -> message::ExternalSignal {
    message::ExternalSignal {
        version: s.version.get(),
        initiated_event_id: s.initiated_event_id.get(),
        initiated_batch_id: s.initiated_batch_id.get(),
        namespace: s.namespace.clone(),
        namespace_id: s.namespace_id.clone(),
        target: Some(s.target.clone()),
        control: s.control.clone(),
        request_id: s.request_id.clone(),
    }
}

pub(super) fn read_external_signal(data: &[u8]) -> Result<SignalInfo, RecordError> {
    let s: message::ExternalSignal = decode_message("external signal", data)?;
    Ok(SignalInfo {
        version: FailoverVersion::new(s.version),
        initiated_event_id: EventId::new(s.initiated_event_id),
        initiated_batch_id: EventId::new(s.initiated_batch_id),
        namespace: s.namespace,
        namespace_id: s.namespace_id,
        target: s.target.unwrap_or_default(),
        control: s.control,
        request_id: s.request_id,
        ..SignalInfo::default()
    })
}
