//! Validation of requests before they are served. Each check answers with the text that
//! SDKs and tests compare. Checks are pure: limits are arguments.

mod blob;
mod execution;
mod failure;
mod metadata;
mod policy;
mod queue;
mod start;
mod versioning;

pub(crate) use blob::{blob, fits, memo};
pub(crate) use execution::{execution, run_id, workflow_id};
pub(crate) use failure::{commands, failure};
pub(crate) use metadata::{links, user_metadata};
pub(crate) use queue::task_queue;
pub(crate) use start::{NewWorkflow, start};
pub(crate) use versioning::unversioned_worker;

use cluster_rpc::status;
use tonic::Status;

use crate::limits::{self, Limits};

/// The outcome of a check.
pub(crate) type Checked = Result<(), Status>;

pub(crate) fn refuse(text: impl Into<String>) -> Checked {
    Err(status::invalid_argument(text))
}

/// Refuses an identifier that is longer than allowed, or that no store can keep. `what` begins the text.
pub(crate) fn length(what: &str, id: &str, limits: Limits<'_>) -> Checked {
    if id.len() > limits.get(&limits::ID_LENGTH) {
        return refuse(format!("{what} length exceeds limit."));
    }
    storable(what, id)
}

/// Refuses a name with a NUL character: PostgreSQL keeps none in text, so a row with it could never be written.
/// All other characters, control characters among them, are fine in names.
pub(crate) fn storable(what: &str, text: &str) -> Checked {
    match text.as_bytes().contains(&0) {
        true => refuse(format!("{what} contains a NUL character.")),
        false => Ok(()),
    }
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
