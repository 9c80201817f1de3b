//! Requests to cancel.

use proto_ids::EventId;
use proto_messages::temporal::api::{
    common::v1::{Link, WorkflowExecution},
    history::v1::WorkflowExecutionCancelRequestedEventAttributes,
};

use crate::{Refusal, Reply, component::start::is_parent, decision::Decision, event::Attributes};

/// A request to cancel.
pub(crate) struct Cancel {
    pub(crate) reason: String,
    pub(crate) identity: String,
    pub(crate) request_id: String,
    pub(crate) external: Option<(WorkflowExecution, EventId)>,
    pub(crate) child_only: bool,
    pub(crate) links: Vec<Link>,
}

pub(crate) fn cancel(decision: &mut Decision<'_>, cancel: Cancel) -> Result<(), Refusal> {
    if cancel.child_only
        && !cancel
            .external
            .as_ref()
            .is_some_and(|(parent, _)| is_parent(decision.ms, parent))
    {
        return Err(Refusal::NotChild);
    }
    if let Some(earlier) = &decision.ms.execution_info.cancel_request {
        if !cancel.request_id.is_empty() && *earlier == cancel.request_id {
            decision.reply = Reply::Duplicate;
            return Ok(());
        }
        return Err(Refusal::CancelAlreadyRequested);
    }
    decision.ms.check_room(decision.ctx.limits)?;
    let (external_workflow_execution, initiated) = cancel.external.unzip();
    let mut event = decision.event(Attributes::WorkflowExecutionCancelRequestedEventAttributes(
        WorkflowExecutionCancelRequestedEventAttributes {
            cause: cancel.reason,
            external_initiated_event_id: initiated.unwrap_or_default().get(),
            external_workflow_execution,
            identity: cancel.identity,
        },
    ));
    event.links = cancel.links;
    decision.record_event(event)?;
    decision.ms.execution_info.cancel_request = Some(cancel.request_id);
    decision.schedule_workflow_task()
}
