//! The search attributes that every server has: their names and types, and which of them clients may set. Filters,
//! requests and commands all name them, so the list stands where all can read it.

use crate::temporal::api::{
    common::v1::SearchAttributes,
    enums::v1::IndexedValueType::{self, Bool, Datetime, Int, Keyword, KeywordList},
};

/// What the server itself tells of every run.
pub const SYSTEM: [(&str, IndexedValueType); 16] = [
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

/// What every server knows and stores with the attributes that clients set. SDKs and tools set these.
pub const PREDEFINED: [(&str, IndexedValueType); 11] = [
    ("TemporalChangeVersion", KeywordList),
    ("BinaryChecksums", KeywordList),
    ("BuildIds", KeywordList),
    ("BatcherNamespace", Keyword),
    ("BatcherUser", Keyword),
    ("TemporalScheduledStartTime", Datetime),
    ("TemporalScheduledById", Keyword),
    ("TemporalSchedulePaused", Bool),
    ("TemporalNamespaceDivision", Keyword),
    ("TemporalPauseInfo", KeywordList),
    ("TemporalReportedProblems", KeywordList),
];

/// The same, set by servers only.
pub const RESERVED: [(&str, IndexedValueType); 6] = [
    ("TemporalWorkerDeploymentVersion", Keyword),
    ("TemporalWorkflowVersioningBehavior", Keyword),
    ("TemporalWorkerDeployment", Keyword),
    ("TemporalUsedWorkerDeploymentVersions", KeywordList),
    ("TemporalExternalPayloadCount", Int),
    ("TemporalExternalPayloadSizeBytes", Int),
];

/// All of them.
pub fn known() -> impl Iterator<Item = (&'static str, IndexedValueType)> {
    SYSTEM.into_iter().chain(PREDEFINED).chain(RESERVED)
}

/// Says why one of the attributes cannot be set, in Temporal's words. No others can be registered.
pub fn check_names(attributes: &SearchAttributes, namespace: &str) -> Result<(), String> {
    let is = |name: &str, list: &[(&str, IndexedValueType)]| list.iter().any(|(n, _)| *n == name);
    for name in attributes.indexed_fields.keys() {
        if is(name, &PREDEFINED) {
            continue;
        }
        if is(name, &SYSTEM) || is(name, &RESERVED) {
            return Err(format!("{name} attribute can't be set in SearchAttributes"));
        }
        return Err(format!(
            "Namespace {namespace} has no mapping defined for search attribute {name}"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_names_that_are_not_the_servers_own_can_be_set() {
        let text = |name: &str| {
            let attributes = SearchAttributes {
                indexed_fields: [(name.to_owned(), Default::default())].into(),
            };
            check_names(&attributes, "orders").err().unwrap_or_default()
        };
        for (name, _) in PREDEFINED {
            assert_eq!(text(name), "");
        }
        for name in ["StartTime", "WorkflowType", "TemporalWorkerDeployment"] {
            assert_eq!(
                text(name),
                format!("{name} attribute can't be set in SearchAttributes")
            );
        }
        assert_eq!(
            text("Color"),
            "Namespace orders has no mapping defined for search attribute Color"
        );
    }
}
