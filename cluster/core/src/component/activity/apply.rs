//! Activities in history. What happens between scheduling and closing (attempts, heartbeats) is mostly
//! outside history and changes state through requests or through `sync_activity`.

use proto_ids::{EventId, FailoverVersion, Timestamp};
use proto_messages::{
    temporal::api::{
        common::v1::Payloads,
        enums::v1::RetryState,
        failure::v1::Failure,
        history::v1::{
            ActivityTaskCancelRequestedEventAttributes, ActivityTaskFailedEventAttributes,
            ActivityTaskScheduledEventAttributes, ActivityTaskStartedEventAttributes, HistoryEvent,
        },
    },
    time::duration_from_proto,
};

use super::{ActivityInfo, item_key};
use crate::{
    MutableState, Refusal,
    apply::Scope,
    component::Placing,
    decision::Decision,
    event::{Attributes, corrupt, event_time},
    limits::SERVER,
    task::TaskKind,
    transition::Corrupt,
};

pub(super) fn apply(
    ms: &mut MutableState,
    event: &HistoryEvent,
    attributes: &Attributes,
    scope: &mut Scope<'_>,
) -> Result<(), Corrupt> {
    use Attributes as A;
    match attributes {
        A::ActivityTaskScheduledEventAttributes(a) => ms.activity_scheduled(event, a, scope),
        A::ActivityTaskStartedEventAttributes(a) => ms.activity_started(event, a, scope)?,
        A::ActivityTaskCancelRequestedEventAttributes(a) => {
            ms.activity_cancel_requested(event, a, scope)
        }
        A::ActivityTaskCompletedEventAttributes(a) => {
            ms.activity_closed(event, a.scheduled_event_id, scope)?
        }
        A::ActivityTaskFailedEventAttributes(a) => {
            ms.activity_closed(event, a.scheduled_event_id, scope)?
        }
        A::ActivityTaskTimedOutEventAttributes(a) => {
            ms.activity_closed(event, a.scheduled_event_id, scope)?
        }
        A::ActivityTaskCanceledEventAttributes(a) => {
            ms.activity_closed(event, a.scheduled_event_id, scope)?
        }
        _ => {}
    }
    Ok(())
}

/// A started event that waited in the buffer gets its id; so does the activity, and the result beside it.
pub(super) fn place(ms: &mut MutableState, event: &mut HistoryEvent, placing: &mut Placing<'_>) {
    use Attributes as A;
    match &mut event.attributes {
        Some(A::ActivityTaskStartedEventAttributes(a)) => {
            let scheduled = EventId::new(a.scheduled_event_id);
            let id = EventId::new(event.event_id);
            placing.started.push((a.scheduled_event_id, id));
            if let Some(activity) = ms.activities.0.get_mut(&scheduled) {
                activity.started_event_id = id;
                let delta = &mut placing.applied.delta;
                delta.items.insert(item_key(&scheduled));
            }
        }
        Some(A::ActivityTaskCompletedEventAttributes(a)) => {
            placing.name_started(a.scheduled_event_id, &mut a.started_event_id)
        }
        Some(A::ActivityTaskFailedEventAttributes(a)) => {
            placing.name_started(a.scheduled_event_id, &mut a.started_event_id)
        }
        Some(A::ActivityTaskCanceledEventAttributes(a)) => {
            placing.name_started(a.scheduled_event_id, &mut a.started_event_id)
        }
        Some(A::ActivityTaskTimedOutEventAttributes(a)) => {
            placing.name_started(a.scheduled_event_id, &mut a.started_event_id)
        }
        _ => {}
    }
}

impl MutableState {
    fn activity_scheduled(
        &mut self,
        event: &HistoryEvent,
        a: &ActivityTaskScheduledEventAttributes,
        scope: &mut Scope<'_>,
    ) {
        let id = EventId::new(event.event_id);
        let at = event_time(event);
        let schedule_to_close = duration_from_proto(a.schedule_to_close_timeout.as_ref());
        let mut activity = ActivityInfo {
            version: FailoverVersion::new(event.version),
            scheduled_event_id: id,
            scheduled_batch_id: scope.batch_first,
            activity_id: a.activity_id.clone(),
            activity_type: a.activity_type.clone().unwrap_or_default(),
            task_queue: a
                .task_queue
                .as_ref()
                .map(|q| q.name.clone())
                .unwrap_or_default(),
            input: a.input.clone(),
            header: a.header.clone(),
            scheduled_time: at,
            attempt_scheduled_time: at,
            attempt: 1,
            schedule_to_close_timeout: schedule_to_close,
            schedule_to_start_timeout: duration_from_proto(a.schedule_to_start_timeout.as_ref()),
            start_to_close_timeout: duration_from_proto(a.start_to_close_timeout.as_ref()),
            heartbeat_timeout: duration_from_proto(a.heartbeat_timeout.as_ref()),
            retry_policy: a.retry_policy.clone(),
            retry_expiration: if schedule_to_close.is_zero() {
                Timestamp::ZERO
            } else {
                at.plus(schedule_to_close)
            },
            priority: a.priority.clone(),
            user_metadata: event.user_metadata.clone(),
            ..Default::default()
        };
        scope.now(
            event,
            TaskKind::Activity {
                scheduled_event_id: id,
                attempt: 1,
            },
        );
        if let Some((at, kind)) = activity.arm() {
            scope.at(event, at, kind);
        }
        self.activities.0.insert(id, activity);
        scope.touch(item_key(&id));
    }

    fn activity_started(
        &mut self,
        event: &HistoryEvent,
        a: &ActivityTaskStartedEventAttributes,
        scope: &mut Scope<'_>,
    ) -> Result<(), Corrupt> {
        let id = EventId::new(a.scheduled_event_id);
        let Some(activity) = self.activities.0.get_mut(&id) else {
            return Err(corrupt(event, "its activity is not pending"));
        };
        activity.version = FailoverVersion::new(event.version);
        activity.started_event_id = EventId::new(event.event_id);
        activity.started_time = event_time(event);
        activity.attempt = a.attempt.max(1);
        if activity.request_id != a.request_id {
            activity.request_id = a.request_id.clone();
        }
        if activity.identity != a.identity {
            activity.identity = a.identity.clone();
        }
        if let Some((at, kind)) = activity.arm() {
            scope.at(event, at, kind);
        }
        scope.touch(item_key(&id));
        Ok(())
    }

    fn activity_cancel_requested(
        &mut self,
        event: &HistoryEvent,
        a: &ActivityTaskCancelRequestedEventAttributes,
        scope: &mut Scope<'_>,
    ) {
        let id = EventId::new(a.scheduled_event_id);
        // The activity may have closed in the meantime, its result waiting in the buffer.
        if let Some(activity) = self.activities.0.get_mut(&id) {
            activity.version = FailoverVersion::new(event.version);
            activity.cancel_requested_event_id = EventId::new(event.event_id);
            scope.touch(item_key(&id));
        }
    }

    fn activity_closed(
        &mut self,
        event: &HistoryEvent,
        scheduled_event_id: i64,
        scope: &mut Scope<'_>,
    ) -> Result<(), Corrupt> {
        let id = EventId::new(scheduled_event_id);
        if self.activities.0.remove(&id).is_none() {
            return Err(corrupt(event, "its activity is not pending"));
        }
        scope.touch(item_key(&id));
        Ok(())
    }
}

/// Activities whose started event is in history cannot be told apart from lost ones, so they fail. All others
/// are dispatched again.
pub(crate) fn fail_started(
    decision: &mut Decision<'_>,
    failure: impl Fn(Option<Payloads>) -> Failure,
) -> Result<(), Refusal> {
    let started: Vec<_> = decision
        .ms
        .activities
        .values()
        .filter(|a| a.started_event_id != EventId::default())
        .map(|a| {
            (
                a.scheduled_event_id,
                a.started_event_id,
                a.heartbeat_details.clone(),
            )
        })
        .collect();
    for (scheduled, started, details) in started {
        decision.write(Attributes::ActivityTaskFailedEventAttributes(
            ActivityTaskFailedEventAttributes {
                failure: Some(failure(details)),
                scheduled_event_id: scheduled.get(),
                started_event_id: started.get(),
                identity: SERVER.to_owned(),
                retry_state: RetryState::InProgress.into(),
                ..Default::default()
            },
        ))?;
    }
    Ok(())
}

/// A reset run begins at its reset: the timeouts of the activities it inherited count from there.
pub(crate) fn restart_clocks(ms: &mut MutableState, event: &HistoryEvent, scope: &mut Scope<'_>) {
    let at = event_time(event);
    for activity in ms.activities.0.values_mut() {
        activity.scheduled_time = at;
        activity.attempt_scheduled_time = at;
        if !activity.schedule_to_close_timeout.is_zero() {
            activity.retry_expiration = at.plus(activity.schedule_to_close_timeout);
        }
        activity.armed = Default::default();
        if let Some((at, kind)) = activity.arm() {
            scope.at(event, at, kind);
        }
    }
}
