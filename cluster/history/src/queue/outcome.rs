//! The outcome of a task, from the result of the call that it made.

use std::time::Duration;

use proto_ids::RunKey;
use tonic::{Code, Status};

use cluster_core::{Refusal, Request};
use cluster_rpc::status;
use cluster_shard::{Outcome, ReadError, Shard, ShardError, UpdateError};
use proto_messages::temporal::api::errordetails::v1::NamespaceNotActiveFailure;

use crate::change;

/// First pause before a task is tried again.
pub const SOON: Duration = Duration::from_millis(100);
/// Pause when what is in the way takes longer to go.
pub const LATER: Duration = Duration::from_secs(1);

/// Applies a request to the task's own run; done when the run took it or it does not apply any more.
pub async fn apply_to_run(shard: &Shard, key: &RunKey, request: Request) -> Outcome {
    match change::apply_request(shard, key, request).await {
        Ok(_) => Outcome::Done,
        Err(error) => after_update(error),
    }
}

/// After an update that failed.
pub fn after_update(error: UpdateError) -> Outcome {
    match error {
        UpdateError::Refused(Refusal::NotReady(_)) => Outcome::Retry(SOON),
        UpdateError::Refused(Refusal::Corrupt(corrupt)) => {
            Outcome::PermanentFailure(corrupt.to_string())
        }
        UpdateError::Refused(_) | UpdateError::NotFound => Outcome::Done,
        UpdateError::NamespaceNotFound(_) => Outcome::Retry(LATER),
        UpdateError::NotActive { .. } => Outcome::Wait,
        UpdateError::Handover(_) | UpdateError::Busy(_) => Outcome::Retry(LATER),
        UpdateError::Shard(error) => after_shard(error),
    }
}

/// After a read that failed.
pub fn after_read(error: ReadError) -> Outcome {
    match error {
        ReadError::NotFound => Outcome::Done,
        ReadError::Shard(error) => after_shard(error),
    }
}

/// The outcome after an error of the shard. Data that cannot be read, or is refused for its content, is a
/// permanent failure.
fn after_shard(error: ShardError) -> Outcome {
    match error {
        ShardError::Corrupt(_) | ShardError::Rejected(_) => {
            Outcome::PermanentFailure(error.to_string())
        }
        _ => Outcome::Retry(SOON),
    }
}

/// After a call to another run or to matching that failed for a reason the task does not know.
pub fn after_call(error: &Status, key: &RunKey) -> Outcome {
    match error.code() {
        Code::FailedPrecondition if is_not_active(error) => Outcome::Retry(LATER),
        Code::Unavailable | Code::Aborted | Code::DeadlineExceeded | Code::Cancelled => {
            Outcome::Retry(SOON)
        }
        Code::ResourceExhausted => Outcome::Retry(LATER),
        code => {
            tracing::warn!(
                namespace = %key.namespace_id, workflow_id = %key.workflow_id, run_id = %key.run_id,
                ?code, error = error.message(), "a task's call failed; it is tried again"
            );
            Outcome::Retry(LATER)
        }
    }
}

fn is_not_active(error: &Status) -> bool {
    status::decode_detail::<NamespaceNotActiveFailure>(error).is_some()
}
