//! RequestCancelExternalWorkflowExecution.

use proto_messages::temporal::api::{
    command::v1::RequestCancelExternalWorkflowExecutionCommandAttributes,
    common::v1::WorkflowExecution, enums::v1::WorkflowTaskFailedCause as Cause,
    history::v1::RequestCancelExternalWorkflowExecutionInitiatedEventAttributes,
};

use crate::{
    Refusal,
    command::{Check, CommandError, Write},
    event::Attributes,
};

const BAD: Cause = Cause::BadRequestCancelExternalWorkflowExecutionAttributes;

#[expect(deprecated, reason = "SDKs still name the namespace")]
pub(super) fn check<'a>(
    a: &'a RequestCancelExternalWorkflowExecutionCommandAttributes,
    cx: &mut Check<'a>,
) -> Result<(), CommandError> {
    if a.workflow_id.is_empty() {
        return Err(CommandError::new(
            BAD,
            "WorkflowId is not set on RequestCancelExternalWorkflowExecutionCommand.",
        ));
    }
    cx.own_namespace(BAD, &a.namespace)?;
    cx.length(BAD, "WorkflowId", &a.workflow_id)?;
    cx.run_id(
        BAD,
        "RequestCancelExternalWorkflowExecutionCommand",
        &a.run_id,
    )?;
    if cx.child.starts(&a.workflow_id) {
        let text =
            "Start and RequestCancel for child workflow is not allowed in same workflow task.";
        return Err(CommandError::new(BAD, text));
    }
    let pending = cx.ms.external_cancels.len() + cx.external_cancel.added;
    cx.room(
        Cause::PendingRequestCancelLimitExceeded,
        "requests to cancel external workflows",
        pending,
    )?;
    cx.external_cancel.added += 1;
    Ok(())
}

#[expect(deprecated, reason = "older SDKs match events by the control field")]
pub(super) fn write(
    a: RequestCancelExternalWorkflowExecutionCommandAttributes,
    cx: &mut Write<'_, '_>,
) -> Result<(), Refusal> {
    cx.write(
        Attributes::RequestCancelExternalWorkflowExecutionInitiatedEventAttributes(
            RequestCancelExternalWorkflowExecutionInitiatedEventAttributes {
                workflow_task_completed_event_id: cx.completed,
                namespace: cx.decision.ctx.limits.namespace.clone(),
                namespace_id: cx.decision.ms.key.namespace_id.as_str().to_owned(),
                workflow_execution: Some(WorkflowExecution {
                    workflow_id: a.workflow_id,
                    run_id: a.run_id,
                }),
                control: a.control,
                child_workflow_only: a.child_workflow_only,
                reason: a.reason,
            },
        ),
    )
    .map(|_| ())
}
