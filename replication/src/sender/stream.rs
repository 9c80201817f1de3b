//! One stream's two loops. Acknowledgements are read while messages are sent: neither may wait for the
//! other, or a slow receiver would look dead.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use cluster_runtime::{Settings, SharedClock, retry};
use cluster_shard::{QueuedTask, reader_name};
use futures::{StreamExt, stream, stream::BoxStream};
use namespaces::Clusters;
use proto_ids::{ShardId, TaskId, Timestamp};
use proto_messages::{
    temporal::server::api::{
        adminservice::v1::{
            StreamWorkflowReplicationMessagesResponse,
            stream_workflow_replication_messages_request::Attributes as Ack,
            stream_workflow_replication_messages_response::Attributes,
        },
        replication::v1::{ReplicationTask, SyncReplicationState, WorkflowReplicationMessages},
    },
    time,
};
use tokio::{sync::mpsc, time::Instant};
use tonic::Status;

use super::{
    ACK_EVERY, IDLE_MESSAGE_EVERY, Inbound, MISSED_ACKS_MAX, Outbound, Peer, ReaderId, SourceError,
    TaskSource,
};
use crate::{metrics::Sending, remotes, route::StreamKey, watermark::Mark};

/// Rows read at once.
const PAGE: usize = 100;
/// Rows made into messages at once; they are sent in order all the same.
const HYDRATE_AHEAD: usize = 16;
/// How often marks without tasks are sent while the queue grows.
const MARK_EVERY: Duration = Duration::from_millis(20);
/// Rows in a row that need not be sent, after which the position of the stream is sent to the client.
const SKIPPED_MAX: u32 = 1_000;

const HYDRATE_RETRY: retry::Policy = retry::Policy {
    initial: Duration::from_millis(100),
    max: Duration::from_secs(3),
    multiplier: 1.5,
    jitter: 0.2,
    attempts: Some(80),
    within: Some(Duration::from_secs(180)),
};

pub(super) struct SendStream {
    pub key: StreamKey,
    pub peer: Peer,
    pub source: Arc<dyn TaskSource>,
    pub out: mpsc::Sender<Outbound>,
    pub clock: SharedClock,
    pub settings: Settings,
    pub clusters: Clusters,
    pub meters: Sending,
    /// The highest mark the client was sent. It may acknowledge that much.
    pub sent: AtomicI64,
}

/// How far a stream is.
struct Sent {
    /// Everything below was looked at.
    end: TaskId,
    /// The mark that was sent to the client last.
    told: Option<TaskId>,
    /// When that was.
    at: Instant,
}

impl Sent {
    fn tell(&mut self, mark: TaskId) {
        self.told = Some(mark);
        self.at = Instant::now();
    }

    /// When the next mark is due if no task comes before.
    fn next_mark(&self, silence: Duration) -> Instant {
        let is_told = self.told == Some(self.end);
        self.at + if is_told { silence } else { MARK_EVERY }
    }
}

/// The client went away, which is no error of the stream.
struct Gone;

enum End {
    Gone,
    /// By decision of an operator or of the shard's owner: no reason to look.
    Closed(Status),
    Failed(Status),
}

impl From<Gone> for End {
    fn from(Gone: Gone) -> Self {
        Self::Gone
    }
}

impl SendStream {
    /// Runs until the client goes, or something breaks that opening the stream anew may mend.
    pub async fn run(self, acks: BoxStream<'static, Inbound>) -> Result<(), Status> {
        tracing::debug!(
            shard = %self.key.server.shard,
            remote_cluster = %self.peer.name,
            remote_shard = %self.key.client.shard,
            "replication stream opened"
        );
        let ended = tokio::select! {
            end = self.send_all() => end,
            end = self.take_acks(acks) => end,
            end = self.until_disabled() => end,
        };
        match ended {
            End::Gone => {
                // Connections end by age, one stream per shard at a time; the client says so once.
                tracing::debug!(
                    shard = %self.key.server.shard,
                    remote_cluster = %self.peer.name,
                    "replication stream closed by its client"
                );
                Ok(())
            }
            // Shards move, and hosts stop: the client asks the next owner.
            End::Closed(status) => {
                tracing::info!(
                    shard = %self.key.server.shard,
                    remote_cluster = %self.peer.name,
                    reason = status.message(),
                    "replication stream is closed"
                );
                Err(status)
            }
            End::Failed(status) => {
                tracing::warn!(
                    shard = %self.key.server.shard,
                    remote_cluster = %self.peer.name,
                    error = %status,
                    "replication stream ends"
                );
                Err(status)
            }
        }
    }

    async fn take_acks(&self, mut acks: BoxStream<'static, Inbound>) -> End {
        let mut patience = None;
        loop {
            let next = match patience {
                None => acks.next().await,
                Some(patience) => match tokio::time::timeout(patience, acks.next()).await {
                    Ok(next) => next,
                    Err(_) => {
                        return End::Failed(Status::deadline_exceeded(
                            "no acknowledgement came in time",
                        ));
                    }
                },
            };
            let state = match next {
                Some(Ok(request)) => request.attributes,
                Some(Err(_)) | None => return End::Gone,
            };
            if let Some(Ack::SyncReplicationState(state)) = state
                && let Err(status) = self.take_ack(&state)
            {
                return End::Failed(status);
            }
            patience = Some(self.settings.get(&ACK_EVERY) * MISSED_ACKS_MAX);
        }
    }

    fn take_ack(&self, state: &SyncReplicationState) -> Result<(), Status> {
        if state.high_priority_state.is_some() || state.low_priority_state.is_some() {
            return Err(Status::invalid_argument(
                "the acknowledgement is by priority, the stream is not",
            ));
        }
        let below = TaskId::new(state.inclusive_low_watermark);
        let sent = TaskId::new(self.sent.load(Ordering::Acquire));
        if below > sent {
            return Err(self.refused(format!(
                "task {below} is acknowledged, and only those below {sent} were sent"
            )));
        }
        let taken = self.source.ack(&self.reader(), below);
        taken.map_err(|refused| self.refused(refused.to_string()))
    }

    /// An impossible acknowledgement by the peer.
    fn refused(&self, why: String) -> Status {
        let labels = &[self.peer.name.as_str()];
        self.meters.refused_acks.with_label_values(labels).inc();
        tracing::warn!(
            remote_cluster = %self.peer.name,
            shard = %self.key.server.shard,
            remote_shard = %self.key.client.shard,
            reason = why,
            "an acknowledgement is refused"
        );
        Status::invalid_argument(why)
    }

    /// Returns when this cluster must not send to the other one any more.
    async fn until_disabled(&self) -> End {
        let mut directory = self.clusters.watch();
        loop {
            let name = &self.peer.name;
            match self.clusters.get(name) {
                Some(peer) if !remotes::may_replicate(&peer, &self.settings) => {
                    return End::Closed(Status::failed_precondition(format!(
                        "replication with cluster {name} is disabled here"
                    )));
                }
                // A cluster with other shards asks for other rows.
                Some(peer) if peer.shard_count == self.peer.shard_count => {}
                _ => {
                    return End::Closed(Status::unavailable(format!(
                        "the directory's entry of cluster {name} has changed"
                    )));
                }
            }
            if directory.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    async fn send_all(&self) -> End {
        let end = self.source.end();
        // A reader that was never here, or has a new store, begins with the oldest row that is left. What was
        // acknowledged last may have been lost with a crash.
        let reader = self.source.open(&self.reader());
        if reader.complete_since > TaskId::default() {
            tracing::info!(
                shard = %self.key.server.shard,
                remote_cluster = %self.peer.name,
                remote_shard = %self.key.client.shard,
                since = %reader.complete_since,
                came_back_empty = reader.came_back_empty,
                "the reader has not got what was trimmed before it came; it needs a resync"
            );
        }
        let begin = reader.acked;
        let mut sent = Sent {
            end: begin.min(end),
            told: None,
            at: Instant::now(),
        };
        if let Err(end) = self.send_range(&mut sent, end).await {
            return end;
        }
        loop {
            let due = sent.next_mark(self.settings.get(&IDLE_MESSAGE_EVERY));
            tokio::select! {
                grown = self.source.grown(sent.end) => {
                    if let Err(error) = grown {
                        return failed(error);
                    }
                    if let Err(end) = self.send_range(&mut sent, self.source.end()).await {
                        return end;
                    }
                }
                () = tokio::time::sleep_until(due) => {
                    if let Err(end) = self.send_mark(&mut sent).await {
                        return end;
                    }
                }
                () = self.out.closed() => return End::Gone,
            }
        }
    }

    /// Sends what is in the queue up to `end`, and how far that is, unless that was said a moment ago: a
    /// queue that grows by what the client does not need says so at intervals only.
    async fn send_range(&self, sent: &mut Sent, end: TaskId) -> Result<(), End> {
        let mut skipped = 0;
        while sent.end < end {
            let rows = self
                .source
                .read(sent.end, end, PAGE)
                .await
                .map_err(failed)?;
            let next = match rows.last() {
                Some(last) if rows.len() == PAGE => last.task_id.next(),
                _ => end,
            };
            let mut messages = stream::iter(rows)
                .map(|row| self.message(row))
                .buffered(HYDRATE_AHEAD);
            while let Some(made) = messages.next().await {
                let (row, task) = made?;
                let high = Mark {
                    id: row.task_id.next(),
                    time: row.at,
                };
                skipped = if task.is_some() { 0 } else { skipped + 1 };
                if task.is_some() || skipped >= SKIPPED_MAX {
                    self.send(task.into_iter().collect(), high).await?;
                    sent.tell(high.id);
                    skipped = 0;
                }
            }
            sent.end = next;
        }
        let is_new = sent.told.is_none() || sent.at.elapsed() >= MARK_EVERY;
        if sent.told != Some(sent.end) && is_new {
            self.send_mark(sent).await?;
        }
        Ok(())
    }

    async fn send_mark(&self, sent: &mut Sent) -> Result<(), End> {
        self.send(
            Vec::new(),
            Mark {
                id: sent.end,
                time: self.now(),
            },
        )
        .await?;
        sent.tell(sent.end);
        Ok(())
    }

    async fn message(&self, row: QueuedTask) -> Result<(QueuedTask, Option<ReplicationTask>), End> {
        let shard = ShardId::for_workflow(
            &row.run.namespace_id,
            &row.run.workflow_id,
            self.peer.shard_count,
        );
        if shard != self.key.client.shard {
            return Ok((row, None));
        }
        let task = retry::retry(
            &HYDRATE_RETRY,
            |error| matches!(error, SourceError::Unavailable(_)),
            || self.source.hydrate(&row, self.peer.name.as_str()),
        );
        match task.await {
            Ok(task) => Ok((row, task)),
            // One row that cannot be sent must not stop all others, and nobody may think that it was sent.
            Err(SourceError::Stuck(reason)) => {
                self.unsent_rows(&row, &reason).await?;
                Ok((row, None))
            }
            Err(error) => Err(failed(error)),
        }
    }

    async fn unsent_rows(&self, row: &QueuedTask, reason: &str) -> Result<(), End> {
        let (cluster, shard) = (self.peer.name.as_str(), self.key.client.shard);
        self.meters.skipped.with_label_values(&[cluster]).inc();
        let put = || self.source.unsent_rows(row, cluster, shard, reason);
        let is_passing = |error: &SourceError| matches!(error, SourceError::Unavailable(_));
        retry::retry(&HYDRATE_RETRY, is_passing, put)
            .await
            .map_err(failed)
    }

    async fn send(&self, tasks: Vec<ReplicationTask>, high: Mark) -> Result<(), End> {
        let messages = WorkflowReplicationMessages {
            replication_tasks: tasks,
            exclusive_high_watermark: high.id.get(),
            exclusive_high_watermark_time: Some(time::to_proto(high.time)),
            priority: 0,
        };
        self.sent.fetch_max(high.id.get(), Ordering::AcqRel);
        let response = StreamWorkflowReplicationMessagesResponse {
            attributes: Some(Attributes::Messages(messages)),
        };
        self.out.send(Ok(response)).await.map_err(|_| Gone)?;
        Ok(())
    }

    /// Under what the shard keeps how far this client is.
    fn reader(&self) -> ReaderId {
        ReaderId {
            name: reader_name(self.peer.name.as_str(), self.key.client.shard),
            incarnation: self.peer.incarnation.clone(),
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.clock.now_nanos())
    }
}

fn failed(error: SourceError) -> End {
    match error {
        SourceError::Unavailable(text) => End::Failed(Status::unavailable(text)),
        SourceError::NotOwner { owner } => {
            End::Closed(cluster_rpc::status::shard_ownership_lost(&owner, ""))
        }
        SourceError::Stuck(text) => End::Failed(Status::data_loss(text)),
    }
}
