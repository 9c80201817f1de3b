//! SignalExternalWorkflowExecution.

use proto_messages::temporal::api::{
    command::v1::SignalExternalWorkflowExecutionCommandAttributes,
    enums::v1::WorkflowTaskFailedCause as Cause,
    history::v1::SignalExternalWorkflowExecutionInitiatedEventAttributes,
};

use crate::{
    Refusal,
    command::{Check, CommandError, Write, size},
    event::Attributes,
};

const BAD: Cause = Cause::BadSignalWorkflowExecutionAttributes;

#[expect(deprecated, reason = "SDKs still name the namespace")]
pub(super) fn check<'a>(
    a: &'a SignalExternalWorkflowExecutionCommandAttributes,
    cx: &mut Check<'a>,
) -> Result<(), CommandError> {
    let Some(execution) = &a.execution else {
        return Err(CommandError::new(
            BAD,
            "Execution is not set on SignalExternalWorkflowExecutionCommand.",
        ));
    };
    if execution.workflow_id.is_empty() {
        return Err(CommandError::new(
            BAD,
            "WorkflowId is not set on SignalExternalWorkflowExecutionCommand.",
        ));
    }
    if a.signal_name.is_empty() {
        return Err(CommandError::new(
            BAD,
            "SignalName is not set on SignalExternalWorkflowExecutionCommand.",
        ));
    }
    cx.own_namespace(BAD, &a.namespace)?;
    cx.length(BAD, "WorkflowId", &execution.workflow_id)?;
    cx.run_id(
        BAD,
        "SignalExternalWorkflowExecutionCommand",
        &execution.run_id,
    )?;
    cx.length(BAD, "SignalName", &a.signal_name)?;
    cx.blob(
        Cause::BadSignalInputSize,
        "SignalExternalWorkflowExecutionCommandAttributes. Input",
        size(&a.input),
    )?;
    let pending = cx.ms.external_signals.len() + cx.external_signal.added;
    cx.room(
        Cause::PendingSignalsLimitExceeded,
        "signals to external workflows",
        pending,
    )?;
    cx.external_signal.added += 1;
    Ok(())
}

#[expect(deprecated, reason = "older SDKs match events by the control field")]
pub(super) fn write(
    a: SignalExternalWorkflowExecutionCommandAttributes,
    cx: &mut Write<'_, '_>,
) -> Result<(), Refusal> {
    cx.write(
        Attributes::SignalExternalWorkflowExecutionInitiatedEventAttributes(
            SignalExternalWorkflowExecutionInitiatedEventAttributes {
                workflow_task_completed_event_id: cx.completed,
                namespace: cx.decision.ctx.limits.namespace.clone(),
                namespace_id: cx.decision.ms.key.namespace_id.as_str().to_owned(),
                workflow_execution: a.execution,
                signal_name: a.signal_name,
                input: a.input,
                control: a.control,
                child_workflow_only: a.child_workflow_only,
                header: a.header,
            },
        ),
    )
    .map(|_| ())
}
