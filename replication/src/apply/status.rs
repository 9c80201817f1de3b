//! Statuses of the applying side when it could not apply: the puller retries all but INVALID_ARGUMENT,
//! DATA_LOSS and UNIMPLEMENTED, which become dead letters at once.

use cluster_rpc::status as statuses;
use cluster_shard::{ReadError, ShardError, TxnError};
use proto_ids::RunKey;
use tonic::Status;

use super::{absorb::ApplyError, backfill};

/// Of the kernel.
pub(crate) fn shard(error: ShardError) -> Status {
    match error {
        ShardError::NotOwner { owner, .. } => {
            statuses::shard_ownership_lost(owner.as_deref().unwrap_or_default(), "")
        }
        ShardError::Lost(_) => statuses::shard_ownership_lost("", ""),
        ShardError::Unavailable(_) | ShardError::Dropped(_) => {
            statuses::unavailable(error.to_string())
        }
        ShardError::Rejected(_) => statuses::invalid_argument(error.to_string()),
        ShardError::Corrupt(_) => Status::data_loss(error.to_string()),
    }
}

/// Of a read.
pub(crate) fn read(error: ReadError) -> Status {
    match error {
        ReadError::NotFound => statuses::not_found("workflow execution not found"),
        ReadError::Shard(error) => shard(error),
    }
}

/// Of a transaction.
pub(super) fn txn(error: TxnError<ApplyError>, key: &RunKey) -> Status {
    match error {
        TxnError::Decided(fault) => decided(fault, key),
        TxnError::Shard(error) => shard(error),
        other => statuses::unavailable(other.to_string()),
    }
}

fn decided(fault: ApplyError, key: &RunKey) -> Status {
    match fault {
        ApplyError::Gap(missing) => {
            statuses::retry_replication("events are missing", &backfill::to_wire(key, &missing))
        }
        ApplyError::Refused(refused) => statuses::invalid_argument(refused.to_string()),
        ApplyError::Corrupt(corrupt) => Status::data_loss(corrupt.to_string()),
        ApplyError::Blocked(text) => statuses::unavailable(text),
        ApplyError::Shard(error) => shard(error),
    }
}
