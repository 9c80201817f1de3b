//! Names of task queues.

use cluster_rpc::status;
use proto_messages::temporal::api::{enums::v1::TaskQueueKind, taskqueue::v1::TaskQueue};
use tonic::Status;

use super::{length, refuse};
use crate::limits::Limits;

/// Names of this form belong to the server: partitions and queues of its own.
const RESERVED_PREFIX: &str = "/_sys/";

/// The queue of the server's workers in each namespace, which is not for clients.
const INTERNAL_QUEUE: &str = "temporal-sys-per-ns-tq";

/// Checks a task queue and fills in its kind.
pub(crate) fn task_queue(queue: Option<&mut TaskQueue>, limits: Limits<'_>) -> Result<(), Status> {
    let Some(queue) = queue.filter(|q| !q.name.is_empty()) else {
        return refuse("TaskQueue is not set on request.");
    };
    length("TaskQueue", &queue.name, limits)?;
    if queue.name.starts_with(RESERVED_PREFIX) {
        return refuse(format!(
            "task queue name cannot start with reserved prefix {RESERVED_PREFIX}"
        ));
    }
    if queue.kind == TaskQueueKind::Unspecified as i32 {
        queue.kind = TaskQueueKind::Normal as i32;
    }
    if queue.kind == TaskQueueKind::Sticky as i32 {
        length("TaskQueue", &queue.normal_name, limits)?;
    }
    Ok(())
}

/// Refuses to start workflows on the server's own queue.
pub(super) fn not_internal(queue: Option<&TaskQueue>) -> Result<(), Status> {
    if queue.is_some_and(|q| q.name == INTERNAL_QUEUE) {
        return Err(status::invalid_argument(format!(
            "cannot use internal per-namespace task queue {INTERNAL_QUEUE}"
        )));
    }
    Ok(())
}
