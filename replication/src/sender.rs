//! The sending side of streams, on the history host that owns the shard. A stream belongs to one pair of
//! (client cluster and shard, own shard); a newer one with the same key replaces the older, which a client
//! that lost its connection has forgotten about.
//!
//! A stream sends everything from where the client's acknowledgement stands up to the end of the shard's
//! replication queue, then goes on as the queue grows, and says so now and then when it does not. What the
//! client acknowledges is kept with the shard, so that the queue knows what may go and a new stream knows
//! where to begin. A client that was never here gets what is left of the queue; history before that comes
//! by gaps that the client notices, or by force.
//!
//! Nothing is believed that cannot be true: an acknowledgement counts up to what was sent, and for the store
//! that it was sent to. A row that cannot be sent becomes a dead letter and is logged, not passed over.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicI64},
    time::Duration,
};

use cluster_runtime::{CancellationToken, Key, Metrics, Settings, SharedClock, TaskKind, Tasks};
use futures::{Stream, StreamExt, stream::BoxStream};
use namespaces::Clusters;
use parking_lot::Mutex;
use proto_ids::{ClusterName, ShardId};
use proto_messages::temporal::server::api::adminservice::v1::{
    StreamWorkflowReplicationMessagesRequest, StreamWorkflowReplicationMessagesResponse,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tracing::Instrument;

use crate::{metrics::Sending, route::StreamKey};

mod aside;
mod hydrate;
mod shard;
mod source;
mod stream;

pub use aside::UnsentRows;
pub use shard::ShardSource;
pub use source::{ReaderId, SourceError, TaskSource};

/// How often an idle stream repeats where it stands.
pub static IDLE_MESSAGE_EVERY: Key<Duration> = Key::new(
    "history.ReplicationStreamSendEmptyTaskDuration",
    Duration::from_secs(60),
    "How often an idle replication stream says that it is alive and where it stands.",
);

/// How often clients acknowledge; a client silent for ten times as long is gone.
pub static ACK_EVERY: Key<Duration> = Key::new(
    "history.ReplicationStreamSyncStatusDuration",
    Duration::from_secs(1),
    "How often a replication stream is acknowledged at least.",
);

/// Missed acknowledgements after which a client counts as gone.
pub const MISSED_ACKS_MAX: u32 = 10;

/// Messages that may wait for a slow connection; behind them the queue waits where it is durable.
const MESSAGES_IN_FLIGHT_MAX: usize = 64;

/// The cluster at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub name: ClusterName,
    /// The cluster id (UUID) of its store; empty when it could not be learned.
    pub incarnation: String,
    /// How many shards it has; tasks are sent to the one of them that the workflow belongs to.
    pub shard_count: i32,
}

/// A message to the client, or why the stream ends.
pub type Outbound = Result<StreamWorkflowReplicationMessagesResponse, Status>;
/// A message from the client.
pub type Inbound = Result<StreamWorkflowReplicationMessagesRequest, Status>;

/// The streams of this host. Cheap to clone.
#[derive(Clone)]
pub struct Senders(Arc<SenderInner>);

struct SenderInner {
    clock: SharedClock,
    settings: Settings,
    clusters: Clusters,
    meters: Sending,
    tasks: Tasks,
    open: Mutex<HashMap<StreamKey, Open>>,
}

struct Open {
    /// Tells this stream from its successor.
    nth: u64,
    peer: ClusterName,
    replaced: CancellationToken,
}

/// Removes the stream from the open ones however it ends, unless its successor is there already.
struct Registered {
    senders: Senders,
    key: StreamKey,
    nth: u64,
}

impl Senders {
    /// No streams yet. Streams run as tasks of `tasks` and end with them.
    pub fn new(
        clock: SharedClock,
        settings: Settings,
        clusters: Clusters,
        metrics: &Metrics,
        tasks: &Tasks,
    ) -> Self {
        Self(Arc::new(SenderInner {
            clock,
            settings,
            clusters,
            meters: Sending::new(metrics),
            tasks: tasks.child("replication-senders"),
            open: Mutex::default(),
        }))
    }

    /// Opens a stream: messages come out as soon as it is polled, without waiting for the client to speak.
    pub fn open(
        &self,
        key: StreamKey,
        peer: Peer,
        source: Arc<dyn TaskSource>,
        acks: impl Stream<Item = Inbound> + Send + 'static,
    ) -> BoxStream<'static, Outbound> {
        let (out, messages) = mpsc::channel(MESSAGES_IN_FLIGHT_MAX);
        let (registered, replaced) = self.register(key, &peer);
        let stream = stream::SendStream {
            key,
            peer,
            source,
            out: out.clone(),
            clock: self.0.clock.clone(),
            settings: self.0.settings.clone(),
            clusters: self.0.clusters.clone(),
            meters: self.0.meters.clone(),
            sent: AtomicI64::new(0),
        };
        let name = format!("send-{}-{}", key.server.shard, key.client.cluster);
        let span = tracing::info_span!("send", remote_cluster = %stream.peer.name,
            shard = %key.server.shard, remote_shard = %key.client.shard);
        let sending = async move {
            let ended = tokio::select! {
                ended = stream.run(acks.boxed()) => ended,
                () = replaced.cancelled() => Ok(()),
            };
            drop(registered);
            if let Err(status) = ended {
                // The receiver may be gone.
                let _ = out.send(Err(status)).await;
            }
        };
        let tasks = &self.0.tasks;
        tasks.spawn(TaskKind::Stream, name, sending.instrument(span));
        ReceiverStream::new(messages).boxed()
    }

    /// Remote shards of a cluster with an open stream from this shard.
    pub fn connected(&self, shard: ShardId, cluster: &ClusterName) -> Vec<ShardId> {
        let open = self.0.open.lock();
        let of_cluster = open
            .iter()
            .filter(|(key, open)| key.server.shard == shard && open.peer == *cluster);
        of_cluster.map(|(key, _)| key.client.shard).collect()
    }

    /// Ends the streams of a shard, which this host has lost.
    pub fn close_shard(&self, shard: ShardId) {
        for (key, open) in self.0.open.lock().iter() {
            if key.server.shard == shard {
                open.replaced.cancel();
            }
        }
    }

    fn register(&self, key: StreamKey, peer: &Peer) -> (Registered, CancellationToken) {
        let replaced = CancellationToken::new();
        let mut open = self.0.open.lock();
        let nth = open.get(&key).map_or(0, |before| {
            before.replaced.cancel();
            before.nth + 1
        });
        let entry = Open {
            nth,
            peer: peer.name.clone(),
            replaced: replaced.clone(),
        };
        open.insert(key, entry);
        (
            Registered {
                senders: self.clone(),
                key,
                nth,
            },
            replaced,
        )
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut open = self.senders.0.open.lock();
        if open.get(&self.key).is_some_and(|open| open.nth == self.nth) {
            open.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests;
