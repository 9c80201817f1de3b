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

    /// Whether the row is wanted, as far as its columns tell.
    pub fn matches(&self, record: &VisibilityRecord) -> bool {
        self.matches_with(record, &|_| Vec::new())
    }

    /// Whether the row is wanted. `attributes` tells the values of an attribute that is no column; none is null.
    pub fn matches_with(&self, record: &VisibilityRecord, attributes: Attributes<'_>) -> bool {
        self.filter
            .as_ref()
            .is_none_or(|filter| filter.holds(record, attributes) == Some(true))
    }
}

/// The values of the attributes of one row that are no columns, by name. A list has several.
pub type Attributes<'a> = &'a dyn Fn(&'static str) -> Vec<Value>;

impl Expr {
    /// Whether the condition holds for the row; `None` when a null decides.
    fn holds(&self, record: &VisibilityRecord, attributes: Attributes<'_>) -> Option<bool> {
        let any = |column: Column, holds: &dyn Fn(&Value) -> bool| {
            let stored = column.values(record, attributes);
            (column.is_list() || !stored.is_empty()).then(|| stored.iter().any(holds))
        };
        match self {
            Self::And(a, b) => match (a.holds(record, attributes), b.holds(record, attributes)) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            },
            Self::Or(a, b) => match (a.holds(record, attributes), b.holds(record, attributes)) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            },
            Self::Not(inner) => inner.holds(record, attributes).map(|holds| !holds),
            // A list differs from a value when it does not hold it.
            Self::Compare {
                column,
                op: Op::Ne,
                value,
            } => any(*column, &|stored| Op::Eq.holds(stored, value)).map(|holds| !holds),
            Self::Compare { column, op, value } => any(*column, &|stored| op.holds(stored, value)),
            Self::In { column, values } => any(*column, &|stored| values.contains(stored)),
            Self::Between { column, low, high } => any(*column, &|stored| {
                Op::Ge.holds(stored, low) && Op::Le.holds(stored, high)
            }),
            Self::IsNull(column) => Some(column.values(record, attributes).is_empty()),
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
    fn values(self, record: &VisibilityRecord, attributes: Attributes<'_>) -> Vec<Value> {
        match self {
            Self::Attribute(name) => attributes(name),
            column => column.of(record).into_iter().collect(),
        }
    }

    /// The column of a row; `None` is null.
    fn of(self, record: &VisibilityRecord) -> Option<Value> {
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
            Self::NamespaceDivision | Self::Attribute(_) => None,
        }
    }
}
