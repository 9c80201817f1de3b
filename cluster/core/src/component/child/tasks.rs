//! The tasks that children owe.

use proto_ids::EventId;
use proto_messages::temporal::api::enums::v1::ParentClosePolicy;

use crate::{MutableState, component::PendingTasks, task::TaskKind};

/// A child that does not depend on its parent is started although the parent closed meanwhile.
pub(super) fn is_pending(ms: &MutableState, kind: &TaskKind) -> bool {
    let TaskKind::StartChild { initiated_event_id } = kind else {
        return false;
    };
    ms.children.get(initiated_event_id).is_some_and(|c| {
        c.started_event_id == EventId::default()
            && (ms.is_running() || c.parent_close_policy == ParentClosePolicy::Abandon)
    })
}

pub(super) fn pending_tasks(ms: &MutableState, pending: &mut PendingTasks<'_>) {
    for child in ms.children.values() {
        let kind = TaskKind::StartChild {
            initiated_event_id: child.initiated_event_id,
        };
        if is_pending(ms, &kind) {
            pending.add(child.version, None, kind);
        }
    }
}
