//! The RPCs of the history service, a file per family. Each looks up the shard, lets the core decide under
//! the run's lock, and makes the answer; none holds state.

pub mod activity;
pub mod admin;
pub mod cancel;
pub mod child;
pub mod delete;
pub mod describe;
pub mod get_history;
pub mod query;
pub mod reset;
pub mod signal;
pub mod start;
pub mod terminate;
pub mod workflow_task;

use proto_ids::{RunId, RunKey};
use proto_messages::temporal::api::common::v1::WorkflowExecution;
use tonic::Status;

use cluster_core::{Durability, Transition};
use cluster_rpc::status;

/// The public request inside an internal one.
pub fn required<T>(request: Option<T>) -> Result<T, Status> {
    request.ok_or_else(|| status::invalid_argument("Request is not set."))
}

/// The run an execution names; an empty run id means the current run.
pub fn run_key(
    namespace_id: &str,
    execution: Option<&WorkflowExecution>,
) -> Result<RunKey, Status> {
    let execution =
        execution.ok_or_else(|| status::invalid_argument("Execution is not set on request."))?;
    if execution.workflow_id.is_empty() {
        return Err(status::invalid_argument(
            "WorkflowId is not set on request.",
        ));
    }
    Ok(RunKey::new(
        namespace_id,
        execution.workflow_id.as_str(),
        execution.run_id.as_str(),
    ))
}

/// The run meant by a caller that names the first run of a chain: the chain's current one, whichever run the
/// caller knows. Clients keep the id of the run they started, and it may have been continued since.
pub fn in_chain(key: RunKey, first_execution_run_id: &str) -> RunKey {
    match first_execution_run_id.is_empty() {
        true => key,
        false => RunKey {
            run_id: RunId::default(),
            ..key
        },
    }
}

/// An outcome that changes nothing.
pub fn unchanged() -> Transition {
    Transition {
        durability: Durability::None,
        ..Transition::default()
    }
}

/// Makes a start wait for its commit when nothing else would bring the task back.
pub fn promote(transition: &mut Transition, durable: bool) {
    if durable && transition.durability == Durability::WriteBehind {
        transition.durability = Durability::Durable;
    }
}
