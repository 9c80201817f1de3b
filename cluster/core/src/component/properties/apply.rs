//! Memo and search attributes that the workflow changes. A null value removes the key.

use std::collections::HashMap;

use proto_messages::temporal::api::{
    common::v1::Payload,
    history::v1::{
        HistoryEvent, UpsertWorkflowSearchAttributesEventAttributes,
        WorkflowPropertiesModifiedEventAttributes,
    },
};

use crate::{MutableState, apply::Scope, event::Attributes, task::TaskKind, transition::Corrupt};

pub(super) fn apply(
    ms: &mut MutableState,
    event: &HistoryEvent,
    attributes: &Attributes,
    scope: &mut Scope<'_>,
) -> Result<(), Corrupt> {
    use Attributes as A;
    match attributes {
        A::UpsertWorkflowSearchAttributesEventAttributes(a) => {
            ms.search_attributes_upserted(event, a, scope)
        }
        A::WorkflowPropertiesModifiedEventAttributes(a) => ms.properties_modified(event, a, scope),
        _ => {}
    }
    Ok(())
}

impl MutableState {
    fn search_attributes_upserted(
        &mut self,
        event: &HistoryEvent,
        a: &UpsertWorkflowSearchAttributesEventAttributes,
        scope: &mut Scope<'_>,
    ) {
        if let Some(upserted) = &a.search_attributes {
            let current = self
                .execution_info
                .search_attributes
                .get_or_insert_default();
            merge(&mut current.indexed_fields, &upserted.indexed_fields);
        }
        scope.now(event, TaskKind::Visibility);
    }

    fn properties_modified(
        &mut self,
        event: &HistoryEvent,
        a: &WorkflowPropertiesModifiedEventAttributes,
        scope: &mut Scope<'_>,
    ) {
        if let Some(upserted) = &a.upserted_memo {
            let current = self.execution_info.memo.get_or_insert_default();
            merge(&mut current.fields, &upserted.fields);
        }
        scope.now(event, TaskKind::Visibility);
    }
}

fn merge(current: &mut HashMap<String, Payload>, upserted: &HashMap<String, Payload>) {
    for (key, value) in upserted {
        if is_null(value) {
            current.remove(key);
        } else {
            current.insert(key.clone(), value.clone());
        }
    }
}

/// Whether a payload stands for "no value".
pub(crate) fn is_null(value: &Payload) -> bool {
    match value.metadata.get("encoding").map(|e| e.as_ref()) {
        Some(b"binary/null") => true,
        Some(b"json/plain") => matches!(value.data.as_ref(), b"null" | b"[]"),
        _ => value.data.is_empty(),
    }
}
