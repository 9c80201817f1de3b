//! Timers that are due.

use proto_ids::{EventId, Timestamp};
use proto_messages::temporal::api::history::v1::TimerFiredEventAttributes;

use crate::{Refusal, decision::Decision, event::Attributes};

/// Fires all timers whose time has come, earliest first.
pub(crate) fn fire(decision: &mut Decision<'_>) -> Result<(), Refusal> {
    let now = decision.now();
    let mut due: Vec<(Timestamp, EventId, String)> = decision
        .ms
        .timers
        .values()
        .filter(|t| t.expiry <= now)
        .map(|t| (t.expiry, t.started_event_id, t.timer_id.clone()))
        .collect();
    due.sort_unstable();
    if due.is_empty() {
        return Ok(());
    }
    for (_, started, timer_id) in due {
        decision.record(Attributes::TimerFiredEventAttributes(
            TimerFiredEventAttributes {
                timer_id,
                started_event_id: started.get(),
            },
        ))?;
    }
    decision.schedule_workflow_task()
}
