//! CancelWorkflowExecution.

use proto_messages::temporal::api::{
    command::v1::CancelWorkflowExecutionCommandAttributes,
    enums::v1::WorkflowTaskFailedCause as Cause,
    history::v1::WorkflowExecutionCanceledEventAttributes,
};

use crate::{
    Refusal,
    command::{Check, CommandError, Write, size},
    event::Attributes,
};

pub(super) fn check<'a>(
    a: &'a CancelWorkflowExecutionCommandAttributes,
    cx: &mut Check<'a>,
) -> Result<(), CommandError> {
    cx.may_close()?;
    cx.blob(
        Cause::BadCancelWorkflowExecutionAttributes,
        "CancelWorkflowExecutionCommandAttributes.Details",
        size(&a.details),
    )
}

pub(super) fn write(
    a: CancelWorkflowExecutionCommandAttributes,
    cx: &mut Write<'_, '_>,
) -> Result<(), Refusal> {
    cx.write(Attributes::WorkflowExecutionCanceledEventAttributes(
        WorkflowExecutionCanceledEventAttributes {
            workflow_task_completed_event_id: cx.completed,
            details: a.details,
        },
    ))
    .map(|_| ())
}
