//! ModifyWorkflowProperties: the memo.

use proto_messages::temporal::api::{
    command::v1::ModifyWorkflowPropertiesCommandAttributes,
    enums::v1::WorkflowTaskFailedCause as Cause,
    history::v1::WorkflowPropertiesModifiedEventAttributes,
};

use crate::{
    Refusal,
    command::{Check, CommandError, Write},
    event::Attributes,
};

const BAD: Cause = Cause::BadModifyWorkflowPropertiesAttributes;

pub(super) fn check<'a>(
    a: &'a ModifyWorkflowPropertiesCommandAttributes,
    cx: &mut Check<'a>,
) -> Result<(), CommandError> {
    let Some(memo) = &a.upserted_memo else {
        return Err(CommandError::new(
            BAD,
            "UpsertedMemo is not set on ModifyWorkflowPropertiesCommand.",
        ));
    };
    if memo.fields.is_empty() {
        return Err(CommandError::new(
            BAD,
            "UpsertedMemo.Fields is not set on ModifyWorkflowPropertiesCommand.",
        ));
    }
    cx.memo(BAD, "ModifyWorkflowPropertiesCommandAttributes", Some(memo))
}

pub(super) fn write(
    a: ModifyWorkflowPropertiesCommandAttributes,
    cx: &mut Write<'_, '_>,
) -> Result<(), Refusal> {
    cx.write(Attributes::WorkflowPropertiesModifiedEventAttributes(
        WorkflowPropertiesModifiedEventAttributes {
            workflow_task_completed_event_id: cx.completed,
            upserted_memo: a.upserted_memo,
        },
    ))
    .map(|_| ())
}
