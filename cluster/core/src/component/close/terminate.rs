//! Termination, without a worker.

use proto_ids::RunId;
use proto_messages::temporal::api::{
    common::v1::{Link, Payloads, WorkflowExecution},
    enums::v1::WorkflowTaskFailedCause,
    history::v1::WorkflowExecutionTerminatedEventAttributes,
};

use crate::{
    MutableState, Refusal,
    component::{start::is_parent, workflow_task},
    decision::Decision,
    event::Attributes,
};

/// Refuses a caller that means another run.
pub(crate) fn allowed(
    ms: &MutableState,
    only_from_parent: Option<&WorkflowExecution>,
    first_execution_run_id: &RunId,
) -> Result<(), Refusal> {
    if only_from_parent.is_some_and(|parent| !is_parent(ms, parent)) {
        return Err(Refusal::NotChild);
    }
    if !first_execution_run_id.is_empty() && *first_execution_run_id != ms.start.first_run_id {
        return Err(Refusal::FirstRunMismatch);
    }
    Ok(())
}

/// Closes the run: the workflow task in flight fails, what waited is written, then the end.
pub(crate) fn terminate(
    decision: &mut Decision<'_>,
    reason: String,
    details: Option<Payloads>,
    identity: String,
) -> Result<(), Refusal> {
    terminate_linked(decision, reason, details, identity, Vec::new())
}

/// [`terminate`] with links on the event.
pub(crate) fn terminate_linked(
    decision: &mut Decision<'_>,
    reason: String,
    details: Option<Payloads>,
    identity: String,
    links: Vec<Link>,
) -> Result<(), Refusal> {
    workflow_task::fail_in_flight(decision, WorkflowTaskFailedCause::ForceCloseCommand)?;
    decision.flush_buffered_events();
    let mut event = decision.event(Attributes::WorkflowExecutionTerminatedEventAttributes(
        WorkflowExecutionTerminatedEventAttributes {
            reason,
            details,
            identity,
        },
    ));
    event.links = links;
    decision.write_event(event).map(|_| ())
}
