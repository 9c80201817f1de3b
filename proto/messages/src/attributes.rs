//! The search attributes that every server has: their names and types, and which of them clients may set. Filters,
//! requests and commands all name them, so the list stands where all can read it.

use serde_json::Value;

use crate::temporal::api::{
    common::v1::{Payload, SearchAttributes},
    enums::v1::IndexedValueType::{self, Bool, Datetime, Int, Keyword, KeywordList},
};

/// The search attributes that the server itself sets on every run.
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

/// The search attributes that every server has and clients set: SDKs and tools do.
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
pub fn check(attributes: &SearchAttributes, namespace: &str) -> Result<(), String> {
    let is = |name: &str, list: &[(&str, IndexedValueType)]| list.iter().any(|(n, _)| *n == name);
    for (name, payload) in &attributes.indexed_fields {
        if let Some((_, kind)) = PREDEFINED.iter().find(|(n, _)| n == name) {
            if fits(*kind, payload) {
                continue;
            }
            let shown = String::from_utf8_lossy(&payload.data[..payload.data.len().min(100)]);
            return Err(format!(
                "invalid value for search attribute {name} of type {kind:?}: {shown}"
            ));
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

/// Whether the payload is JSON of this type, or a list of it. No value, or an empty list, takes the attribute away.
fn fits(kind: IndexedValueType, payload: &Payload) -> bool {
    match payload.metadata.get("encoding").map(|e| e.as_ref()) {
        Some(b"binary/null") => return true,
        Some(b"json/plain") => {}
        _ => return false,
    }
    match serde_json::from_slice(&payload.data) {
        Ok(Value::Null) => true,
        Ok(Value::Array(list)) => list.iter().all(|value| is_of(kind, value)),
        Ok(value) => is_of(kind, &value),
        Err(_) => false,
    }
}

fn is_of(kind: IndexedValueType, value: &Value) -> bool {
    match kind {
        Bool => value.is_boolean(),
        Int => value.is_i64(),
        IndexedValueType::Double => value.is_number(),
        // Times, too, are written as text.
        _ => value.is_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_names_that_are_not_the_servers_own_can_be_set() {
        let with = |name: &str, encoding: &'static str, json: &'static str| {
            let payload = Payload {
                metadata: [("encoding".to_owned(), encoding.into())].into(),
                data: json.into(),
                ..Default::default()
            };
            let attributes = SearchAttributes {
                indexed_fields: [(name.to_owned(), payload)].into(),
            };
            check(&attributes, "orders").err().unwrap_or_default()
        };
        let text = |name| with(name, "json/plain", "null");
        for (name, _) in PREDEFINED {
            assert_eq!(text(name), "");
        }
        for (name, good) in [
            ("TemporalChangeVersion", r#"["a","b"]"#),
            ("TemporalChangeVersion", r#""a""#),
            ("BatcherUser", r#""ann""#),
            ("TemporalSchedulePaused", "true"),
        ] {
            assert_eq!(with(name, "json/plain", good), "", "{good}");
        }
        for (name, bad) in [
            ("TemporalChangeVersion", "5"),
            ("TemporalChangeVersion", r#"["a",5]"#),
            ("TemporalSchedulePaused", r#""true""#),
            ("BatcherUser", "{"),
        ] {
            assert!(
                with(name, "json/plain", bad).starts_with("invalid value for"),
                "{bad}"
            );
        }
        assert!(with("BatcherUser", "binary/plain", r#""ann""#).starts_with("invalid value for"));
        assert_eq!(with("BatcherUser", "binary/null", ""), "");
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
