//! Children as other clusters and tools see them.

use proto_messages::temporal::server::api::persistence::v1 as wire;

use super::ChildExecutionInfo;
use crate::MutableState;

pub(super) fn replicate(ms: &MutableState, to: &mut wire::WorkflowMutableState) {
    let infos = ms.children.iter();
    let infos = infos.map(|(id, child)| (id.get(), child_info(child)));
    to.child_execution_infos = infos.collect();
}

fn child_info(child: &ChildExecutionInfo) -> wire::ChildExecutionInfo {
    wire::ChildExecutionInfo {
        version: child.version.get(),
        initiated_event_batch_id: child.initiated_batch_id.get(),
        started_event_id: child.started_event_id.get(),
        started_workflow_id: child.workflow_id.clone(),
        started_run_id: child.run_id.to_string(),
        create_request_id: child.create_request_id.clone(),
        namespace: child.namespace.clone(),
        workflow_type_name: child.workflow_type.name.clone(),
        parent_close_policy: child.parent_close_policy as i32,
        initiated_event_id: child.initiated_event_id.get(),
        namespace_id: child.namespace_id.clone(),
        ..wire::ChildExecutionInfo::default()
    }
}
