//! UpsertWorkflowSearchAttributes.

use proto_messages::temporal::api::{
    command::v1::UpsertWorkflowSearchAttributesCommandAttributes,
    enums::v1::WorkflowTaskFailedCause as Cause,
    history::v1::UpsertWorkflowSearchAttributesEventAttributes,
};

use crate::{
    Refusal,
    command::{Check, CommandError, Write},
    event::Attributes,
};

pub(super) fn check<'a>(
    a: &'a UpsertWorkflowSearchAttributesCommandAttributes,
    cx: &mut Check<'a>,
) -> Result<(), CommandError> {
    let bad = |text| Err(CommandError::new(Cause::BadSearchAttributes, text));
    match &a.search_attributes {
        None => bad("SearchAttributes is not set on UpsertWorkflowSearchAttributesCommand."),
        Some(s) if s.indexed_fields.is_empty() => {
            bad("IndexedFields is not set on UpsertWorkflowSearchAttributesCommand.")
        }
        Some(s) => cx.search_attributes("UpsertWorkflowSearchAttributesCommandAttributes", Some(s)),
    }
}

pub(super) fn write(
    a: UpsertWorkflowSearchAttributesCommandAttributes,
    cx: &mut Write<'_, '_>,
) -> Result<(), Refusal> {
    cx.write(Attributes::UpsertWorkflowSearchAttributesEventAttributes(
        UpsertWorkflowSearchAttributesEventAttributes {
            workflow_task_completed_event_id: cx.completed,
            search_attributes: a.search_attributes,
        },
    ))
    .map(|_| ())
}
