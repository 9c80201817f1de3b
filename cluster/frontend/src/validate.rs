//! What requests are held to before anything is done about them. Each check answers with the text that
//! SDKs and tests compare. Checks are pure: limits are arguments.

mod blob;
mod execution;
mod metadata;
mod policy;
mod queue;
mod start;

pub(crate) use blob::{blob, fits, memo};
pub(crate) use execution::{execution, run_id, workflow_id};
pub(crate) use metadata::{links, user_metadata};
pub(crate) use queue::task_queue;
pub(crate) use start::{NewWorkflow, start};

use cluster_rpc::status;
use cluster_runtime::Key;
use tonic::Status;

use crate::limits::{self, Limits};

/// The outcome of a check.
pub(crate) type Checked = Result<(), Status>;

pub(crate) fn refuse(text: impl Into<String>) -> Checked {
    Err(status::invalid_argument(text))
}

/// Refuses an identifier that is longer than allowed. `what` begins the text.
pub(crate) fn length(what: &str, id: &str, limits: Limits<'_>) -> Checked {
    longest(what, id, limits, &limits::ID_LENGTH)
}

fn longest(what: &str, text: &str, limits: Limits<'_>, key: &'static Key<i64>) -> Checked {
    if text.len() > limits.get(key) {
        return refuse(format!("{what} length exceeds limit."));
    }
    Ok(())
}

/// Refuses an identifier that is empty or longer than allowed.
pub(crate) fn identifier(what: &str, id: &str, limits: Limits<'_>) -> Checked {
    if id.is_empty() {
        return refuse(format!("{what} is not set on request."));
    }
    length(what, id, limits)
}

#[cfg(test)]
mod tests;
