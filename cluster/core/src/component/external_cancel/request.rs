//! The result of a request to cancel another run.

use proto_ids::EventId;
use proto_messages::temporal::api::{
    enums::v1::CancelExternalWorkflowExecutionFailedCause,
    history::v1::{
        ExternalWorkflowExecutionCancelRequestedEventAttributes,
        RequestCancelExternalWorkflowExecutionFailedEventAttributes,
    },
};

use crate::{Refusal, Reply, decision::Decision, event::Attributes};

pub(crate) fn canceled(
    decision: &mut Decision<'_>,
    initiated: EventId,
    result: Result<(), CancelExternalWorkflowExecutionFailedCause>,
) -> Result<(), Refusal> {
    let Some(cancel) = decision.ms.external_cancels.get(&initiated) else {
        decision.reply = Reply::Duplicate;
        return Ok(());
    };
    let namespace = cancel.namespace.clone();
    let namespace_id = cancel.namespace_id.clone();
    let workflow_execution = Some(cancel.target.clone());
    let initiated_event_id = initiated.get();
    let attributes = match result {
        Ok(()) => Attributes::ExternalWorkflowExecutionCancelRequestedEventAttributes(
            ExternalWorkflowExecutionCancelRequestedEventAttributes {
                initiated_event_id,
                namespace,
                namespace_id,
                workflow_execution,
            },
        ),
        Err(cause) => Attributes::RequestCancelExternalWorkflowExecutionFailedEventAttributes(
            RequestCancelExternalWorkflowExecutionFailedEventAttributes {
                cause: cause.into(),
                namespace,
                namespace_id,
                workflow_execution,
                initiated_event_id,
                ..Default::default()
            },
        ),
    };
    decision.record(attributes)?;
    decision.schedule_workflow_task()
}
