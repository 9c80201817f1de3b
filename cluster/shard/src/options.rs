//! Sizes and delays of the kernel, with their defaults.

use std::time::Duration;

/// The configuration of the kernel, fixed at start.
#[derive(Clone, Debug)]
pub struct ShardsOptions {
    /// Shards of the cluster; fixed when the cluster is created.
    pub shard_count: i32,
    /// Commit lanes: 1 for a store with one writer or where two cores do everything; 2 fill the time of a
    /// database's flush elsewhere.
    pub lanes: usize,
    /// Most run updates in one batch.
    pub batch_updates: usize,
    /// Most bytes in one batch; a single larger write goes alone.
    pub batch_bytes: usize,
    /// Writes that may wait for one lane before new ones are refused.
    pub lane_capacity: usize,
    /// Bytes that may wait for one lane before new ones are refused.
    pub lane_capacity_bytes: usize,
    /// Cached workflow state, over all shards.
    pub cache_bytes: usize,
    /// Event cache, over all shards.
    pub event_cache_bytes: usize,
    /// Timers due within this stay in the outbox and get no timer row.
    pub near_timer: Duration,
    /// Timer rows due within this are held in memory.
    pub timer_window: Duration,
    /// State written behind is stored when it is this old (and at the next flush).
    pub write_behind_after: Duration,
    /// Queue positions are written at most this often.
    pub progress_every: Duration,
    /// Transfer tasks executed at once.
    pub transfer_workers: usize,
    /// Timer tasks executed at once.
    pub timer_workers: usize,
    /// Most rows in one visibility write.
    pub visibility_batch: usize,
    /// How long visibility rows are collected.
    pub visibility_lag: Duration,
    /// A waiting task is looked at again after this even when nothing changed; later looks come more rarely.
    pub wait_delay: Duration,
    /// Longest pause between attempts of a task.
    pub retry_max: Duration,
    /// A task whose executor panicked more often than this goes to the dead-letter queue.
    pub panics_max: u32,
    /// Replication tasks kept in memory, per shard.
    pub replication_ring: usize,
    /// A task that is not done after this is rescheduled from the outbox to a timer row, so that trimming goes on.
    pub reschedule_after: Duration,
}

impl Default for ShardsOptions {
    fn default() -> Self {
        Self {
            shard_count: 4,
            lanes: 1,
            batch_updates: 256,
            batch_bytes: 4 << 20,
            lane_capacity: 4_096,
            lane_capacity_bytes: 64 << 20,
            cache_bytes: 128 << 20,
            event_cache_bytes: 32 << 20,
            near_timer: Duration::from_secs(5),
            timer_window: Duration::from_secs(60),
            write_behind_after: Duration::from_millis(250),
            progress_every: Duration::from_secs(1),
            transfer_workers: 128,
            timer_workers: 64,
            visibility_batch: 512,
            visibility_lag: Duration::from_millis(40),
            wait_delay: Duration::from_secs(10),
            retry_max: Duration::from_secs(10),
            panics_max: 70,
            replication_ring: 4_096,
            reschedule_after: Duration::from_secs(120),
        }
    }
}
