//! GetWorkflowExecutionHistory and its reverse.

use proto_messages::{
    meridian::history::v1 as history,
    temporal::api::{
        enums::v1::HistoryEventFilterType,
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
        let request = history::GetWorkflowExecutionHistoryRequest {
            namespace_id: call.namespace_id(),
            request: Some(self),
        };
        host.history
            .get_workflow_execution_history(call.onward(request))
            .await
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

fn page_size(asked: i32, limits: limits::Limits<'_>) -> i32 {
    let most = i32::try_from(limits.get(&limits::HISTORY_PAGE)).unwrap_or(i32::MAX);
    if asked <= 0 { most } else { asked.min(most) }
}
