//! While writes are held back: every shard is frozen, and the target is waited for.

use std::time::Duration;

use proto_messages::{
    meridian::replication::v1::{FreezeNamespaceRequest, switchover_progress::Step},
    time,
};
use tokio::time::Instant;

use super::{DEADLINE_SLACK, Run};
use crate::completeness::{Check, Complete};

/// How often acknowledgements are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// That the namespace may change hands now: every shard is frozen and the target has everything, or an operator
/// takes responsibility for what is unknown. The flip demands one.
pub(super) enum Drained {
    /// By comparison.
    Compared(Complete),
    /// By acknowledgements alone, of a peer that offers nothing else, as the operator accepted.
    Acknowledged(Accepted),
}

/// Made by [`Run::drain`] only.
pub(super) struct Accepted(());

impl Drained {
    /// Runs that had to be waited for.
    pub(super) fn waited_for(&self) -> i64 {
        match self {
            Self::Compared(complete) => i64::try_from(complete.waited_for).unwrap_or(i64::MAX),
            Self::Acknowledged(Accepted(())) => 0,
        }
    }
}

impl Run {
    /// Shuts the namespace on every shard, then waits until the target has all that was written before.
    pub(super) async fn drain(
        &self,
        check: Option<&mut Check>,
        until: Instant,
    ) -> Result<Drained, String> {
        self.freeze(until).await?;
        let drained = match check {
            Some(check) => {
                let complete = check.settle(until).await;
                Drained::Compared(complete.map_err(|fault| fault.to_string())?)
            }
            None => self.acknowledged(until).await?,
        };
        let how = match &drained {
            Drained::Compared(_) => "has everything",
            Drained::Acknowledged(_) => "has acknowledged everything that was sent",
        };
        self.tell(Step::Drain, format!("{} {how}", self.to), None)
            .await;
        Ok(drained)
    }

    async fn freeze(&self, until: Instant) -> Result<(), String> {
        let shards = 1..=self.deps.shards.shard_count();
        let freezes = shards.map(|shard_id| {
            let request = FreezeNamespaceRequest {
                shard_id,
                namespace_id: self.namespace.id.to_string(),
                hold: Some(time::duration_to_proto(self.max_pause + DEADLINE_SLACK)),
                probe: false,
            };
            let shards = self.deps.shards.clone();
            async move {
                let frozen = shards.freeze_namespace(request).await;
                frozen.map_err(|s| format!("shard {shard_id} cannot be held: {}", s.message()))
            }
        });
        let frozen = tokio::time::timeout_at(until, futures::future::try_join_all(freezes)).await;
        frozen.map_err(|_| "the shards did not stop writing in time".to_owned())??;
        Ok(())
    }

    /// Waits until nothing of the namespace is unacknowledged on any shard. Other namespaces do not count.
    async fn acknowledged(&self, until: Instant) -> Result<Drained, String> {
        loop {
            let status = self.standing().await;
            let open = self.unacknowledged(&status);
            if open.is_ok_and(|open| open == 0) {
                return Ok(Drained::Acknowledged(Accepted(())));
            }
            if Instant::now() + LOOK_EVERY >= until {
                let what = match open {
                    Ok(open) => format!("{open} changes"),
                    Err(reason) => reason.to_owned(),
                };
                return Err(format!(
                    "{} did not catch up within {:?}: {what}",
                    self.to, self.max_pause
                ));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
