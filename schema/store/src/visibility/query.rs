//! The list filter: text to AST. Grammar and error texts follow Temporal's SQL-like list filter.

use crate::error::StoreError;

mod column;
mod eval;
mod lexer;
mod literal;
mod parse;
mod superset;
#[cfg(test)]
mod tests;

use column::Kind;
pub use eval::Attributes;

/// Why a filter is refused. Its text begins "invalid query: ", for an InvalidArgument status.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid query: {0}")]
pub struct QueryError(String);

impl QueryError {
    fn syntax(at: usize, near: &str) -> Self {
        let near: String = near.chars().take(40).collect();
        let near = if near.is_empty() {
            near
        } else {
            format!(" near '{near}'")
        };
        Self(format!(
            "malformed SQL query: syntax error at position {at}{near}"
        ))
    }
}

impl From<QueryError> for StoreError {
    fn from(error: QueryError) -> Self {
        Self::Invalid(error.to_string())
    }
}

/// A parsed filter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query {
    /// The condition; `None` matches all.
    pub filter: Option<Expr>,
    /// `GROUP BY ExecutionStatus`, for counts.
    pub group_by_status: bool,
}

/// A condition.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// Both.
    And(Box<Expr>, Box<Expr>),
    /// Either.
    Or(Box<Expr>, Box<Expr>),
    /// Not.
    Not(Box<Expr>),
    /// A column against a value.
    Compare {
        /// The column.
        column: Column,
        /// The operator.
        op: Op,
        /// The value.
        value: Value,
    },
    /// A column among values.
    In {
        /// The column.
        column: Column,
        /// The values.
        values: Vec<Value>,
    },
    /// A column between two values, both inclusive.
    Between {
        /// The column.
        column: Column,
        /// Low.
        low: Value,
        /// High.
        high: Value,
    },
    /// A column is null.
    IsNull(Column),
}

/// An operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// `=`
    Eq,
    /// `!=`
    Ne,
    /// `<`
    Lt,
    /// `<=`
    Le,
    /// `>`
    Gt,
    /// `>=`
    Ge,
    /// `STARTS_WITH`
    StartsWith,
}

/// System attributes that can be filtered on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// WorkflowId
    WorkflowId,
    /// RunId
    RunId,
    /// WorkflowType
    WorkflowType,
    /// ExecutionStatus
    ExecutionStatus,
    /// StartTime
    StartTime,
    /// ExecutionTime
    ExecutionTime,
    /// CloseTime
    CloseTime,
    /// ExecutionDuration
    ExecutionDuration,
    /// TaskQueue
    TaskQueue,
    /// HistoryLength
    HistoryLength,
    /// HistorySizeBytes
    HistorySizeBytes,
    /// StateTransitionCount
    StateTransitionCount,
    /// ParentWorkflowId
    ParentWorkflowId,
    /// ParentRunId
    ParentRunId,
    /// RootWorkflowId
    RootWorkflowId,
    /// RootRunId
    RootRunId,
    /// TemporalNamespaceDivision: null in every row, since system workflows have no rows here.
    NamespaceDivision,
    /// An attribute that every server knows and that stands among the row's search attributes, by name. Stores
    /// take it for null: see [`Query::superset`].
    Attribute(&'static str),
}

/// A literal, already in the column's unit: status number, nanoseconds, 0 or 1, or text.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Keyword columns.
    Text(String),
    /// Number, time (nanoseconds) and status columns.
    Int(i64),
}
