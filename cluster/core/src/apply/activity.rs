//! Activities in history. What happens between scheduling and closing (attempts, heartbeats) is mostly
//! outside history and changes state through requests or through `sync_activity`.

use proto_ids::{EventId, FailoverVersion, Timestamp};
use proto_messages::{
    temporal::api::history::v1::{
        ActivityTaskCancelRequestedEventAttributes, ActivityTaskScheduledEventAttributes,
        ActivityTaskStartedEventAttributes, HistoryEvent,
    },
    time::duration_from_proto,
};

use super::Scope;
use crate::{
    MutableState,
    event::{corrupt, event_time},
    mutable_state::ActivityInfo,
    task::TaskKind,
    transition::{Corrupt, ItemKey},
};

impl MutableState {
    pub(super) fn activity_scheduled(
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
        self.activities.insert(id, activity);
        scope.touch(ItemKey::Activity(id));
    }

    pub(super) fn activity_started(
        &mut self,
        event: &HistoryEvent,
        a: &ActivityTaskStartedEventAttributes,
        scope: &mut Scope<'_>,
    ) -> Result<(), Corrupt> {
        let id = EventId::new(a.scheduled_event_id);
        let Some(activity) = self.activities.get_mut(&id) else {
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
        scope.touch(ItemKey::Activity(id));
        Ok(())
    }

    pub(super) fn activity_cancel_requested(
        &mut self,
        event: &HistoryEvent,
        a: &ActivityTaskCancelRequestedEventAttributes,
        scope: &mut Scope<'_>,
    ) {
        let id = EventId::new(a.scheduled_event_id);
        // The activity may have closed in the meantime, its result waiting in the buffer.
        if let Some(activity) = self.activities.get_mut(&id) {
            activity.version = FailoverVersion::new(event.version);
            activity.cancel_requested_event_id = EventId::new(event.event_id);
            scope.touch(ItemKey::Activity(id));
        }
    }

    pub(super) fn activity_closed(
        &mut self,
        event: &HistoryEvent,
        scheduled_event_id: i64,
        scope: &mut Scope<'_>,
    ) -> Result<(), Corrupt> {
        let id = EventId::new(scheduled_event_id);
        if self.activities.remove(&id).is_none() {
            return Err(corrupt(event, "its activity is not pending"));
        }
        scope.touch(ItemKey::Activity(id));
        Ok(())
    }
}
