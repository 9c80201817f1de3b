//! List filters as SQL with bound values, in the words both databases share.

use std::fmt::Write;

use schema_store::visibility::{
    Position,
    query::{Column, Expr, Op, Query, Value},
};

/// The columns of a row, in the order in which rows are read.
pub(crate) const COLUMNS: &str = "workflow_id, run_id, version, workflow_type, task_queue, status, start_time, \
    execution_time, close_key, history_length, history_size, state_transition_count, parent_workflow_id, \
    parent_run_id, root_workflow_id, root_run_id, memo, search_attributes";

/// A statement and its values; `$1` is the first.
pub(crate) struct Statement {
    pub(crate) sql: String,
    pub(crate) values: Vec<Value>,
}

impl Statement {
    /// A page after a position, one row more than asked for, so that the end shows.
    pub(crate) fn list(
        namespace_id: &str,
        query: &Query,
        page_size: usize,
        after: Option<&Position>,
    ) -> Self {
        let mut statement = Self::start(format!("SELECT {COLUMNS}"), namespace_id, query);
        if let Some(after) = after {
            let close = statement.bind(Value::Int(after.close));
            let start = statement.bind(Value::Int(after.start));
            let run = statement.bind(Value::Text(after.run_id.as_str().to_owned()));
            // The first condition follows from the second; it is what an index can use.
            statement.push(&format!(
                " AND close_key <= {close} AND (close_key < {close} OR (close_key = {close} AND \
                 (start_time < {start} OR (start_time = {start} AND run_id > {run}))))"
            ));
        }
        let limit = i64::try_from(page_size)
            .unwrap_or(i64::MAX)
            .saturating_add(1);
        let limit = statement.bind(Value::Int(limit));
        statement.push(&format!(
            " ORDER BY close_key DESC, start_time DESC, run_id LIMIT {limit}"
        ));
        statement
    }

    /// Counts by status.
    pub(crate) fn count(namespace_id: &str, query: &Query) -> Self {
        let mut statement = Self::start("SELECT status, count(*)".to_owned(), namespace_id, query);
        statement.push(" GROUP BY status");
        statement
    }

    fn start(select: String, namespace_id: &str, query: &Query) -> Self {
        let mut statement = Self {
            sql: select,
            values: Vec::new(),
        };
        let namespace = statement.bind(Value::Text(namespace_id.to_owned()));
        statement.push(&format!(
            " FROM visibility WHERE namespace_id = {namespace}"
        ));
        if let Some(filter) = &query.filter {
            statement.push(" AND ");
            statement.expr(filter);
        }
        statement
    }

    fn push(&mut self, text: &str) {
        self.sql.push_str(text);
    }

    fn bind(&mut self, value: Value) -> String {
        self.values.push(value);
        format!("${}", self.values.len())
    }

    fn expr(&mut self, expr: &Expr) {
        self.push("(");
        match expr {
            Expr::And(a, b) => self.both(a, " AND ", b),
            Expr::Or(a, b) => self.both(a, " OR ", b),
            Expr::Not(inner) => {
                self.push("NOT ");
                self.expr(inner);
            }
            Expr::Compare { column, op, value } => self.compare(*column, *op, value),
            Expr::In { column, values } => {
                let places: Vec<String> = values
                    .iter()
                    .map(|value| self.bind(value.clone()))
                    .collect();
                let _ = write!(self.sql, "{} IN ({})", sql_of(*column), places.join(", "));
            }
            Expr::Between { column, low, high } => {
                let (low, high) = (self.bind(low.clone()), self.bind(high.clone()));
                let _ = write!(self.sql, "{} BETWEEN {low} AND {high}", sql_of(*column));
            }
            Expr::IsNull(column) => {
                let _ = write!(self.sql, "{} IS NULL", sql_of(*column));
            }
        }
        self.push(")");
    }

    fn both(&mut self, a: &Expr, word: &str, b: &Expr) {
        self.expr(a);
        self.push(word);
        self.expr(b);
    }

    fn compare(&mut self, column: Column, op: Op, value: &Value) {
        let place = self.bind(value.clone());
        let column = sql_of(column);
        let sign = match op {
            Op::Eq => "=",
            Op::Ne => "<>",
            Op::Lt => "<",
            Op::Le => "<=",
            Op::Gt => ">",
            Op::Ge => ">=",
            Op::StartsWith => {
                // No LIKE: its wildcards would have to be escaped. The first condition is for the index.
                let _ = write!(
                    self.sql,
                    "{column} >= {place} AND substr({column}, 1, length({place})) = {place}"
                );
                return;
            }
        };
        let _ = write!(self.sql, "{column} {sign} {place}");
    }
}

/// The column as an expression that is null where the attribute has no value.
fn sql_of(column: Column) -> &'static str {
    match column {
        Column::WorkflowId => "workflow_id",
        Column::RunId => "run_id",
        Column::WorkflowType => "workflow_type",
        Column::TaskQueue => "task_queue",
        Column::ExecutionStatus => "status",
        Column::StartTime => "start_time",
        Column::ExecutionTime => "execution_time",
        Column::CloseTime => "NULLIF(close_key, 9223372036854775807)",
        Column::ExecutionDuration => "(NULLIF(close_key, 9223372036854775807) - execution_time)",
        Column::HistoryLength => {
            "(CASE WHEN close_key < 9223372036854775807 THEN history_length END)"
        }
        Column::HistorySizeBytes => {
            "(CASE WHEN close_key < 9223372036854775807 THEN history_size END)"
        }
        Column::StateTransitionCount => {
            "(CASE WHEN close_key < 9223372036854775807 THEN state_transition_count END)"
        }
        Column::ParentWorkflowId => "NULLIF(parent_workflow_id, '')",
        Column::ParentRunId => "NULLIF(parent_run_id, '')",
        Column::RootWorkflowId => "NULLIF(root_workflow_id, '')",
        Column::RootRunId => "NULLIF(root_run_id, '')",
        Column::NamespaceDivision | Column::Attribute(_) => "CAST(NULL AS TEXT)",
    }
}
