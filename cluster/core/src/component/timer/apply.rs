//! Timers the workflow started.

use proto_ids::{EventId, FailoverVersion};
use proto_messages::{
    temporal::api::history::v1::{HistoryEvent, TimerStartedEventAttributes},
    time::duration_from_proto,
};

use super::{TimerInfo, item_key};
use crate::{
    MutableState,
    apply::Scope,
    event::{Attributes, corrupt, event_time},
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
        A::TimerStartedEventAttributes(a) => ms.timer_started(event, a, scope),
        A::TimerFiredEventAttributes(a) => ms.timer_ended(event, &a.timer_id, scope)?,
        A::TimerCanceledEventAttributes(a) => ms.timer_canceled(&a.timer_id, scope),
        _ => {}
    }
    Ok(())
}

impl MutableState {
    fn timer_started(
        &mut self,
        event: &HistoryEvent,
        a: &TimerStartedEventAttributes,
        scope: &mut Scope<'_>,
    ) {
        let id = EventId::new(event.event_id);
        let expiry = event_time(event).plus(duration_from_proto(a.start_to_fire_timeout.as_ref()));
        self.timers.0.insert(
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
        scope.touch(item_key(&a.timer_id));
    }

    fn timer_ended(
        &mut self,
        event: &HistoryEvent,
        timer_id: &str,
        scope: &mut Scope<'_>,
    ) -> Result<(), Corrupt> {
        if self.timers.0.remove(timer_id).is_none() {
            return Err(corrupt(event, "its timer is not pending"));
        }
        scope.touch(item_key(&timer_id.to_owned()));
        Ok(())
    }

    /// A cancelled timer may already be gone: it fired into the buffer, and the buffered event was taken back.
    fn timer_canceled(&mut self, timer_id: &str, scope: &mut Scope<'_>) {
        self.timers.0.remove(timer_id);
        scope.touch(item_key(&timer_id.to_owned()));
    }
}
