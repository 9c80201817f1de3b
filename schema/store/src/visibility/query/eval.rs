//! The condition against one row, with SQL's three values: a comparison with null is neither true nor false.

use std::cmp::Ordering;

use super::{Column, Expr, Op, Query, Value};
use crate::{error::StoreError, visibility::VisibilityRecord};

impl Query {
    /// Refuses what a list cannot do.
    pub fn check_list(&self) -> Result<(), StoreError> {
        if self.group_by_status {
            return Err(StoreError::Invalid(
                "GROUP BY clause is not supported".to_owned(),
            ));
        }
        Ok(())
    }

    /// Whether the row is wanted.
    pub fn matches(&self, record: &VisibilityRecord) -> bool {
        self.filter
            .as_ref()
            .is_none_or(|filter| filter.holds(record) == Some(true))
    }
}

impl Expr {
    /// Whether the condition holds for the row; `None` when a null decides.
    pub fn holds(&self, record: &VisibilityRecord) -> Option<bool> {
        match self {
            Self::And(a, b) => match (a.holds(record), b.holds(record)) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            },
            Self::Or(a, b) => match (a.holds(record), b.holds(record)) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            },
            Self::Not(inner) => inner.holds(record).map(|holds| !holds),
            Self::Compare { column, op, value } => {
                column.of(record).map(|stored| op.holds(&stored, value))
            }
            Self::In { column, values } => column.of(record).map(|stored| values.contains(&stored)),
            Self::Between { column, low, high } => column
                .of(record)
                .map(|stored| Op::Ge.holds(&stored, low) && Op::Le.holds(&stored, high)),
            Self::IsNull(column) => Some(column.of(record).is_none()),
        }
    }
}

impl Op {
    fn holds(self, stored: &Value, value: &Value) -> bool {
        let order = match (stored, value) {
            (Value::Text(a), Value::Text(b)) if self == Self::StartsWith => {
                return a.starts_with(b.as_str());
            }
            (Value::Text(a), Value::Text(b)) => a.cmp(b),
            (Value::Int(a), Value::Int(b)) => a.cmp(b),
            _ => return false,
        };
        match self {
            Self::Eq => order == Ordering::Equal,
            Self::Ne => order != Ordering::Equal,
            Self::Lt => order == Ordering::Less,
            Self::Le => order != Ordering::Greater,
            Self::Gt => order == Ordering::Greater,
            Self::Ge => order != Ordering::Less,
            Self::StartsWith => false,
        }
    }
}

impl Column {
    /// The column of a row; `None` is null.
    pub fn of(self, record: &VisibilityRecord) -> Option<Value> {
        let text = |text: &str| Some(Value::Text(text.to_owned()));
        let unless_empty = |text: &str| (!text.is_empty()).then(|| Value::Text(text.to_owned()));
        let closed = !record.close_time.is_zero();
        let when_closed = |value: i64| closed.then_some(Value::Int(value));
        match self {
            Self::WorkflowId => text(record.workflow_id.as_str()),
            Self::RunId => text(record.run_id.as_str()),
            Self::WorkflowType => text(&record.workflow_type),
            Self::TaskQueue => text(&record.task_queue),
            Self::ExecutionStatus => Some(Value::Int(i64::from(record.status))),
            Self::StartTime => Some(Value::Int(record.start_time.nanos())),
            Self::ExecutionTime => Some(Value::Int(record.execution_time.nanos())),
            Self::CloseTime => when_closed(record.close_time.nanos()),
            Self::ExecutionDuration => when_closed(
                record
                    .close_time
                    .nanos()
                    .saturating_sub(record.execution_time.nanos()),
            ),
            Self::HistoryLength => when_closed(record.history_length),
            Self::HistorySizeBytes => when_closed(record.history_size),
            Self::StateTransitionCount => when_closed(record.state_transition_count),
            Self::ParentWorkflowId => unless_empty(&record.parent_workflow_id),
            Self::ParentRunId => unless_empty(&record.parent_run_id),
            Self::RootWorkflowId => unless_empty(&record.root_workflow_id),
            Self::RootRunId => unless_empty(&record.root_run_id),
            Self::NamespaceDivision => None,
        }
    }
}
