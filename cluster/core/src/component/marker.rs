//! Markers: what the workflow's worker notes for its own replay. They change no state.

mod command;

use proto_messages::temporal::api::enums::v1::WorkflowTaskFailedCause as Cause;

use super::Component;
use crate::command::command;

pub(super) const COMPONENT: Component = Component {
    commands: &[command!(
        RecordMarker,
        RecordMarkerCommandAttributes,
        command,
        Cause::BadRecordMarkerAttributes
    )],
    ..Component::NONE
};
