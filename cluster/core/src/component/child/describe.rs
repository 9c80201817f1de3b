//! Pending children as DescribeWorkflowExecution shows them.

use proto_ids::Timestamp;
use proto_messages::temporal::api::{
    workflow::v1 as view, workflowservice::v1::DescribeWorkflowExecutionResponse,
};

use super::ChildExecutionInfo;
use crate::MutableState;

pub(super) fn describe(
    ms: &MutableState,
    _: Timestamp,
    to: &mut DescribeWorkflowExecutionResponse,
) {
    to.pending_children = ms.children.values().map(child).collect();
}

fn child(c: &ChildExecutionInfo) -> view::PendingChildExecutionInfo {
    view::PendingChildExecutionInfo {
        workflow_id: c.workflow_id.clone(),
        run_id: c.run_id.as_str().to_owned(),
        workflow_type_name: c.workflow_type.name.clone(),
        initiated_id: c.initiated_event_id.get(),
        parent_close_policy: c.parent_close_policy as i32,
    }
}
