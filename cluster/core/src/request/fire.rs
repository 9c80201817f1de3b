//! Timer tasks that are due. Each checks state again: what no longer applies changes nothing.

use super::Fire;
use crate::{
    Refusal,
    component::{activity, close, timer, workflow_task},
    decision::Decision,
};

pub(super) fn fire(decision: &mut Decision<'_>, fire: Fire) -> Result<(), Refusal> {
    match fire {
        Fire::UserTimers => timer::fire(decision),
        Fire::ActivityTimeouts => activity::fire_timeouts(decision),
        Fire::ActivityRetry {
            scheduled_event_id,
            attempt,
        } => {
            activity::fire_retry(decision, scheduled_event_id, attempt);
            Ok(())
        }
        Fire::WorkflowTaskTimeout {
            scheduled_event_id,
            attempt,
            timeout,
        } => workflow_task::time_out(decision, scheduled_event_id, attempt, timeout),
        Fire::WorkflowBackoff => workflow_task::end_backoff(decision),
        Fire::RunTimeout | Fire::ExecutionTimeout => close::fire(decision),
    }
}
