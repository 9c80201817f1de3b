//! Children.

use proto_ids::{EventId, FailoverVersion, RunId};
use proto_messages::temporal::api::{
    enums::v1::ParentClosePolicy,
    history::v1::{
        ChildWorkflowExecutionStartedEventAttributes, HistoryEvent,
        StartChildWorkflowExecutionInitiatedEventAttributes,
    },
};

use super::{ChildExecutionInfo, item_key};
use crate::{
    MutableState,
    apply::Scope,
    component::Placing,
    event::{Attributes, corrupt, request_id_of},
    task::TaskKind,
    transition::Corrupt,
};

pub(super) fn apply(
    ms: &mut MutableState,
    event: &HistoryEvent,
    attributes: &Attributes,
    scope: &mut Scope<'_>,
) -> Result<(), Corrupt> {
    use Attributes as A;
    match attributes {
        A::StartChildWorkflowExecutionInitiatedEventAttributes(a) => {
            ms.child_initiated(event, a, scope)
        }
        A::ChildWorkflowExecutionStartedEventAttributes(a) => ms.child_started(event, a, scope)?,
        A::StartChildWorkflowExecutionFailedEventAttributes(a) => {
            ms.child_ended(event, a.initiated_event_id, scope)?
        }
        A::ChildWorkflowExecutionCompletedEventAttributes(a) => {
            ms.child_ended(event, a.initiated_event_id, scope)?
        }
        A::ChildWorkflowExecutionFailedEventAttributes(a) => {
            ms.child_ended(event, a.initiated_event_id, scope)?
        }
        A::ChildWorkflowExecutionCanceledEventAttributes(a) => {
            ms.child_ended(event, a.initiated_event_id, scope)?
        }
        A::ChildWorkflowExecutionTimedOutEventAttributes(a) => {
            ms.child_ended(event, a.initiated_event_id, scope)?
        }
        A::ChildWorkflowExecutionTerminatedEventAttributes(a) => {
            ms.child_ended(event, a.initiated_event_id, scope)?
        }
        _ => {}
    }
    Ok(())
}

/// A started event that waited in the buffer gets its id; so does the child, and the result beside it.
pub(super) fn place(ms: &mut MutableState, event: &mut HistoryEvent, placing: &mut Placing<'_>) {
    use Attributes as A;
    match &mut event.attributes {
        Some(A::ChildWorkflowExecutionStartedEventAttributes(a)) => {
            let initiated = EventId::new(a.initiated_event_id);
            let id = EventId::new(event.event_id);
            placing.started.push((a.initiated_event_id, id));
            if let Some(child) = ms.children.0.get_mut(&initiated) {
                child.started_event_id = id;
                let delta = &mut placing.applied.delta;
                delta.items.insert(item_key(&initiated));
            }
        }
        Some(A::ChildWorkflowExecutionCompletedEventAttributes(a)) => {
            placing.name_started(a.initiated_event_id, &mut a.started_event_id)
        }
        Some(A::ChildWorkflowExecutionFailedEventAttributes(a)) => {
            placing.name_started(a.initiated_event_id, &mut a.started_event_id)
        }
        Some(A::ChildWorkflowExecutionCanceledEventAttributes(a)) => {
            placing.name_started(a.initiated_event_id, &mut a.started_event_id)
        }
        Some(A::ChildWorkflowExecutionTimedOutEventAttributes(a)) => {
            placing.name_started(a.initiated_event_id, &mut a.started_event_id)
        }
        Some(A::ChildWorkflowExecutionTerminatedEventAttributes(a)) => {
            placing.name_started(a.initiated_event_id, &mut a.started_event_id)
        }
        _ => {}
    }
}

impl MutableState {
    fn child_initiated(
        &mut self,
        event: &HistoryEvent,
        a: &StartChildWorkflowExecutionInitiatedEventAttributes,
        scope: &mut Scope<'_>,
    ) {
        let id = EventId::new(event.event_id);
        let policy = match a.parent_close_policy() {
            ParentClosePolicy::Unspecified => ParentClosePolicy::Terminate,
            policy => policy,
        };
        self.children.0.insert(
            id,
            ChildExecutionInfo {
                version: FailoverVersion::new(event.version),
                initiated_event_id: id,
                initiated_batch_id: scope.batch_first,
                namespace: a.namespace.clone(),
                namespace_id: a.namespace_id.clone(),
                workflow_id: a.workflow_id.clone(),
                workflow_type: a.workflow_type.clone().unwrap_or_default(),
                create_request_id: request_id_of(&self.key, event),
                parent_close_policy: policy,
                ..Default::default()
            },
        );
        scope.now(
            event,
            TaskKind::StartChild {
                initiated_event_id: id,
            },
        );
        scope.touch(item_key(&id));
    }

    fn child_started(
        &mut self,
        event: &HistoryEvent,
        a: &ChildWorkflowExecutionStartedEventAttributes,
        scope: &mut Scope<'_>,
    ) -> Result<(), Corrupt> {
        let id = EventId::new(a.initiated_event_id);
        let Some(child) = self.children.0.get_mut(&id) else {
            return Err(corrupt(event, "its child is not pending"));
        };
        child.started_event_id = EventId::new(event.event_id);
        child.run_id = a
            .workflow_execution
            .as_ref()
            .map(|e| RunId::new(&e.run_id))
            .unwrap_or_default();
        scope.touch(item_key(&id));
        Ok(())
    }

    fn child_ended(
        &mut self,
        event: &HistoryEvent,
        initiated_event_id: i64,
        scope: &mut Scope<'_>,
    ) -> Result<(), Corrupt> {
        let id = EventId::new(initiated_event_id);
        if self.children.0.remove(&id).is_none() {
            return Err(corrupt(event, "its child is not pending"));
        }
        scope.touch(item_key(&id));
        Ok(())
    }
}
