//! GetWorkflowExecutionHistory and its reverse.

use proto_messages::{
    meridian::history::v1 as history,
    temporal::api::{
        enums::v1::{EventType, HistoryEventFilterType},
        history::v1::{
            HistoryEvent, WorkflowExecutionContinuedAsNewEventAttributes, history_event::Attributes,
        },
        workflowservice::v1::{
            GetWorkflowExecutionHistoryRequest, GetWorkflowExecutionHistoryResponse,
            GetWorkflowExecutionHistoryReverseRequest, GetWorkflowExecutionHistoryReverseResponse,
        },
    },
};
use tonic::Status;

use crate::{
    edge::{Call, Serve},
    frontend::Host,
    limits, token, validate,
};

/// A capability of a client, sent in a header.
const FEATURES: &str = "supported-features";
const FOLLOWS_NEXT_RUN: &str = "follows-next-run-id";

impl Serve for GetWorkflowExecutionHistoryRequest {
    async fn serve(
        mut self,
        host: &Host,
        call: &Call,
    ) -> Result<GetWorkflowExecutionHistoryResponse, Status> {
        let limits = host.limits(call.namespace.name.as_str());
        validate::execution(self.execution.as_ref(), limits)?;
        token::check_history(&self.next_page_token, call.namespace.id.as_str())?;
        self.maximum_page_size = page_size(self.maximum_page_size, limits);
        if self.history_event_filter_type == HistoryEventFilterType::Unspecified as i32 {
            self.history_event_filter_type = HistoryEventFilterType::AllEvent as i32;
        }
        let only_close =
            self.history_event_filter_type == HistoryEventFilterType::CloseEvent as i32;
        let request = history::GetWorkflowExecutionHistoryRequest {
            namespace_id: call.namespace_id(),
            request: Some(self),
            with_transient_events: !shows_to_people(call),
        };
        let mut answer = host
            .history
            .get_workflow_execution_history(call.onward(request))
            .await?;
        if only_close
            && !follows_next_run(call)
            && let Some(last) = answer.history.as_mut().and_then(|h| h.events.last_mut())
        {
            continue_as_new(last);
        }
        Ok(answer)
    }

    fn is_long(&self) -> bool {
        self.wait_new_event
    }
}

impl Serve for GetWorkflowExecutionHistoryReverseRequest {
    async fn serve(
        mut self,
        host: &Host,
        call: &Call,
    ) -> Result<GetWorkflowExecutionHistoryReverseResponse, Status> {
        let limits = host.limits(call.namespace.name.as_str());
        validate::execution(self.execution.as_ref(), limits)?;
        token::check_history(&self.next_page_token, call.namespace.id.as_str())?;
        self.maximum_page_size = page_size(self.maximum_page_size, limits);
        let request = history::GetWorkflowExecutionHistoryReverseRequest {
            namespace_id: call.namespace_id(),
            request: Some(self),
        };
        host.history
            .get_workflow_execution_history_reverse(call.onward(request))
            .await
    }
}

/// Clients that show history to people. They are shown what is stored; workers and their tests also need the
/// attempt at hand.
const SHOWING: [&str; 2] = ["temporal-cli", "temporal-ui"];

fn shows_to_people(call: &Call) -> bool {
    let name = call.headers.get("client-name");
    name.and_then(|v| v.to_str().ok())
        .is_some_and(|name| SHOWING.contains(&name))
}

/// Whether the client looks for the next run in every closing event.
fn follows_next_run(call: &Call) -> bool {
    let features = call.headers.get(FEATURES).and_then(|v| v.to_str().ok());
    features.is_some_and(|f| f.split(',').any(|f| f.trim() == FOLLOWS_NEXT_RUN))
}

/// Shows a closing event that has a successor as continued-as-new, the only one in which older clients
/// look for the next run.
fn continue_as_new(event: &mut HistoryEvent) {
    let next = match &event.attributes {
        Some(Attributes::WorkflowExecutionCompletedEventAttributes(a)) => &a.new_execution_run_id,
        Some(Attributes::WorkflowExecutionFailedEventAttributes(a)) => &a.new_execution_run_id,
        Some(Attributes::WorkflowExecutionTimedOutEventAttributes(a)) => &a.new_execution_run_id,
        _ => return,
    };
    if next.is_empty() {
        return;
    }
    let attributes = WorkflowExecutionContinuedAsNewEventAttributes {
        new_execution_run_id: next.clone(),
        ..Default::default()
    };
    event.event_type = EventType::WorkflowExecutionContinuedAsNew as i32;
    event.attributes = Some(Attributes::WorkflowExecutionContinuedAsNewEventAttributes(
        attributes,
    ));
}

fn page_size(asked: i32, limits: limits::Limits<'_>) -> i32 {
    let most = i32::try_from(limits.get(&limits::HISTORY_PAGE)).unwrap_or(i32::MAX);
    if asked <= 0 { most } else { asked.min(most) }
}

#[cfg(test)]
mod tests {
    use proto_messages::temporal::api::history::v1::WorkflowExecutionFailedEventAttributes;

    use super::*;

    #[test]
    fn a_retried_run_looks_continued_to_old_clients() {
        let failed = |next: &str| HistoryEvent {
            event_id: 7,
            event_type: EventType::WorkflowExecutionFailed as i32,
            attributes: Some(Attributes::WorkflowExecutionFailedEventAttributes(
                WorkflowExecutionFailedEventAttributes {
                    new_execution_run_id: next.into(),
                    ..Default::default()
                },
            )),
            ..Default::default()
        };
        let mut last = failed("");
        continue_as_new(&mut last);
        assert_eq!(last, failed(""));
        let mut retried = failed("next");
        continue_as_new(&mut retried);
        let Some(Attributes::WorkflowExecutionContinuedAsNewEventAttributes(seen)) =
            retried.attributes
        else {
            panic!("{retried:?}")
        };
        assert_eq!(
            (retried.event_id, seen.new_execution_run_id.as_str()),
            (7, "next")
        );
    }
}
