//! How an attempt at a task ends, from how what it tried ended.

use std::time::Duration;

use proto_ids::RunKey;
use tonic::{Code, Status};

use cluster_core::{Refusal, Request};
use cluster_rpc::status;
use cluster_shard::{ReadError, Shard, ShardError, UpdateError, Verdict};
use proto_messages::temporal::api::errordetails::v1::NamespaceNotActiveFailure;

use crate::change;

/// First pause before a task is tried again.
pub const SOON: Duration = Duration::from_millis(100);
/// Pause when what is in the way takes longer to go.
pub const LATER: Duration = Duration::from_secs(1);

/// Applies a request to the task's own run; done when the run took it or it does not apply any more.
pub async fn apply_to_run(shard: &Shard, key: &RunKey, request: Request) -> Verdict {
    match change::apply_request(shard, key, request).await {
        Ok(_) => Verdict::Done,
        Err(error) => after_update(error),
    }
}

/// After an update that failed.
pub fn after_update(error: UpdateError) -> Verdict {
    match error {
        UpdateError::Refused(Refusal::NotReady(_)) => Verdict::Retry(SOON),
        UpdateError::Refused(Refusal::Corrupt(corrupt)) => Verdict::Poison(corrupt.to_string()),
        UpdateError::Refused(_) | UpdateError::NotFound => Verdict::Done,
        UpdateError::NamespaceNotFound(_) => Verdict::Retry(LATER),
        UpdateError::NotActive { .. } => Verdict::Park,
        UpdateError::Handover(_) | UpdateError::Busy(_) => Verdict::Retry(LATER),
        UpdateError::Shard(error) => after_shard(error),
    }
}

/// After a read that failed.
pub fn after_read(error: ReadError) -> Verdict {
    match error {
        ReadError::NotFound => Verdict::Done,
        ReadError::Shard(error) => after_shard(error),
    }
}

/// The outcome after an error of the shard. Data that cannot be read, or is refused for its content, is a
/// permanent failure.
fn after_shard(error: ShardError) -> Verdict {
    match error {
        ShardError::Corrupt(_) | ShardError::Rejected(_) => Verdict::Poison(error.to_string()),
        _ => Verdict::Retry(SOON),
    }
}

/// After a call to another run or to matching that failed for a reason the task does not know.
pub fn after_call(error: &Status, key: &RunKey) -> Verdict {
    match error.code() {
        Code::FailedPrecondition if is_not_active(error) => Verdict::Retry(LATER),
        Code::Unavailable | Code::Aborted | Code::DeadlineExceeded | Code::Cancelled => {
            Verdict::Retry(SOON)
        }
        Code::ResourceExhausted => Verdict::Retry(LATER),
        code => {
            tracing::warn!(
                namespace = %key.namespace_id, workflow_id = %key.workflow_id, run_id = %key.run_id,
                ?code, error = error.message(), "a task's call failed; it is tried again"
            );
            Verdict::Retry(LATER)
        }
    }
}

fn is_not_active(error: &Status) -> bool {
    status::decode_detail::<NamespaceNotActiveFailure>(error).is_some()
}
