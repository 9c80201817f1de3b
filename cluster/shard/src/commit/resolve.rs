//! Resolution of a commit whose outcome is unknown: take the ranges of its shards again, which
//! waits out a transaction still under way, and only then look.

use std::time::Duration;

use cluster_runtime::retry;
use proto_ids::RunKey;

use super::lane::Driver;
use crate::shard::Shard;

/// The outcome of a batch.
pub(super) enum CommitOutcome {
    /// It is stored.
    Stored,
    /// It is not; submit what is left of it again.
    Again,
    /// It is not, and is given up.
    NotStored(&'static str),
    /// It is not: the guards of these failed.
    Conflict(Vec<RunKey>),
    /// It is not: the store has no room.
    Full(String),
    /// It is not: the store does not like something in it.
    Refused(String),
}

const PAUSES: retry::Policy =
    retry::Policy::exponential(Duration::from_millis(20), Duration::from_secs(2));

impl Driver {
    /// Resolves the outcome of the lane's last batch.
    pub(super) async fn resolve(&mut self, shards: &[Shard]) -> CommitOutcome {
        for shard in shards {
            // A shard that the ring gave away is not taken back only to learn something.
            if shard.is_lost() || !shard.is_mine() {
                shard.lose("its last commit has an unknown outcome and the ring gives it away");
            } else {
                let _ = self.renew(shard).await;
            }
        }
        if shards.iter().all(Shard::is_lost) {
            return CommitOutcome::NotStored("the outcome is unknown and the shard was lost");
        }
        let store = &self.host.deps.store.execution;
        let (lane, seq) = (self.lane.name().to_owned(), self.seq);
        let happened = retry::retry(
            &PAUSES,
            |error: &schema_store::StoreError| {
                tracing::warn!(lane, seq, %error, "cannot see yet whether the commit happened");
                true
            },
            || store.commit_happened(&lane, seq),
        )
        .await;
        match happened {
            Ok(true) => CommitOutcome::Stored,
            _ => CommitOutcome::NotStored("the commit did not happen"),
        }
    }

    /// Takes the shard's range anew, waiting for the store if need be. If another process had it meanwhile,
    /// what is cached is worthless and the shard is lost.
    pub(super) async fn renew(&self, shard: &Shard) -> Result<(), ()> {
        let deps = &self.host.deps;
        let before = shard.range();
        let taken = retry::retry(
            &PAUSES,
            |error: &schema_store::StoreError| {
                tracing::warn!(shard = %shard.id(), %error, "the shard cannot be acquired anew yet");
                !shard.is_lost() && shard.is_mine()
            },
            || deps.store.shard.shard_acquire(shard.id(), &deps.membership.me().id, self.host.now()),
        )
        .await;
        match taken {
            Ok(record) if record.range == before.next() => {
                shard.0.lease.renew(record.range);
                Ok(())
            }
            _ => {
                shard.lose("it had another owner meanwhile");
                Err(())
            }
        }
    }
}
