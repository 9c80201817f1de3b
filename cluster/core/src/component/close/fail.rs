//! FailWorkflowExecution: the retry policy, then the cron schedule, may start another run.

use proto_messages::temporal::api::{
    command::v1::FailWorkflowExecutionCommandAttributes,
    enums::v1::WorkflowTaskFailedCause as Cause,
    history::v1::WorkflowExecutionFailedEventAttributes,
};

use super::next_run;
use crate::{
    Refusal,
    command::{Check, CommandError, Write},
    event::Attributes,
};

const BAD: Cause = Cause::BadFailWorkflowExecutionAttributes;

pub(super) fn check<'a>(
    a: &'a FailWorkflowExecutionCommandAttributes,
    cx: &mut Check<'a>,
) -> Result<(), CommandError> {
    cx.may_close()?;
    let Some(failure) = &a.failure else {
        return Err(CommandError::new(
            BAD,
            "Failure is not set on FailWorkflowExecutionCommand.",
        ));
    };
    let bytes = prost::Message::encoded_len(failure);
    cx.blob(BAD, "FailWorkflowExecutionCommandAttributes.Failure", bytes)
}

pub(super) fn write(
    a: FailWorkflowExecutionCommandAttributes,
    cx: &mut Write<'_, '_>,
) -> Result<(), Refusal> {
    let failure = a.failure.unwrap_or_default();
    let (retry_state, next) = next_run::after_failure(cx.decision, &failure);
    let new_execution_run_id = next_run::run_id_of(next.as_ref());
    cx.write(Attributes::WorkflowExecutionFailedEventAttributes(
        WorkflowExecutionFailedEventAttributes {
            failure: Some(failure),
            retry_state: retry_state.into(),
            workflow_task_completed_event_id: cx.completed,
            new_execution_run_id,
        },
    ))?;
    next_run::start(cx.decision, next)
}
