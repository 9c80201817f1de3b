//! CompleteWorkflowExecution: with a cron schedule the next run follows.

use proto_messages::temporal::api::{
    command::v1::CompleteWorkflowExecutionCommandAttributes,
    enums::v1::WorkflowTaskFailedCause as Cause,
    history::v1::WorkflowExecutionCompletedEventAttributes,
};

use super::next_run;
use crate::{
    Refusal,
    command::{Check, CommandError, Write, size},
    event::Attributes,
};

const BAD: Cause = Cause::BadCompleteWorkflowExecutionAttributes;

pub(super) fn check<'a>(
    a: &'a CompleteWorkflowExecutionCommandAttributes,
    cx: &mut Check<'a>,
) -> Result<(), CommandError> {
    cx.may_close()?;
    cx.blob(
        BAD,
        "CompleteWorkflowExecutionCommandAttributes.Result",
        size(&a.result),
    )
}

pub(super) fn write(
    a: CompleteWorkflowExecutionCommandAttributes,
    cx: &mut Write<'_, '_>,
) -> Result<(), Refusal> {
    let next = next_run::after_success(cx.decision, &a.result);
    let new_execution_run_id = next_run::run_id_of(next.as_ref());
    cx.write(Attributes::WorkflowExecutionCompletedEventAttributes(
        WorkflowExecutionCompletedEventAttributes {
            result: a.result,
            workflow_task_completed_event_id: cx.completed,
            new_execution_run_id,
        },
    ))?;
    next_run::start(cx.decision, next)
}
