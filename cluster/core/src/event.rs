//! Events as values: which type goes with which attributes, and what may wait in the buffer.

use proto_ids::{EventId, FailoverVersion, RunKey, Timestamp};
use proto_messages::{
    temporal::api::{
        enums::v1::EventType,
        history::v1::{HistoryEvent, history_event},
    },
    time,
};

pub(crate) use history_event::Attributes;

use crate::transition::Corrupt;

/// The event id of an event that waits in the buffer, as peers write it.
pub(crate) const BUFFERED: EventId = EventId::new(-123);

/// The time of an event.
pub(crate) fn event_time(event: &HistoryEvent) -> Timestamp {
    event
        .event_time
        .as_ref()
        .map_or(Timestamp::ZERO, time::from_proto)
}

/// An event of the given attributes, without an id.
pub(crate) fn new_event(
    attributes: Attributes,
    at: Timestamp,
    version: FailoverVersion,
) -> HistoryEvent {
    HistoryEvent {
        event_time: Some(time::to_proto(at)),
        event_type: event_type(&attributes).into(),
        version: version.get(),
        attributes: Some(attributes),
        ..Default::default()
    }
}

/// An error about an event.
pub(crate) fn corrupt(event: &HistoryEvent, reason: impl Into<String>) -> Corrupt {
    Corrupt {
        event_id: event.event_id,
        reason: reason.into(),
    }
}

/// The request id used towards another run: derived from the event, so that the same event carried out
/// again, by this cluster or after a failover by another one, is recognised by the target.
pub(crate) fn request_id_of(key: &RunKey, event: &HistoryEvent) -> String {
    format!("{}-{}-{}", key.run_id, event.event_id, event.version)
}

/// The type that goes with the attributes.
pub(crate) fn event_type(attributes: &Attributes) -> EventType {
    use Attributes as A;
    use EventType as T;
    match attributes {
        A::ActivityPropertiesModifiedExternallyEventAttributes(_) => {
            T::ActivityPropertiesModifiedExternally
        }
        A::ActivityTaskCancelRequestedEventAttributes(_) => T::ActivityTaskCancelRequested,
        A::ActivityTaskCanceledEventAttributes(_) => T::ActivityTaskCanceled,
        A::ActivityTaskCompletedEventAttributes(_) => T::ActivityTaskCompleted,
        A::ActivityTaskFailedEventAttributes(_) => T::ActivityTaskFailed,
        A::ActivityTaskScheduledEventAttributes(_) => T::ActivityTaskScheduled,
        A::ActivityTaskStartedEventAttributes(_) => T::ActivityTaskStarted,
        A::ActivityTaskTimedOutEventAttributes(_) => T::ActivityTaskTimedOut,
        A::ChildWorkflowExecutionCanceledEventAttributes(_) => T::ChildWorkflowExecutionCanceled,
        A::ChildWorkflowExecutionCompletedEventAttributes(_) => T::ChildWorkflowExecutionCompleted,
        A::ChildWorkflowExecutionFailedEventAttributes(_) => T::ChildWorkflowExecutionFailed,
        A::ChildWorkflowExecutionStartedEventAttributes(_) => T::ChildWorkflowExecutionStarted,
        A::ChildWorkflowExecutionTerminatedEventAttributes(_) => {
            T::ChildWorkflowExecutionTerminated
        }
        A::ChildWorkflowExecutionTimedOutEventAttributes(_) => T::ChildWorkflowExecutionTimedOut,
        A::ExternalWorkflowExecutionCancelRequestedEventAttributes(_) => {
            T::ExternalWorkflowExecutionCancelRequested
        }
        A::ExternalWorkflowExecutionSignaledEventAttributes(_) => {
            T::ExternalWorkflowExecutionSignaled
        }
        A::MarkerRecordedEventAttributes(_) => T::MarkerRecorded,
        A::NexusOperationCancelRequestCompletedEventAttributes(_) => {
            T::NexusOperationCancelRequestCompleted
        }
        A::NexusOperationCancelRequestFailedEventAttributes(_) => {
            T::NexusOperationCancelRequestFailed
        }
        A::NexusOperationCancelRequestedEventAttributes(_) => T::NexusOperationCancelRequested,
        A::NexusOperationCanceledEventAttributes(_) => T::NexusOperationCanceled,
        A::NexusOperationCompletedEventAttributes(_) => T::NexusOperationCompleted,
        A::NexusOperationFailedEventAttributes(_) => T::NexusOperationFailed,
        A::NexusOperationScheduledEventAttributes(_) => T::NexusOperationScheduled,
        A::NexusOperationStartedEventAttributes(_) => T::NexusOperationStarted,
        A::NexusOperationTimedOutEventAttributes(_) => T::NexusOperationTimedOut,
        A::RequestCancelExternalWorkflowExecutionFailedEventAttributes(_) => {
            T::RequestCancelExternalWorkflowExecutionFailed
        }
        A::RequestCancelExternalWorkflowExecutionInitiatedEventAttributes(_) => {
            T::RequestCancelExternalWorkflowExecutionInitiated
        }
        A::SignalExternalWorkflowExecutionFailedEventAttributes(_) => {
            T::SignalExternalWorkflowExecutionFailed
        }
        A::SignalExternalWorkflowExecutionInitiatedEventAttributes(_) => {
            T::SignalExternalWorkflowExecutionInitiated
        }
        A::StartChildWorkflowExecutionFailedEventAttributes(_) => {
            T::StartChildWorkflowExecutionFailed
        }
        A::StartChildWorkflowExecutionInitiatedEventAttributes(_) => {
            T::StartChildWorkflowExecutionInitiated
        }
        A::TimerCanceledEventAttributes(_) => T::TimerCanceled,
        A::TimerFiredEventAttributes(_) => T::TimerFired,
        A::TimerStartedEventAttributes(_) => T::TimerStarted,
        A::UpsertWorkflowSearchAttributesEventAttributes(_) => T::UpsertWorkflowSearchAttributes,
        A::WorkflowExecutionCancelRequestedEventAttributes(_) => {
            T::WorkflowExecutionCancelRequested
        }
        A::WorkflowExecutionCanceledEventAttributes(_) => T::WorkflowExecutionCanceled,
        A::WorkflowExecutionCompletedEventAttributes(_) => T::WorkflowExecutionCompleted,
        A::WorkflowExecutionContinuedAsNewEventAttributes(_) => T::WorkflowExecutionContinuedAsNew,
        A::WorkflowExecutionFailedEventAttributes(_) => T::WorkflowExecutionFailed,
        A::WorkflowExecutionOptionsUpdatedEventAttributes(_) => T::WorkflowExecutionOptionsUpdated,
        A::WorkflowExecutionPausedEventAttributes(_) => T::WorkflowExecutionPaused,
        A::WorkflowExecutionSignaledEventAttributes(_) => T::WorkflowExecutionSignaled,
        A::WorkflowExecutionStartedEventAttributes(_) => T::WorkflowExecutionStarted,
        A::WorkflowExecutionTerminatedEventAttributes(_) => T::WorkflowExecutionTerminated,
        A::WorkflowExecutionTimeSkippingTransitionedEventAttributes(_) => {
            T::WorkflowExecutionTimeSkippingTransitioned
        }
        A::WorkflowExecutionTimedOutEventAttributes(_) => T::WorkflowExecutionTimedOut,
        A::WorkflowExecutionUnpausedEventAttributes(_) => T::WorkflowExecutionUnpaused,
        A::WorkflowExecutionUpdateAcceptedEventAttributes(_) => T::WorkflowExecutionUpdateAccepted,
        A::WorkflowExecutionUpdateAdmittedEventAttributes(_) => T::WorkflowExecutionUpdateAdmitted,
        A::WorkflowExecutionUpdateCompletedEventAttributes(_) => {
            T::WorkflowExecutionUpdateCompleted
        }
        A::WorkflowExecutionUpdateRejectedEventAttributes(_) => T::WorkflowExecutionUpdateRejected,
        A::WorkflowPropertiesModifiedEventAttributes(_) => T::WorkflowPropertiesModified,
        A::WorkflowPropertiesModifiedExternallyEventAttributes(_) => {
            T::WorkflowPropertiesModifiedExternally
        }
        A::WorkflowTaskCompletedEventAttributes(_) => T::WorkflowTaskCompleted,
        A::WorkflowTaskFailedEventAttributes(_) => T::WorkflowTaskFailed,
        A::WorkflowTaskScheduledEventAttributes(_) => T::WorkflowTaskScheduled,
        A::WorkflowTaskStartedEventAttributes(_) => T::WorkflowTaskStarted,
        A::WorkflowTaskTimedOutEventAttributes(_) => T::WorkflowTaskTimedOut,
    }
}
