//! RecordMarker.

use proto_messages::temporal::api::{
    command::v1::RecordMarkerCommandAttributes, enums::v1::WorkflowTaskFailedCause as Cause,
    history::v1::MarkerRecordedEventAttributes,
};

use crate::{
    Refusal,
    command::{Check, CommandError, Write},
    event::Attributes,
};

const BAD: Cause = Cause::BadRecordMarkerAttributes;

pub(super) fn check<'a>(
    a: &'a RecordMarkerCommandAttributes,
    cx: &mut Check<'a>,
) -> Result<(), CommandError> {
    if a.marker_name.is_empty() {
        return Err(CommandError::new(
            BAD,
            "MarkerName is not set on RecordMarkerCommand.",
        ));
    }
    cx.length(BAD, "MarkerName", &a.marker_name)?;
    let bytes = a.details.values().map(prost::Message::encoded_len).sum();
    cx.blob(BAD, "RecordMarkerCommandAttributes.Details", bytes)
}

pub(super) fn write(
    a: RecordMarkerCommandAttributes,
    cx: &mut Write<'_, '_>,
) -> Result<(), Refusal> {
    cx.write(Attributes::MarkerRecordedEventAttributes(
        MarkerRecordedEventAttributes {
            marker_name: a.marker_name,
            details: a.details,
            workflow_task_completed_event_id: cx.completed,
            header: a.header,
            failure: a.failure,
        },
    ))
    .map(|_| ())
}
