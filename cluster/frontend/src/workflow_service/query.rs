//! QueryWorkflow.

use std::time::Duration;

use proto_messages::{
    meridian::history::v1 as history,
    temporal::api::workflowservice::v1::{QueryWorkflowRequest, QueryWorkflowResponse},
};
use tonic::Status;

use crate::{
    edge::{Call, Serve},
    frontend::Host,
    validate,
};

/// Kept back from the caller's deadline, so that it gets to read why its query was not answered.
const RESERVE: Duration = Duration::from_millis(200);

impl Serve for QueryWorkflowRequest {
    async fn serve(self, host: &Host, call: &Call) -> Result<QueryWorkflowResponse, Status> {
        let limits = host.limits(call.namespace.name.as_str());
        validate::execution(self.execution.as_ref(), limits)?;
        let Some(query) = &self.query else {
            return Err(cluster_rpc::status::invalid_argument(
                "WorkflowQuery is not set on request.",
            ));
        };
        validate::identifier("QueryType", &query.query_type, limits)?;
        validate::blob(query.query_args.as_ref(), limits)?;
        validate::blob(query.header.as_ref(), limits)?;
        let request = history::QueryWorkflowRequest {
            namespace_id: call.namespace_id(),
            request: Some(self),
        };
        host.history
            .query_workflow(call.onward_within(request, RESERVE))
            .await
    }
}
