//! ListWorkflowExecutions, ScanWorkflowExecutions and CountWorkflowExecutions.

use cluster_rpc::status;
use proto_messages::{
    Wire,
    temporal::api::{
        common::v1::{Memo, Payload, SearchAttributes, WorkflowExecution, WorkflowType},
        enums::v1::WorkflowExecutionStatus,
        workflow::v1::WorkflowExecutionInfo,
        workflowservice::v1::{
            CountWorkflowExecutionsRequest, CountWorkflowExecutionsResponse,
            ListWorkflowExecutionsRequest, ListWorkflowExecutionsResponse,
            ScanWorkflowExecutionsRequest, ScanWorkflowExecutionsResponse,
            count_workflow_executions_response::AggregationGroup,
        },
    },
    time,
};
use schema_store::visibility::{VisibilityRecord, query::Query};
use tonic::Status;

use crate::{
    edge::{Call, Serve},
    frontend::Host,
    limits, refusal,
};

mod scan;

/// A page as clients get it.
pub(super) struct Page {
    pub(super) executions: Vec<WorkflowExecutionInfo>,
    pub(super) next_page_token: bytes::Bytes,
}

impl Serve for ListWorkflowExecutionsRequest {
    async fn serve(
        self,
        host: &Host,
        call: &Call,
    ) -> Result<ListWorkflowExecutionsResponse, Status> {
        let query = parse(&self.query)?;
        let page = read(host, call, &query, self.page_size, self.next_page_token).await?;
        Ok(ListWorkflowExecutionsResponse {
            executions: page.executions,
            next_page_token: page.next_page_token,
        })
    }
}

impl Serve for ScanWorkflowExecutionsRequest {
    async fn serve(
        self,
        host: &Host,
        call: &Call,
    ) -> Result<ScanWorkflowExecutionsResponse, Status> {
        let query = parse(&self.query)?;
        let page = read(host, call, &query, self.page_size, self.next_page_token).await?;
        Ok(ScanWorkflowExecutionsResponse {
            executions: page.executions,
            next_page_token: page.next_page_token,
        })
    }
}

impl Serve for CountWorkflowExecutionsRequest {
    async fn serve(
        self,
        host: &Host,
        call: &Call,
    ) -> Result<CountWorkflowExecutionsResponse, Status> {
        let query =
            Query::parse(&self.query).map_err(|e| status::invalid_argument(e.to_string()))?;
        let counted = match query.superset() {
            Some(superset) => scan::count(host, call, &query, &superset).await?,
            None => host
                .visibility
                .visibility_count(&call.namespace.id, &query)
                .await
                .map_err(refusal::of_store)?,
        };
        let groups = match query.group_by_status {
            true => counted.by_status.into_iter().map(group).collect(),
            false => Vec::new(),
        };
        Ok(CountWorkflowExecutionsResponse {
            count: counted.total,
            groups,
        })
    }
}

/// One page of a namespace's runs.
pub(super) async fn read(
    host: &Host,
    call: &Call,
    query: &Query,
    page_size: i32,
    token: bytes::Bytes,
) -> Result<Page, Status> {
    let most = host
        .limits(call.namespace.name.as_str())
        .get(&limits::VISIBILITY_PAGE)
        .max(1);
    let size = match usize::try_from(page_size) {
        Ok(0) | Err(_) => most,
        Ok(asked) => asked.min(most),
    };
    let after = (!token.is_empty()).then_some(token);
    let page = match query.superset() {
        Some(superset) => scan::list(host, call, (query, &superset), size, after).await?,
        None => host
            .visibility
            .visibility_list(&call.namespace.id, query, size, after)
            .await
            .map_err(refusal::of_store)?,
    };
    Ok(Page {
        executions: page.records.into_iter().map(info).collect(),
        next_page_token: page.next.unwrap_or_default(),
    })
}

fn parse(text: &str) -> Result<Query, Status> {
    let query = Query::parse(text).map_err(|e| status::invalid_argument(e.to_string()))?;
    if query.group_by_status {
        return Err(status::invalid_argument(
            "invalid query: GROUP BY clause is not supported in list queries",
        ));
    }
    Ok(query)
}

/// A row as clients get it. Columns that cannot be decoded are left out rather than failing the page.
fn info(row: VisibilityRecord) -> WorkflowExecutionInfo {
    let at = |t: proto_ids::Timestamp| (!t.is_zero()).then(|| time::to_proto(t));
    let run = |workflow_id: String, run_id: String| {
        (!workflow_id.is_empty()).then_some(WorkflowExecution {
            workflow_id,
            run_id,
        })
    };
    let duration = (!row.close_time.is_zero())
        .then(|| time::duration_to_proto(row.close_time.since(row.execution_time)));
    let parent_namespace_id = match row.parent_workflow_id.is_empty() {
        true => String::new(),
        false => row.namespace_id.to_string(),
    };
    WorkflowExecutionInfo {
        execution: run(row.workflow_id.to_string(), row.run_id.to_string()),
        r#type: Some(WorkflowType {
            name: row.workflow_type,
        }),
        start_time: at(row.start_time),
        execution_time: at(row.execution_time),
        close_time: at(row.close_time),
        status: row.status,
        history_length: row.history_length,
        history_size_bytes: row.history_size,
        state_transition_count: row.state_transition_count,
        execution_duration: duration,
        parent_namespace_id,
        parent_execution: run(row.parent_workflow_id, row.parent_run_id),
        root_execution: run(row.root_workflow_id, row.root_run_id),
        // Never unset: clients look into them without asking.
        memo: Some(decode::<Memo>(row.memo).unwrap_or_default()),
        search_attributes: Some(
            decode::<SearchAttributes>(row.search_attributes).unwrap_or_default(),
        ),
        task_queue: row.task_queue,
        ..Default::default()
    }
}

fn decode<M: Wire>(data: bytes::Bytes) -> Option<M> {
    (!data.is_empty())
        .then(|| M::from_wire(data).ok())
        .flatten()
}

/// A group's key is a JSON payload with the type of the attribute, as SDKs decode it.
fn group((status, count): (i32, i64)) -> AggregationGroup {
    let name = WorkflowExecutionStatus::try_from(status).unwrap_or_default();
    let name = camel(name.as_str_name());
    let metadata = [("encoding", "json/plain"), ("type", "Keyword")];
    AggregationGroup {
        group_values: vec![Payload {
            metadata: metadata
                .into_iter()
                .map(|(k, v)| (k.to_owned(), v.as_bytes().to_vec().into()))
                .collect(),
            data: format!("\"{name}\"").into(),
            ..Default::default()
        }],
        count,
    }
}

/// `WORKFLOW_EXECUTION_STATUS_TIMED_OUT` as `TimedOut`.
fn camel(name: &str) -> String {
    let words = name
        .trim_start_matches("WORKFLOW_EXECUTION_STATUS_")
        .split('_');
    let mut camel = String::new();
    for word in words {
        let (first, rest) = word.split_at(word.len().min(1));
        camel.push_str(first);
        camel.push_str(&rest.to_ascii_lowercase());
    }
    camel
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_keyed_by_status_names() {
        let group = group((7, 3));
        assert_eq!(group.count, 3);
        assert_eq!(group.group_values[0].data, "\"TimedOut\"");
        assert_eq!(camel("WORKFLOW_EXECUTION_STATUS_RUNNING"), "Running");
        assert!(parse("GROUP BY ExecutionStatus").is_err());
        assert!(parse("WorkflowId = 'a'").is_ok());
        assert!(
            parse("WorkflowId ==")
                .unwrap_err()
                .message()
                .starts_with("invalid query: ")
        );
    }
}
