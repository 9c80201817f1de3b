//! Children.

use proto_ids::{EventId, FailoverVersion, RunId};
use proto_messages::temporal::api::{
    enums::v1::ParentClosePolicy,
    history::v1::{
        ChildWorkflowExecutionStartedEventAttributes, HistoryEvent,
        StartChildWorkflowExecutionInitiatedEventAttributes,
    },
};

use super::{Scope, external::request_id_of};
use crate::{
    MutableState,
    event::corrupt,
    mutable_state::ChildExecutionInfo,
    task::TaskKind,
    transition::{Corrupt, ItemKey},
};

impl MutableState {
    pub(super) fn child_initiated(
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
        self.children.insert(
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
        scope.touch(ItemKey::Child(id));
    }

    pub(super) fn child_started(
        &mut self,
        event: &HistoryEvent,
        a: &ChildWorkflowExecutionStartedEventAttributes,
        scope: &mut Scope<'_>,
    ) -> Result<(), Corrupt> {
        let id = EventId::new(a.initiated_event_id);
        let Some(child) = self.children.get_mut(&id) else {
            return Err(corrupt(event, "its child is not pending"));
        };
        child.started_event_id = EventId::new(event.event_id);
        child.run_id = a
            .workflow_execution
            .as_ref()
            .map(|e| RunId::new(&e.run_id))
            .unwrap_or_default();
        scope.touch(ItemKey::Child(id));
        Ok(())
    }

    pub(super) fn child_ended(
        &mut self,
        event: &HistoryEvent,
        initiated_event_id: i64,
        scope: &mut Scope<'_>,
    ) -> Result<(), Corrupt> {
        let id = EventId::new(initiated_event_id);
        if self.children.remove(&id).is_none() {
            return Err(corrupt(event, "its child is not pending"));
        }
        scope.touch(ItemKey::Child(id));
        Ok(())
    }
}
