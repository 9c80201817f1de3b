//! The columns' names and kinds.

use super::Column;

/// What a column's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Keyword,
    Int,
    Datetime,
    Duration,
    Status,
}

const NAMES: [(&str, Column); 17] = [
    ("WorkflowId", Column::WorkflowId),
    ("RunId", Column::RunId),
    ("WorkflowType", Column::WorkflowType),
    ("ExecutionStatus", Column::ExecutionStatus),
    ("StartTime", Column::StartTime),
    ("ExecutionTime", Column::ExecutionTime),
    ("CloseTime", Column::CloseTime),
    ("ExecutionDuration", Column::ExecutionDuration),
    ("TaskQueue", Column::TaskQueue),
    ("HistoryLength", Column::HistoryLength),
    ("HistorySizeBytes", Column::HistorySizeBytes),
    ("StateTransitionCount", Column::StateTransitionCount),
    ("ParentWorkflowId", Column::ParentWorkflowId),
    ("ParentRunId", Column::ParentRunId),
    ("RootWorkflowId", Column::RootWorkflowId),
    ("RootRunId", Column::RootRunId),
    ("TemporalNamespaceDivision", Column::NamespaceDivision),
];

impl Column {
    /// By its name, with or without the prefix `Temporal`; `ScheduleId` is the workflow id.
    pub fn named(name: &str) -> Option<Self> {
        let find = |wanted: &str| {
            NAMES
                .iter()
                .find(|(name, _)| *name == wanted)
                .map(|(_, column)| *column)
        };
        let bare = name.strip_prefix("Temporal");
        if bare.unwrap_or(name) == "ScheduleId" {
            return Some(Self::WorkflowId);
        }
        find(name)
            .or_else(|| bare.and_then(find))
            .or_else(|| find(&format!("Temporal{name}")))
    }

    /// Its public name.
    pub fn name(self) -> &'static str {
        NAMES
            .iter()
            .find(|(_, column)| *column == self)
            .map_or("", |(name, _)| name)
    }

    /// Whether its values are text.
    pub fn is_keyword(self) -> bool {
        self.kind() == Kind::Keyword
    }

    pub(super) fn kind(self) -> Kind {
        match self {
            Self::ExecutionStatus => Kind::Status,
            Self::StartTime | Self::ExecutionTime | Self::CloseTime => Kind::Datetime,
            Self::ExecutionDuration => Kind::Duration,
            Self::HistoryLength | Self::HistorySizeBytes | Self::StateTransitionCount => Kind::Int,
            Self::WorkflowId
            | Self::RunId
            | Self::WorkflowType
            | Self::TaskQueue
            | Self::ParentWorkflowId
            | Self::ParentRunId
            | Self::RootWorkflowId
            | Self::RootRunId
            | Self::NamespaceDivision => Kind::Keyword,
        }
    }

    /// The public type's name, as errors tell it.
    pub(super) fn type_name(self) -> &'static str {
        match self.kind() {
            Kind::Keyword | Kind::Status => "Keyword",
            Kind::Int | Kind::Duration => "Int",
            Kind::Datetime => "Datetime",
        }
    }
}
