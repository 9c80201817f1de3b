//! Activities: attempts, heartbeats, results.

use std::time::Duration;

use proto_ids::{EventId, Timestamp};
use proto_messages::temporal::api::{
    common::v1::Payloads,
    enums::v1::RetryState,
    failure::v1::Failure,
    history::v1::{
        ActivityTaskCanceledEventAttributes, ActivityTaskCompletedEventAttributes,
        ActivityTaskFailedEventAttributes, ActivityTaskStartedEventAttributes,
    },
};

use super::{ActivityInfo, item_key};
use crate::{
    Durability, MutableState, Refusal, Reply,
    decision::Decision,
    event::{Attributes, new_event},
    limits::server_failure,
    request::ActivityRef,
    retry,
    task::TaskKind,
};

const TOO_LARGE: &str = "Failure exceeds size limit.";

fn size(payloads: &Option<Payloads>) -> usize {
    payloads.as_ref().map_or(0, prost::Message::encoded_len)
}

/// The activity a caller means. By token it must be the attempt that runs; by id any pending one.
fn find<'a>(ms: &'a MutableState, activity: &ActivityRef) -> Result<&'a ActivityInfo, Refusal> {
    let found = match activity {
        ActivityRef::Token {
            scheduled_event_id,
            attempt,
        } => ms
            .activities
            .get(scheduled_event_id)
            .filter(|a| a.is_started() && a.attempt == *attempt),
        ActivityRef::Id(id) => ms.activities.values().find(|a| a.activity_id == *id),
    };
    found.ok_or(Refusal::ActivityNotFound)
}

/// [`find`] for what only a worker that runs the activity can say.
fn find_started(ms: &MutableState, activity: &ActivityRef) -> Result<EventId, Refusal> {
    let found = find(ms, activity)?;
    if found.is_started() {
        Ok(found.scheduled_event_id)
    } else {
        Err(Refusal::ActivityNotFound)
    }
}

/// The failure of an activity that sent more than a field may hold: trying again would send the same bytes.
fn too_large(decision: &Decision<'_>, bytes: usize, text: &str) -> Option<Failure> {
    (bytes > decision.ctx.limits.blob_size_error).then(|| server_failure(text.to_owned(), true))
}

pub(crate) fn start(
    decision: &mut Decision<'_>,
    scheduled_event_id: EventId,
    attempt: i32,
    request_id: String,
    identity: String,
) -> Result<(), Refusal> {
    let Some(activity) = decision.ms.activities.get(&scheduled_event_id) else {
        return Err(Refusal::ActivityNotFound);
    };
    if attempt != 0 && activity.attempt != attempt {
        return Err(Refusal::ActivityNotFound);
    }
    decision.reply = Reply::ActivityStarted;
    if activity.is_started() {
        return if activity.request_id == request_id {
            Ok(())
        } else {
            Err(Refusal::AlreadyStarted)
        };
    }
    // Where attempts are counted none may run twice, so nobody may run one before "started" is safe. Of an
    // activity that is tried again for ever, one that a crash repeats is one attempt more.
    let is_counted = activity
        .retry_policy
        .as_ref()
        .is_none_or(|p| p.maximum_attempts > 0);
    decision.durability = if is_counted {
        Durability::Durable
    } else {
        Durability::WriteBehind
    };
    begin_attempt(decision, scheduled_event_id, request_id, identity)
}

/// Marks the attempt as started. With retries its event is written when the activity closes.
pub(crate) fn begin_attempt(
    decision: &mut Decision<'_>,
    id: EventId,
    request_id: String,
    identity: String,
) -> Result<(), Refusal> {
    let (now, version) = (decision.now(), decision.version());
    let Some(activity) = decision.ms.activities.0.get_mut(&id) else {
        return Err(Refusal::ActivityNotFound);
    };
    if activity.retry_policy.is_none() {
        let attributes = ActivityTaskStartedEventAttributes {
            scheduled_event_id: id.get(),
            identity,
            request_id,
            attempt: activity.attempt,
            ..Default::default()
        };
        return decision.record(Attributes::ActivityTaskStartedEventAttributes(attributes));
    }
    activity.version = version;
    activity.started_time = now;
    activity.request_id = request_id;
    activity.identity = identity;
    let armed = activity.arm();
    if let Some((at, kind)) = armed {
        decision.add_task(Some(at), kind);
    }
    changed(decision, id);
    Ok(())
}

/// Notes a change that no event stands for: the activity's state is replicated.
fn changed(decision: &mut Decision<'_>, id: EventId) {
    decision.touch(item_key(&id));
    if decision.ctx.limits.replicated {
        decision.add_task(
            None,
            TaskKind::SyncActivity {
                scheduled_event_id: id,
            },
        );
    }
}

pub(crate) fn heartbeat(
    decision: &mut Decision<'_>,
    activity: &ActivityRef,
    details: Option<Payloads>,
    identity: String,
) -> Result<(), Refusal> {
    let id = find_started(decision.ms, activity)?;
    let text = "Heartbeat details exceed size limit.";
    if let Some(failure) = too_large(decision, size(&details), text) {
        end_failed(decision, id, failure, identity)?;
        decision.reply = Reply::Heartbeat {
            cancel_requested: true,
            paused: false,
        };
        return Ok(());
    }
    let (now, version) = (decision.now(), decision.version());
    let Some(activity) = decision.ms.activities.0.get_mut(&id) else {
        return Err(Refusal::ActivityNotFound);
    };
    activity.version = version;
    // Other clusters tell the later of two heartbeats by it, so it rises when the clock was set back, too.
    let after_last = activity.last_heartbeat_time.plus(Duration::from_nanos(1));
    activity.last_heartbeat_time = now.max(after_last);
    activity.heartbeat_details = details;
    if activity.identity.is_empty() {
        activity.identity = identity;
    }
    decision.reply = Reply::Heartbeat {
        cancel_requested: activity.cancel_requested_event_id != EventId::default(),
        paused: false,
    };
    // Durable before the answer: a worker that dies right after is replaced by one that goes on from here.
    decision.durability = Durability::Durable;
    changed(decision, id);
    Ok(())
}

pub(crate) fn complete(
    decision: &mut Decision<'_>,
    activity: &ActivityRef,
    result: Option<Payloads>,
    identity: String,
) -> Result<(), Refusal> {
    let id = find(decision.ms, activity)?.scheduled_event_id;
    decision.ms.check_room(decision.ctx.limits)?;
    let text = "Complete result exceeds size limit.";
    if let Some(failure) = too_large(decision, size(&result), text) {
        return end_failed(decision, id, failure, identity);
    }
    let started_event_id = write_started(decision, id, &identity)?;
    decision.record(Attributes::ActivityTaskCompletedEventAttributes(
        ActivityTaskCompletedEventAttributes {
            result,
            scheduled_event_id: id.get(),
            started_event_id,
            identity,
            ..Default::default()
        },
    ))?;
    decision.schedule_workflow_task()
}

pub(crate) fn fail(
    decision: &mut Decision<'_>,
    activity: &ActivityRef,
    failure: Option<Failure>,
    last_heartbeat_details: Option<Payloads>,
    identity: String,
) -> Result<(), Refusal> {
    let id = find_started(decision.ms, activity)?;
    decision.ms.check_room(decision.ctx.limits)?;
    let bytes = failure.as_ref().map_or(0, prost::Message::encoded_len);
    if let Some(failure) = too_large(decision, bytes, TOO_LARGE) {
        return end_failed(decision, id, failure, identity);
    }
    match retry(decision, id, failure.as_ref(), last_heartbeat_details) {
        Ok(()) => Ok(()),
        Err(state) => write_failed(decision, id, failure, state, identity),
    }
}

/// Fails the activity for good.
fn end_failed(
    decision: &mut Decision<'_>,
    id: EventId,
    failure: Failure,
    identity: String,
) -> Result<(), Refusal> {
    write_failed(
        decision,
        id,
        Some(failure),
        RetryState::NonRetryableFailure,
        identity,
    )
}

fn write_failed(
    decision: &mut Decision<'_>,
    id: EventId,
    failure: Option<Failure>,
    retry_state: RetryState,
    identity: String,
) -> Result<(), Refusal> {
    let started_event_id = write_started(decision, id, &identity)?;
    decision.record(Attributes::ActivityTaskFailedEventAttributes(
        ActivityTaskFailedEventAttributes {
            failure,
            scheduled_event_id: id.get(),
            started_event_id,
            identity,
            retry_state: retry_state.into(),
            ..Default::default()
        },
    ))?;
    decision.schedule_workflow_task()
}

pub(crate) fn cancel(
    decision: &mut Decision<'_>,
    activity: &ActivityRef,
    details: Option<Payloads>,
    identity: String,
) -> Result<(), Refusal> {
    let id = find_started(decision.ms, activity)?;
    let requested = find(decision.ms, activity)?.cancel_requested_event_id;
    if requested == EventId::default() {
        let text =
            "unable to mark activity as canceled without activity being request canceled first";
        return Err(Refusal::Invalid(text.into()));
    }
    let text = "Cancel details exceed size limit.";
    if let Some(failure) = too_large(decision, size(&details), text) {
        return end_failed(decision, id, failure, identity);
    }
    let started_event_id = write_started(decision, id, &identity)?;
    decision.record(Attributes::ActivityTaskCanceledEventAttributes(
        ActivityTaskCanceledEventAttributes {
            details,
            latest_cancel_requested_event_id: requested.get(),
            scheduled_event_id: id.get(),
            started_event_id,
            identity,
            ..Default::default()
        },
    ))?;
    decision.schedule_workflow_task()
}

/// Writes the started event that was held back while the attempt might still have been retried. An
/// activity without a start is taken to have been started by the worker that ends it.
pub(super) fn write_started(
    decision: &mut Decision<'_>,
    id: EventId,
    identity: &str,
) -> Result<i64, Refusal> {
    let Some(activity) = decision.ms.activities.get(&id) else {
        return Err(Refusal::ActivityNotFound);
    };
    if activity.started_event_id != EventId::default() {
        return Ok(activity.started_event_id.get());
    }
    let started = activity.is_started();
    let attributes = ActivityTaskStartedEventAttributes {
        scheduled_event_id: id.get(),
        identity: if started {
            activity.identity.clone()
        } else {
            identity.to_owned()
        },
        request_id: activity.request_id.clone(),
        attempt: activity.attempt,
        last_failure: activity.last_failure.clone(),
        ..Default::default()
    };
    let at = if started {
        activity.started_time
    } else {
        decision.now()
    };
    let attributes = Attributes::ActivityTaskStartedEventAttributes(attributes);
    decision.record_event(new_event(attributes, at, decision.version()))?;
    let written = decision
        .ms
        .activities
        .get(&id)
        .map(|a| a.started_event_id)
        .unwrap_or_default();
    Ok(written.get())
}

/// Moves the activity on to its next attempt, or says why there is none.
pub(super) fn retry(
    decision: &mut Decision<'_>,
    id: EventId,
    failure: Option<&Failure>,
    last_heartbeat_details: Option<Payloads>,
) -> Result<(), RetryState> {
    let (now, version) = (decision.now(), decision.version());
    let most = decision.ctx.limits.activity_failure_size_error;
    let Some(activity) = decision.ms.activities.0.get_mut(&id) else {
        return Err(RetryState::InternalServerError);
    };
    let backoff = may_retry(activity, failure, now)?;
    let due = now.plus(backoff);
    activity.version = version;
    activity.attempt = activity.attempt.saturating_add(1);
    activity.attempt_scheduled_time = due;
    activity.started_time = Timestamp::ZERO;
    activity.request_id.clear();
    activity.last_worker_identity = std::mem::take(&mut activity.identity);
    activity.last_attempt_complete_time = now;
    activity.last_failure = failure.map(|f| kept_between_attempts(f, most));
    if last_heartbeat_details.is_some() {
        activity.heartbeat_details = last_heartbeat_details;
    }
    activity.disarm_attempt();
    let attempt = activity.attempt;
    let armed = activity.arm();
    decision.add_task(
        Some(due),
        TaskKind::ActivityRetry {
            scheduled_event_id: id,
            attempt,
        },
    );
    if let Some((at, kind)) = armed {
        decision.add_task(Some(at), kind);
    }
    changed(decision, id);
    Ok(())
}

/// The part of a failure that is kept while the activity is retried: state must stay small. The last attempt's
/// failure goes to history whole.
fn kept_between_attempts(failure: &Failure, most: usize) -> Failure {
    if prost::Message::encoded_len(failure) <= most {
        return failure.clone();
    }
    let mut cut = failure.message.len().min(most / 2);
    while !failure.message.is_char_boundary(cut) {
        cut -= 1;
    }
    let short = Failure {
        message: failure.message[..cut].to_owned(),
        source: failure.source.clone(),
        ..Default::default()
    };
    Failure {
        cause: Some(Box::new(short)),
        ..server_failure(TOO_LARGE.to_owned(), false)
    }
}

fn may_retry(
    activity: &ActivityInfo,
    failure: Option<&Failure>,
    now: Timestamp,
) -> Result<std::time::Duration, RetryState> {
    let Some(policy) = &activity.retry_policy else {
        return Err(RetryState::RetryPolicyNotSet);
    };
    if activity.cancel_requested_event_id != EventId::default() {
        return Err(RetryState::CancelRequested);
    }
    if retry::ends_all_attempts(failure) {
        return Err(RetryState::Timeout);
    }
    if !retry::is_retryable(failure, &policy.non_retryable_error_types) {
        return Err(RetryState::NonRetryableFailure);
    }
    let asked = retry::requested_delay(failure);
    retry::next_backoff(
        policy,
        activity.attempt,
        now,
        activity.retry_expiration,
        asked,
    )
}
