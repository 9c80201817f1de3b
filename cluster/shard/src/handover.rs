//! The barrier of a planned failover: after [`Shards::freeze`] no write of the namespace is accepted on the
//! shard, and everything accepted before is durable. Namespaces in the state HANDOVER are refused by the
//! registry's word alone; the barrier is what makes sure that nothing is still on its way.
//!
//! The hold outlives the process it was asked of: it is stored before any shard is frozen, this process still
//! owns the shard after its last write (the store says so), and a process that acquires the shard later reads what
//! is stored about namespaces before accepting anything.
//!
//! A barrier is a moment on the process's own clock, asked for with each write. It ends by itself, so nothing
//! can lift it too early or forget to: a hold that runs out before it took effect is an error of
//! [`Shards::freeze`].

use std::time::Duration;

use futures::future::join_all;
use hashbrown::HashMap;
use parking_lot::RwLock;
use proto_ids::{NamespaceId, ShardId, TaskId};
use tokio::time::Instant;

use crate::{controller::Shards, error::ShardError, shard::Shard};

/// Pause before state that could not be stored is tried again.
const AGAIN: Duration = Duration::from_millis(5);

/// Namespaces frozen by an explicit barrier, and until when. Writers hold it for reading while they submit, so
/// that after the write lock was taken every later write sees the change.
#[derive(Debug, Default)]
pub(crate) struct Frozen(RwLock<HashMap<NamespaceId, Instant>>);

/// The barriers as they are while a write is submitted.
pub(crate) struct Barriers<'a>(parking_lot::RwLockReadGuard<'a, HashMap<NamespaceId, Instant>>);

impl Frozen {
    pub(crate) fn read(&self) -> Barriers<'_> {
        Barriers(self.0.read())
    }

    fn insert(&self, namespace_id: &NamespaceId, until: Instant) {
        let mut frozen = self.0.write();
        let now = Instant::now();
        frozen.retain(|_, until| now < *until);
        let latest = frozen.entry(namespace_id.clone()).or_insert(until);
        *latest = until.max(*latest);
    }

    fn remove(&self, namespace_id: &NamespaceId) {
        self.0.write().remove(namespace_id);
    }
}

impl Barriers<'_> {
    /// Whether writes of the namespace are refused now.
    pub(crate) fn contains(&self, namespace_id: &NamespaceId) -> bool {
        let until = self.0.get(namespace_id);
        until.is_some_and(|until| Instant::now() < *until)
    }
}

impl Shards {
    /// Refuses writes of the namespace in this process from now on, and returns when all that the shard has
    /// accepted are durable. No replication task of the namespace on this shard will have a higher id than the
    /// one returned until the hold ends, `hold` after this call began: a remote cluster that acknowledged it has
    /// everything. The caller stores the hold first. Fails when the hold is over before everything is durable.
    pub async fn freeze(
        &self,
        namespace_id: &NamespaceId,
        shard: ShardId,
        hold: Duration,
    ) -> Result<TaskId, ShardError> {
        let until = Instant::now() + hold;
        let host = self.host();
        let shard = self.shard(shard).await?;
        // So that the hold goes on here when the barrier is lifted before the registry would have looked.
        host.deps.registry.catch_up().await?;
        // The lock is held for reading while a write is handed to a lane: afterwards none can follow.
        host.frozen.insert(namespace_id, until);
        shard.store_all_of(Some(namespace_id), until).await?;
        let below = *shard.replication_watermark().borrow();
        shard.still_owned().await?;
        // What was promised has to be true at the moment it is told.
        if !self.is_frozen(namespace_id) {
            return Err(ran_out(shard.id()));
        }
        Ok(TaskId::new(below.get() - 1))
    }

    /// Goes the way of [`Self::freeze`] without stopping anything, to learn how long it takes.
    pub async fn freeze_probe(&self, shard: ShardId, within: Duration) -> Result<(), ShardError> {
        let until = Instant::now() + within;
        let shard = self.shard(shard).await?;
        self.host().deps.registry.catch_up().await?;
        shard.store_all_of(None, until).await?;
        shard.still_owned().await
    }

    /// Whether writes of the namespace are refused by a barrier of this process.
    pub fn is_frozen(&self, namespace_id: &NamespaceId) -> bool {
        self.host().frozen.read().contains(namespace_id)
    }

    /// Namespaces that are frozen, and how much longer.
    pub fn frozen(&self) -> Vec<(NamespaceId, Duration)> {
        let now = Instant::now();
        let frozen = self.host().frozen.0.read();
        let held = frozen.iter().filter(|(_, until)| now < **until);
        held.map(|(id, until)| (id.clone(), *until - now)).collect()
    }

    /// Accepts writes of the namespace again, as far as the registry says so.
    pub fn unfreeze(&self, namespace_id: &NamespaceId) {
        self.host().frozen.remove(namespace_id);
    }

    /// Waits until everything handed to the lanes so far has ended.
    pub async fn barrier(&self) {
        join_all(self.host().lanes.iter().map(|lane| lane.barrier())).await;
    }
}

impl Shard {
    /// Stores everything of a namespace that is accepted and not stored yet. A full lane, or a read that fails,
    /// is no reason to leave something behind: it is tried again until the time is over. Without a namespace
    /// whatever is behind is stored once.
    async fn store_all_of(
        &self,
        namespace_id: Option<&NamespaceId>,
        until: Instant,
    ) -> Result<(), ShardError> {
        loop {
            let left = self
                .flush_write_behind_of(namespace_id, Duration::ZERO)
                .await;
            let ended = tokio::time::timeout_at(until, self.0.lane.barrier()).await;
            self.check()?;
            match ended {
                Ok(true) => {}
                Ok(false) => {
                    let text = "the process is stopping".to_owned();
                    return Err(ShardError::Unavailable(text));
                }
                Err(_) => return Err(ran_out(self.id())),
            }
            if left == 0 || namespace_id.is_none() {
                return Ok(());
            }
            if Instant::now() + AGAIN >= until {
                return Err(ran_out(self.id()));
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Fails when another process has acquired the shard: it may have accepted writes before it was notified of a hold.
    async fn still_owned(&self) -> Result<(), ShardError> {
        let store = &self.0.host.deps.store.shard;
        let stored = store.shard_get(self.id()).await?;
        if stored.is_none_or(|s| s.range != self.range()) {
            self.lose("another process has acquired it");
            return Err(ShardError::Lost(self.id()));
        }
        Ok(())
    }
}

fn ran_out(shard: ShardId) -> ShardError {
    ShardError::Unavailable(format!(
        "the hold ran out before all accepted writes of shard {shard} were durable"
    ))
}
