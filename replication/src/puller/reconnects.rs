//! Log lines about connections that end. A peer has one connection and a stream per shard on it, so one
//! event ends them all; and connections end as a matter of course, by age or when a host stops. One line per
//! peer says so. Only what does not come back is worth a warning.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use prometheus::IntCounterVec;
use proto_ids::ClusterName;
use tokio::time::Instant;

/// How often one peer is worth a line of one kind.
const LINE_EVERY: Duration = Duration::from_secs(30);

/// Failures in a row of one stream that are no trouble yet: while two clusters are being made known to each
/// other, or a peer's host is replaced, calls come too early.
const FAILURES_FREE: u32 = 4;

/// The streams from all peers. Cheap to clone.
#[derive(Clone)]
pub(super) struct Reconnects {
    peers: Arc<Mutex<HashMap<ClusterName, Peer>>>,
    counted: IntCounterVec,
}

#[derive(Debug, Default)]
struct Peer {
    ended: Line,
    refused: Line,
}

/// One kind of line: when it was written last, and what was not worth one since.
#[derive(Debug, Default)]
struct Line {
    at: Option<Instant>,
    held_back: u32,
}

impl Line {
    /// How many events a line would stand for; none while one was written a moment ago.
    fn due(&mut self) -> Option<u32> {
        self.held_back += 1;
        if self.at.is_some_and(|at| at.elapsed() < LINE_EVERY) {
            return None;
        }
        self.at = Some(Instant::now());
        Some(std::mem::take(&mut self.held_back))
    }
}

impl Reconnects {
    pub(super) fn new(counted: IntCounterVec) -> Self {
        Self {
            peers: Arc::default(),
            counted,
        }
    }

    /// A stream over which messages came has ended; it is opened again at once.
    pub(super) fn ended(&self, cluster: &ClusterName, is_move: bool, reason: &str) {
        self.count(cluster, if is_move { "moved" } else { "ended" });
        let line = self
            .peers
            .lock()
            .entry(cluster.clone())
            .or_default()
            .ended
            .due();
        if let Some(streams) = line {
            tracing::info!(remote_cluster = %cluster, streams, reason,
                "replication streams ended and are opened again");
        }
    }

    /// A stream could not be opened, for the `failures`th time in a row.
    pub(super) fn refused(&self, cluster: &ClusterName, failures: u32, reason: &str) {
        self.count(cluster, "refused");
        if failures < FAILURES_FREE {
            return;
        }
        let line = self
            .peers
            .lock()
            .entry(cluster.clone())
            .or_default()
            .refused
            .due();
        if let Some(failed) = line {
            tracing::warn!(remote_cluster = %cluster, attempts = failures, failed, reason,
                "replication streams cannot be opened; it is tried again");
        }
    }

    fn count(&self, cluster: &ClusterName, reason: &str) {
        let labels = &[cluster.as_str(), reason];
        self.counted.with_label_values(labels).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_event_of_a_peer_is_worth_one_line() {
        let mut line = Line::default();
        let written: Vec<_> = (0..512).filter_map(|_| line.due()).collect();
        assert_eq!(written, [1]);
        tokio::time::advance(LINE_EVERY).await;
        assert_eq!(
            line.due(),
            Some(512),
            "and later ones are counted in the next"
        );
    }
}
