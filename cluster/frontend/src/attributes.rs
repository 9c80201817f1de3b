//! The search attributes that belong to the server.

use std::collections::HashMap;

use proto_messages::temporal::api::enums::v1::IndexedValueType::{
    self, Bool, Datetime, Int, Keyword, KeywordList,
};

/// What the server indexes of every run.
const SYSTEM: [(&str, IndexedValueType); 16] = [
    ("WorkflowId", Keyword),
    ("RunId", Keyword),
    ("WorkflowType", Keyword),
    ("ExecutionStatus", Keyword),
    ("StartTime", Datetime),
    ("ExecutionTime", Datetime),
    ("CloseTime", Datetime),
    ("ExecutionDuration", Int),
    ("TaskQueue", Keyword),
    ("HistoryLength", Int),
    ("HistorySizeBytes", Int),
    ("StateTransitionCount", Int),
    ("ParentWorkflowId", Keyword),
    ("ParentRunId", Keyword),
    ("RootWorkflowId", Keyword),
    ("RootRunId", Keyword),
];

/// Names that are the server's though it fills them only for some runs, or not yet.
const RESERVED: [(&str, IndexedValueType); 8] = [
    ("TemporalNamespaceDivision", Keyword),
    ("TemporalScheduledStartTime", Datetime),
    ("TemporalScheduledById", Keyword),
    ("TemporalSchedulePaused", Bool),
    ("TemporalWorkerDeployment", Keyword),
    ("TemporalWorkerDeploymentVersion", Keyword),
    ("TemporalWorkflowVersioningBehavior", Keyword),
    ("TemporalReportedProblems", KeywordList),
];

/// Names and types of what can be filtered on.
pub(crate) fn system() -> HashMap<String, i32> {
    let named = SYSTEM.iter();
    named
        .map(|(name, kind)| ((*name).to_owned(), *kind as i32))
        .collect()
}

/// Whether clients may not set the attribute.
pub(crate) fn is_system(name: &str) -> bool {
    let is = |(known, _): &(&str, IndexedValueType)| *known == name;
    SYSTEM.iter().any(is) || RESERVED.iter().any(is)
}
