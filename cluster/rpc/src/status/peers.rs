//! Statuses between servers, within a cluster and between clusters.

use proto_messages::{
    meridian::matching::v1::StickyWorkerUnavailableFailure,
    temporal::server::api::errordetails::v1::{
        CurrentBranchChangedFailure, RetryReplicationFailure, ShardOwnershipLostFailure,
    },
};
use tonic::{Code, Status};

use super::{decode_detail, with_detail};

/// The callee does not own the shard; `owner_host` may be empty when it does not know who does.
pub fn shard_ownership_lost(owner_host: &str, current_host: &str) -> Status {
    let failure = ShardOwnershipLostFailure {
        owner_host: owner_host.to_owned(),
        current_host: current_host.to_owned(),
    };
    let text = match (owner_host, current_host) {
        ("", "") => "Shard is not owned by this host any more".to_owned(),
        _ => format!("Shard is owned by:{owner_host} but not by {current_host}"),
    };
    with_detail(Code::Aborted, text, &failure)
}

/// Whether the status says that the callee does not own the shard.
pub fn is_shard_ownership_lost(status: &Status) -> bool {
    status.code() == Code::Aborted && decode_detail::<ShardOwnershipLostFailure>(status).is_some()
}

/// Events are missing; the detail names them.
pub fn retry_replication(text: impl Into<String>, missing: &RetryReplicationFailure) -> Status {
    with_detail(Code::Aborted, text, missing)
}

/// A page token belongs to a branch that is no longer the current one.
pub fn current_branch_changed(
    text: impl Into<String>,
    changed: &CurrentBranchChangedFailure,
) -> Status {
    with_detail(Code::InvalidArgument, text, changed)
}

/// No worker polls the sticky queue: the caller uses the normal queue.
pub fn sticky_worker_unavailable() -> Status {
    let text = "sticky worker unavailable";
    with_detail(
        Code::FailedPrecondition,
        text,
        &StickyWorkerUnavailableFailure {},
    )
}

/// Whether the status says that no worker polls the sticky queue.
pub fn is_sticky_worker_unavailable(status: &Status) -> bool {
    status.code() == Code::FailedPrecondition
        && decode_detail::<StickyWorkerUnavailableFailure>(status).is_some()
}
