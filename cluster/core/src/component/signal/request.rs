//! A signal arrives.

use proto_messages::temporal::api::{
    common::v1::WorkflowExecution,
    history::v1::{HistoryEvent, WorkflowExecutionSignaledEventAttributes},
};

use crate::{
    Refusal, Reply, component::start::is_parent, decision::Decision, event::Attributes,
    request::Signal,
};

pub(crate) fn signal(
    decision: &mut Decision<'_>,
    signal: Signal,
    only_from_parent: Option<&WorkflowExecution>,
) -> Result<(), Refusal> {
    if only_from_parent.is_some_and(|parent| !is_parent(decision.ms, parent)) {
        return Err(Refusal::NotChild);
    }
    if !signal.request_id.is_empty() && decision.ms.signal_request_ids.contains(&signal.request_id)
    {
        decision.reply = Reply::Duplicate;
        return Ok(());
    }
    if decision.ms.execution_info.signal_count >= decision.ctx.limits.signals_limit {
        let text = "exceeded workflow execution limit for signal events";
        return Err(Refusal::Invalid(text.into()));
    }
    if decision.ms.execution_info.close_attempted && decision.ms.has_started_workflow_task() {
        let text = "workflow operation can not be applied because workflow is closing";
        return Err(Refusal::Limit {
            exhausted: true,
            text: text.into(),
        });
    }
    decision.ms.check_room(decision.ctx.limits)?;
    let skip = signal.skip_workflow_task;
    decision.record_event(signaled(decision, signal))?;
    if skip {
        Ok(())
    } else {
        decision.schedule_workflow_task()
    }
}

/// A signal's event.
pub(crate) fn signaled(decision: &Decision<'_>, signal: Signal) -> HistoryEvent {
    let links = signal.links;
    #[expect(deprecated, reason = "replayed by clusters that still read it")]
    let attributes = WorkflowExecutionSignaledEventAttributes {
        signal_name: signal.name,
        input: signal.input,
        identity: signal.identity,
        header: signal.header,
        skip_generate_workflow_task: signal.skip_workflow_task,
        external_workflow_execution: signal.external,
        request_id: signal.request_id,
    };
    let attributes = Attributes::WorkflowExecutionSignaledEventAttributes(attributes);
    HistoryEvent {
        links,
        ..decision.event(attributes)
    }
}
