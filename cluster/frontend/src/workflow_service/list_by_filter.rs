//! ListOpenWorkflowExecutions and ListClosedWorkflowExecutions: the older lists, as filters of the newer.

use cluster_rpc::status;
use proto_messages::{
    temporal::api::{
        enums::v1::WorkflowExecutionStatus,
        filter::v1::{StartTimeFilter, WorkflowExecutionFilter},
        workflowservice::v1::{
            ListClosedWorkflowExecutionsRequest, ListClosedWorkflowExecutionsResponse,
            ListOpenWorkflowExecutionsRequest, ListOpenWorkflowExecutionsResponse,
            list_closed_workflow_executions_request::Filters as Closed,
            list_open_workflow_executions_request::Filters as Open,
        },
    },
    time,
};
use schema_store::visibility::query::{Column, Expr, Op, Query, Value};
use tonic::Status;

use super::list;
use crate::{
    edge::{Call, Serve},
    frontend::Host,
    validate,
};

impl Serve for ListOpenWorkflowExecutionsRequest {
    async fn serve(
        self,
        host: &Host,
        call: &Call,
    ) -> Result<ListOpenWorkflowExecutionsResponse, Status> {
        let mut conditions = vec![is_running(Op::Eq)];
        between(&mut conditions, Column::StartTime, self.start_time_filter)?;
        match self.filters {
            Some(Open::ExecutionFilter(run)) => execution(&mut conditions, run)?,
            Some(Open::TypeFilter(kind)) => {
                conditions.push(text(Column::WorkflowType, kind.name)?);
            }
            None => {}
        }
        let (size, token) = (self.maximum_page_size, self.next_page_token);
        let page = list::read(host, call, &all(conditions), size, token).await?;
        Ok(ListOpenWorkflowExecutionsResponse {
            executions: page.executions,
            next_page_token: page.next_page_token,
        })
    }
}

impl Serve for ListClosedWorkflowExecutionsRequest {
    async fn serve(
        self,
        host: &Host,
        call: &Call,
    ) -> Result<ListClosedWorkflowExecutionsResponse, Status> {
        let mut conditions = vec![is_running(Op::Ne)];
        between(&mut conditions, Column::CloseTime, self.start_time_filter)?;
        match self.filters {
            Some(Closed::ExecutionFilter(run)) => execution(&mut conditions, run)?,
            Some(Closed::TypeFilter(kind)) => {
                conditions.push(text(Column::WorkflowType, kind.name)?);
            }
            Some(Closed::StatusFilter(of)) => {
                let status = of.status;
                if matches!(
                    WorkflowExecutionStatus::try_from(status),
                    Err(_)
                        | Ok(
                            WorkflowExecutionStatus::Unspecified | WorkflowExecutionStatus::Running
                        )
                ) {
                    return Err(status::invalid_argument(
                        "Status must be set to a closed status.",
                    ));
                }
                conditions.push(number(Column::ExecutionStatus, Op::Eq, status.into()));
            }
            None => {}
        }
        let (size, token) = (self.maximum_page_size, self.next_page_token);
        let page = list::read(host, call, &all(conditions), size, token).await?;
        Ok(ListClosedWorkflowExecutionsResponse {
            executions: page.executions,
            next_page_token: page.next_page_token,
        })
    }
}

fn is_running(op: Op) -> Expr {
    let running = WorkflowExecutionStatus::Running as i32;
    number(Column::ExecutionStatus, op, running.into())
}

fn execution(conditions: &mut Vec<Expr>, run: WorkflowExecutionFilter) -> Result<(), Status> {
    conditions.push(text(Column::WorkflowId, run.workflow_id)?);
    if !run.run_id.is_empty() {
        conditions.push(text(Column::RunId, run.run_id)?);
    }
    Ok(())
}

fn between(
    conditions: &mut Vec<Expr>,
    column: Column,
    filter: Option<StartTimeFilter>,
) -> Result<(), Status> {
    let Some(filter) = filter else {
        return Ok(());
    };
    let nanos = |t: Option<prost_types::Timestamp>| t.map(|t| time::from_proto(&t).nanos());
    let (low, high) = (nanos(filter.earliest_time), nanos(filter.latest_time));
    if let (Some(low), Some(high)) = (low, high)
        && low > high
    {
        return Err(status::invalid_argument(
            "EarliestTime in StartTimeFilter should not be larger than LatestTime.",
        ));
    }
    let bounds = [(Op::Ge, low), (Op::Le, high)];
    let bounds = bounds
        .into_iter()
        .filter_map(|(op, at)| Some(number(column, op, at?)));
    conditions.extend(bounds);
    Ok(())
}

fn text(column: Column, value: String) -> Result<Expr, Status> {
    validate::storable(column.name(), &value)?;
    Ok(Expr::Compare {
        column,
        op: Op::Eq,
        value: Value::Text(value),
    })
}

fn number(column: Column, op: Op, value: i64) -> Expr {
    Expr::Compare {
        column,
        op,
        value: Value::Int(value),
    }
}

fn all(conditions: Vec<Expr>) -> Query {
    let both = |a, b| Expr::And(Box::new(a), Box::new(b));
    Query {
        filter: conditions.into_iter().reduce(both),
        group_by_status: false,
    }
}
