//! Timers the workflow started.

use proto_ids::{EventId, FailoverVersion};
use proto_messages::{
    temporal::api::history::v1::{HistoryEvent, TimerStartedEventAttributes},
    time::duration_from_proto,
};

use super::Scope;
use crate::{
    MutableState,
    event::{corrupt, event_time},
    mutable_state::TimerInfo,
    task::TaskKind,
    transition::{Corrupt, ItemKey},
};

impl MutableState {
    pub(super) fn timer_started(
        &mut self,
        event: &HistoryEvent,
        a: &TimerStartedEventAttributes,
        scope: &mut Scope<'_>,
    ) {
        let id = EventId::new(event.event_id);
        let expiry = event_time(event).plus(duration_from_proto(a.start_to_fire_timeout.as_ref()));
        self.timers.insert(
            a.timer_id.clone(),
            TimerInfo {
                version: FailoverVersion::new(event.version),
                timer_id: a.timer_id.clone(),
                started_event_id: id,
                expiry,
            },
        );
        scope.at(
            event,
            expiry,
            TaskKind::UserTimer {
                started_event_id: id,
            },
        );
        scope.touch(ItemKey::Timer(a.timer_id.clone()));
    }

    pub(super) fn timer_ended(
        &mut self,
        event: &HistoryEvent,
        timer_id: &str,
        scope: &mut Scope<'_>,
    ) -> Result<(), Corrupt> {
        if self.timers.remove(timer_id).is_none() {
            return Err(corrupt(event, "its timer is not pending"));
        }
        scope.touch(ItemKey::Timer(timer_id.to_owned()));
        Ok(())
    }

    /// A cancelled timer may already be gone: it fired into the buffer, and the buffered event was taken back.
    pub(super) fn timer_canceled(&mut self, timer_id: &str, scope: &mut Scope<'_>) {
        self.timers.remove(timer_id);
        scope.touch(ItemKey::Timer(timer_id.to_owned()));
    }
}
