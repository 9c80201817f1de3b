//! News about children.

use proto_ids::{EventId, RunId};
use proto_messages::temporal::api::{
    common::v1::WorkflowExecution,
    enums::v1::StartChildWorkflowExecutionFailedCause,
    history::v1::{
        ChildWorkflowExecutionCanceledEventAttributes,
        ChildWorkflowExecutionCompletedEventAttributes,
        ChildWorkflowExecutionFailedEventAttributes, ChildWorkflowExecutionStartedEventAttributes,
        ChildWorkflowExecutionTerminatedEventAttributes,
        ChildWorkflowExecutionTimedOutEventAttributes, HistoryEvent,
        StartChildWorkflowExecutionFailedEventAttributes,
    },
};

use super::ChildExecutionInfo;
use crate::{Refusal, Reply, decision::Decision, event::Attributes};

pub(crate) fn started(
    decision: &mut Decision<'_>,
    initiated: EventId,
    result: Result<RunId, StartChildWorkflowExecutionFailedCause>,
) -> Result<(), Refusal> {
    let Some(child) = decision.ms.children.get(&initiated) else {
        decision.reply = Reply::Duplicate;
        return Ok(());
    };
    if child.started_event_id != EventId::default() {
        decision.reply = Reply::Duplicate;
        return Ok(());
    }
    let attributes = match result {
        Ok(run_id) => child_started(child, run_id.as_str()),
        Err(cause) => Attributes::StartChildWorkflowExecutionFailedEventAttributes(
            StartChildWorkflowExecutionFailedEventAttributes {
                namespace: child.namespace.clone(),
                namespace_id: child.namespace_id.clone(),
                workflow_id: child.workflow_id.clone(),
                workflow_type: Some(child.workflow_type.clone()),
                cause: cause.into(),
                initiated_event_id: initiated.get(),
                ..Default::default()
            },
        ),
    };
    decision.record(attributes)?;
    decision.schedule_workflow_task()
}

fn child_started(child: &ChildExecutionInfo, run_id: &str) -> Attributes {
    Attributes::ChildWorkflowExecutionStartedEventAttributes(
        ChildWorkflowExecutionStartedEventAttributes {
            namespace: child.namespace.clone(),
            namespace_id: child.namespace_id.clone(),
            initiated_event_id: child.initiated_event_id.get(),
            workflow_execution: Some(WorkflowExecution {
                workflow_id: child.workflow_id.clone(),
                run_id: run_id.to_owned(),
            }),
            workflow_type: Some(child.workflow_type.clone()),
            header: None,
        },
    )
}

pub(crate) fn closed(
    decision: &mut Decision<'_>,
    initiated: EventId,
    execution: WorkflowExecution,
    event: HistoryEvent,
) -> Result<(), Refusal> {
    let Some(child) = decision.ms.children.get(&initiated) else {
        decision.reply = Reply::Duplicate;
        return Ok(());
    };
    if child.workflow_id != execution.workflow_id {
        return Err(Refusal::NotChild);
    }
    if child.started_event_id == EventId::default() {
        // The news of its start was lost or is still under way; the end proves it.
        let attributes = child_started(child, &execution.run_id);
        decision.record(attributes)?;
    }
    let Some(child) = decision.ms.children.get(&initiated) else {
        return Ok(());
    };
    let Some(attributes) = child_closed(child, execution, event) else {
        return Err(Refusal::Invalid(
            "the child's last event does not close it".into(),
        ));
    };
    decision.record(attributes)?;
    decision.schedule_workflow_task()
}

fn child_closed(
    child: &ChildExecutionInfo,
    execution: WorkflowExecution,
    event: HistoryEvent,
) -> Option<Attributes> {
    use Attributes as A;
    // The five events differ in their name and one or two fields.
    macro_rules! told {
        ($variant:ident, $attributes:ident { $($extra:tt)* }) => {
            A::$variant($attributes {
                namespace: child.namespace.clone(),
                namespace_id: child.namespace_id.clone(),
                workflow_execution: Some(execution),
                workflow_type: Some(child.workflow_type.clone()),
                initiated_event_id: child.initiated_event_id.get(),
                started_event_id: child.started_event_id.get(),
                $($extra)*
            })
        };
    }
    Some(match event.attributes? {
        A::WorkflowExecutionCompletedEventAttributes(a) => told!(
            ChildWorkflowExecutionCompletedEventAttributes,
            ChildWorkflowExecutionCompletedEventAttributes { result: a.result }
        ),
        A::WorkflowExecutionFailedEventAttributes(a) => told!(
            ChildWorkflowExecutionFailedEventAttributes,
            ChildWorkflowExecutionFailedEventAttributes {
                failure: a.failure,
                retry_state: a.retry_state
            }
        ),
        A::WorkflowExecutionCanceledEventAttributes(a) => told!(
            ChildWorkflowExecutionCanceledEventAttributes,
            ChildWorkflowExecutionCanceledEventAttributes { details: a.details }
        ),
        A::WorkflowExecutionTimedOutEventAttributes(a) => told!(
            ChildWorkflowExecutionTimedOutEventAttributes,
            ChildWorkflowExecutionTimedOutEventAttributes {
                retry_state: a.retry_state
            }
        ),
        A::WorkflowExecutionTerminatedEventAttributes(_) => told!(
            ChildWorkflowExecutionTerminatedEventAttributes,
            ChildWorkflowExecutionTerminatedEventAttributes {}
        ),
        _ => return None,
    })
}

/// Takes over what the run that this one replaces was told of a child, if the child is still pending here.
pub(crate) fn reapply(decision: &mut Decision<'_>, event: HistoryEvent) -> Result<(), Refusal> {
    use Attributes as A;
    let Some(mut attributes) = event.attributes else {
        return Ok(());
    };
    let (initiated, started) = match &mut attributes {
        A::ChildWorkflowExecutionStartedEventAttributes(a) => (a.initiated_event_id, None),
        A::StartChildWorkflowExecutionFailedEventAttributes(a) => (a.initiated_event_id, None),
        A::ChildWorkflowExecutionCompletedEventAttributes(a) => {
            (a.initiated_event_id, Some(&mut a.started_event_id))
        }
        A::ChildWorkflowExecutionFailedEventAttributes(a) => {
            (a.initiated_event_id, Some(&mut a.started_event_id))
        }
        A::ChildWorkflowExecutionCanceledEventAttributes(a) => {
            (a.initiated_event_id, Some(&mut a.started_event_id))
        }
        A::ChildWorkflowExecutionTimedOutEventAttributes(a) => {
            (a.initiated_event_id, Some(&mut a.started_event_id))
        }
        A::ChildWorkflowExecutionTerminatedEventAttributes(a) => {
            (a.initiated_event_id, Some(&mut a.started_event_id))
        }
        _ => return Ok(()),
    };
    let Some(child) = decision.ms.children.get(&EventId::new(initiated)) else {
        return Ok(());
    };
    let known = child.started_event_id != EventId::default();
    match started {
        // Its start is not part of this history any more, nor was it delivered again.
        Some(_) if !known => return Ok(()),
        Some(id) => *id = child.started_event_id.get(),
        None if known => return Ok(()),
        None => {}
    }
    decision.write(attributes).map(|_| ())
}
