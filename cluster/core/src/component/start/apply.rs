//! The first event: what never changes afterwards, and the timers over the whole run.

use proto_ids::{EventId, RunId, RunKey};
use proto_messages::{
    temporal::api::{
        enums::v1::WorkflowExecutionStatus,
        history::v1::{HistoryEvent, WorkflowExecutionStartedEventAttributes},
    },
    time::{duration_from_proto, from_proto},
};

use super::{Carried, StartInfo};
use crate::{
    MutableState,
    apply::Scope,
    event::{Attributes, corrupt, event_time},
    request::Parent,
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
    if let A::WorkflowExecutionStartedEventAttributes(a) = attributes {
        ms.started(event, a, scope)?;
    }
    Ok(())
}

impl MutableState {
    fn started(
        &mut self,
        event: &HistoryEvent,
        a: &WorkflowExecutionStartedEventAttributes,
        scope: &mut Scope<'_>,
    ) -> Result<(), Corrupt> {
        if event.event_id != 1 {
            return Err(corrupt(event, "a run starts with its first event only"));
        }
        let at = event_time(event);
        let backoff = duration_from_proto(a.first_workflow_task_backoff.as_ref());
        let own = |id: &str| {
            if id.is_empty() {
                self.key.run_id.clone()
            } else {
                RunId::new(id)
            }
        };
        let expiration = a
            .workflow_execution_expiration_time
            .as_ref()
            .map(from_proto)
            .unwrap_or_default();
        let goes_on = a.retry_policy.is_some() || !a.cron_schedule.is_empty();
        self.start = StartInfo {
            workflow_type: a.workflow_type.clone().unwrap_or_default(),
            task_queue: a
                .task_queue
                .as_ref()
                .map(|q| q.name.clone())
                .unwrap_or_default(),
            input: a.input.clone(),
            header: a.header.clone(),
            start_time: at,
            execution_time: at.plus(backoff),
            execution_timeout: duration_from_proto(a.workflow_execution_timeout.as_ref()),
            execution_expiration: expiration,
            run_timeout: duration_from_proto(a.workflow_run_timeout.as_ref()),
            task_timeout: duration_from_proto(a.workflow_task_timeout.as_ref()),
            parent: parent_of(a),
            root: a.root_workflow_execution.clone(),
            // The request id is not part of the event; a live start adds it afterwards.
            request_id: String::new(),
            identity: a.identity.clone(),
            first_run_id: own(&a.first_execution_run_id),
            original_run_id: own(&a.original_execution_run_id),
            continued_run_id: RunId::new(&a.continued_execution_run_id),
            retry_policy: a.retry_policy.clone(),
            attempt: a.attempt.max(1),
            retry_expiration: expiration,
            cron_schedule: a.cron_schedule.clone(),
            continued_failure: a.continued_failure.clone(),
            last_completion_result: a.last_completion_result.clone(),
            user_metadata: event.user_metadata.clone(),
            priority: a.priority.clone(),
            carried: goes_on.then(|| Carried {
                memo: a.memo.clone(),
                search_attributes: a.search_attributes.clone(),
            }),
            clock: event.task_id,
        };
        self.execution_info.status = WorkflowExecutionStatus::Running;
        self.execution_info.workflow_task_attempt = 1;
        self.execution_info.memo = a.memo.clone();
        self.execution_info.search_attributes = a.search_attributes.clone();
        self.execution_info.reset_points = a.prev_auto_reset_points.clone();
        scope.applied.delta.start = true;
        scope.now(event, TaskKind::Visibility);
        if let Some((at, kind)) = self.run_deadline() {
            scope.at(event, at, kind);
        }
        if !backoff.is_zero() {
            scope.at(event, self.start.execution_time, TaskKind::WorkflowBackoff);
        }
        Ok(())
    }
}

fn parent_of(a: &WorkflowExecutionStartedEventAttributes) -> Option<Parent> {
    let execution = a.parent_workflow_execution.as_ref()?;
    Some(Parent {
        key: RunKey::new(
            a.parent_workflow_namespace_id.as_str(),
            execution.workflow_id.as_str(),
            execution.run_id.as_str(),
        ),
        namespace: a.parent_workflow_namespace.clone(),
        initiated_event_id: EventId::new(a.parent_initiated_event_id),
        initiated_event_version: a.parent_initiated_event_version,
        root: a.root_workflow_execution.clone(),
    })
}
