//! Events that close a run.

use proto_ids::EventId;
use proto_messages::temporal::api::{
    enums::v1::WorkflowExecutionStatus, history::v1::HistoryEvent,
};

use crate::{
    MutableState,
    apply::Scope,
    event::{Attributes, event_time},
    task::TaskKind,
    transition::Corrupt,
};

pub(super) fn apply(
    ms: &mut MutableState,
    event: &HistoryEvent,
    attributes: &Attributes,
    scope: &mut Scope<'_>,
) -> Result<(), Corrupt> {
    ms.closed_by(event, attributes, scope);
    Ok(())
}

impl MutableState {
    fn closed_by(&mut self, event: &HistoryEvent, attributes: &Attributes, scope: &mut Scope<'_>) {
        use Attributes as A;
        use WorkflowExecutionStatus as S;
        let (status, new_run_id) = match attributes {
            A::WorkflowExecutionCompletedEventAttributes(a) => {
                (S::Completed, a.new_execution_run_id.as_str())
            }
            A::WorkflowExecutionFailedEventAttributes(a) => {
                (S::Failed, a.new_execution_run_id.as_str())
            }
            A::WorkflowExecutionTimedOutEventAttributes(a) => {
                (S::TimedOut, a.new_execution_run_id.as_str())
            }
            A::WorkflowExecutionCanceledEventAttributes(_) => (S::Canceled, ""),
            A::WorkflowExecutionTerminatedEventAttributes(_) => (S::Terminated, ""),
            A::WorkflowExecutionContinuedAsNewEventAttributes(a) => {
                (S::ContinuedAsNew, a.new_execution_run_id.as_str())
            }
            _ => return,
        };
        let at = event_time(event);
        self.execution_info.status = status;
        // Zero means "open", so a close event without a time still closes.
        self.execution_info.close_time = if at.is_zero() {
            proto_ids::Timestamp::from_nanos(1)
        } else {
            at
        };
        self.execution_info.close_event_id = EventId::new(event.event_id);
        self.execution_info.close_batch_first_event_id = scope.batch_first;
        self.execution_info.workflow_task = None;
        self.execution_info.sticky = None;
        self.continued_by(new_run_id);
        scope.now(event, TaskKind::Close);
        scope.now(event, TaskKind::Visibility);
        scope.at(
            event,
            self.execution_info.close_time.plus(scope.limits.retention),
            TaskKind::Retention,
        );
    }
}
