//! Memo and search attributes that the workflow changes.

mod apply;
mod modify;
mod upsert_search_attributes;

use proto_messages::temporal::{
    api::enums::v1::{EventType, WorkflowTaskFailedCause as Cause},
    server::api::persistence::v1::WorkflowMutableState,
};

pub(crate) use self::apply::is_null;
use super::Component;
use crate::{MutableState, command::command};

pub(super) const COMPONENT: Component = Component {
    events: &[
        EventType::UpsertWorkflowSearchAttributes,
        EventType::WorkflowPropertiesModified,
    ],
    apply: apply::apply,
    commands: &[
        command!(
            UpsertWorkflowSearchAttributes,
            UpsertWorkflowSearchAttributesCommandAttributes,
            upsert_search_attributes,
            Cause::BadSearchAttributes
        ),
        command!(
            ModifyWorkflowProperties,
            ModifyWorkflowPropertiesCommandAttributes,
            modify,
            Cause::BadModifyWorkflowPropertiesAttributes
        ),
    ],
    replicate,
    ..Component::NONE
};

fn replicate(ms: &MutableState, to: &mut WorkflowMutableState) {
    let info = to.execution_info.get_or_insert_default();
    if let Some(attributes) = &ms.execution_info.search_attributes {
        info.search_attributes = attributes.indexed_fields.clone();
    }
    if let Some(memo) = &ms.execution_info.memo {
        info.memo = memo.fields.clone();
    }
}
