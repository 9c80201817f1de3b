//! The result of a signal to another run.

use proto_ids::EventId;
use proto_messages::temporal::api::{
    common::v1::WorkflowExecution,
    enums::v1::SignalExternalWorkflowExecutionFailedCause,
    history::v1::{
        ExternalWorkflowExecutionSignaledEventAttributes,
        SignalExternalWorkflowExecutionFailedEventAttributes,
    },
};

use crate::{Refusal, Reply, decision::Decision, event::Attributes};

/// The other run, as the initiated event named it.
struct Target {
    namespace: String,
    namespace_id: String,
    execution: WorkflowExecution,
}

pub(crate) fn signaled(
    decision: &mut Decision<'_>,
    initiated: EventId,
    result: Result<(), SignalExternalWorkflowExecutionFailedCause>,
) -> Result<(), Refusal> {
    let Some(signal) = decision.ms.external_signals.get(&initiated) else {
        decision.reply = Reply::Duplicate;
        return Ok(());
    };
    let target = Target {
        namespace: signal.namespace.clone(),
        namespace_id: signal.namespace_id.clone(),
        execution: signal.target.clone(),
    };
    let initiated_event_id = initiated.get();
    let control = signal.control.clone();
    #[expect(deprecated, reason = "echoed for SDKs that still match by it")]
    let attributes = match result {
        Ok(()) => Attributes::ExternalWorkflowExecutionSignaledEventAttributes(
            ExternalWorkflowExecutionSignaledEventAttributes {
                initiated_event_id,
                namespace: target.namespace,
                namespace_id: target.namespace_id,
                workflow_execution: Some(target.execution),
                control,
            },
        ),
        Err(cause) => Attributes::SignalExternalWorkflowExecutionFailedEventAttributes(
            SignalExternalWorkflowExecutionFailedEventAttributes {
                cause: cause.into(),
                workflow_task_completed_event_id: 0,
                namespace: target.namespace,
                namespace_id: target.namespace_id,
                workflow_execution: Some(target.execution),
                initiated_event_id,
                control,
            },
        ),
    };
    decision.record(attributes)?;
    decision.schedule_workflow_task()
}
