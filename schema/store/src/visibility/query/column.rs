//! The columns' names and kinds.

use super::{
    Column, Value,
    literal::{Literal, value},
};

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Keyword,
    Int,
    Datetime,
    Duration,
    Status,
    KeywordList,
    Bool,
}

/// Attributes that stand among a row's search attributes.
const ATTRIBUTES: [(&str, Kind); 16] = [
    ("TemporalChangeVersion", Kind::KeywordList),
    ("BinaryChecksums", Kind::KeywordList),
    ("BuildIds", Kind::KeywordList),
    ("BatcherNamespace", Kind::Keyword),
    ("BatcherUser", Kind::Keyword),
    ("TemporalScheduledStartTime", Kind::Datetime),
    ("TemporalScheduledById", Kind::Keyword),
    ("TemporalSchedulePaused", Kind::Bool),
    ("TemporalPauseInfo", Kind::KeywordList),
    ("TemporalReportedProblems", Kind::KeywordList),
    ("TemporalWorkerDeploymentVersion", Kind::Keyword),
    ("TemporalWorkflowVersioningBehavior", Kind::Keyword),
    ("TemporalWorkerDeployment", Kind::Keyword),
    ("TemporalUsedWorkerDeploymentVersions", Kind::KeywordList),
    ("TemporalExternalPayloadCount", Kind::Int),
    ("TemporalExternalPayloadSizeBytes", Kind::Int),
];

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
            let column = NAMES.iter().find(|(name, _)| *name == wanted);
            let attribute = ATTRIBUTES.iter().find(|(name, _)| *name == wanted);
            column
                .map(|(_, column)| *column)
                .or_else(|| attribute.map(|(name, _)| Self::Attribute(name)))
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
        if let Self::Attribute(name) = self {
            return name;
        }
        NAMES
            .iter()
            .find(|(_, column)| *column == self)
            .map_or("", |(name, _)| name)
    }

    /// A value of an attribute that is written as text, as clients write it; `None` when it is none.
    pub fn read(self, text: &str) -> Option<Value> {
        value(self, Literal::Text(text)).ok()
    }

    /// Whether a row has any number of its values, none among them: it is never null in comparisons.
    pub(super) fn is_list(self) -> bool {
        self.kind() == Kind::KeywordList
    }

    /// Whether its values are bare words.
    pub(super) fn takes_words(self) -> bool {
        self.kind() == Kind::Bool
    }

    /// Whether its values are text.
    pub fn is_keyword(self) -> bool {
        matches!(self.kind(), Kind::Keyword | Kind::KeywordList)
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
            Self::Attribute(name) => ATTRIBUTES
                .iter()
                .find(|(known, _)| *known == name)
                .map_or(Kind::Keyword, |(_, kind)| *kind),
        }
    }

    /// The public type's name, as errors tell it.
    pub(super) fn type_name(self) -> &'static str {
        match self.kind() {
            Kind::Keyword | Kind::Status => "Keyword",
            Kind::Int | Kind::Duration => "Int",
            Kind::Datetime => "Datetime",
            Kind::KeywordList => "KeywordList",
            Kind::Bool => "Bool",
        }
    }
}
