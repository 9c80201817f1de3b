//! Counters of what the store did since the process started.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters; each only rises.
#[derive(Debug, Default)]
pub struct Stats {
    /// Commit batches written.
    pub commit_batches: AtomicU64,
    /// Updates of runs in them.
    pub commit_updates: AtomicU64,
    /// Commit batches that were fenced out or met a broken guard.
    pub commits_refused: AtomicU64,
    /// Transactions that wrote, commit batches and visibility included. With SQLite each is one sync of the
    /// log; PostgreSQL counts its own, see [`Stats::wal_syncs`].
    pub transactions: AtomicU64,
    /// Syncs of the write-ahead log: one per transaction for SQLite; for PostgreSQL what the whole server
    /// counted since it started, as of the last [`crate::WalCounters::read`], 0 before version 14.
    pub wal_syncs: AtomicU64,
    /// Bytes of write-ahead log, PostgreSQL only, like [`Stats::wal_syncs`].
    pub wal_bytes: AtomicU64,
}

impl Stats {
    pub(crate) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn set(counter: &AtomicU64, value: i64) {
        counter.store(u64::try_from(value).unwrap_or(0), Ordering::Relaxed);
    }

    pub(crate) fn committed(&self, updates: usize) {
        Self::add(&self.commit_batches, 1);
        Self::add(&self.commit_updates, updates as u64);
    }
}
