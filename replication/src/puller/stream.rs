//! One stream as its receiver sees it. One task owns all of it: it reads messages as long as there is room,
//! keeps as many tasks being applied as is allowed, and acknowledges on time whatever applying does.
//!
//! Invariant: a task counts as done only when its effect is durable here, or it is safe among the dead
//! letters.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use cluster_rpc::INTERNAL_MESSAGE_BYTES_MAX;
use cluster_runtime::retry;
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use parking_lot::Mutex;
use proto_ids::{ClusterName, NamespaceId, TaskId, Timestamp, WorkflowId};
use proto_messages::{
    meridian::replication::v1::{
        ApplyRequest, ApplyResponse, DeadLetter, EncodedReplicationMessages,
        EncodedReplicationResponse, Outcome,
    },
    temporal::server::api::{
        adminservice::v1::{
            StreamWorkflowReplicationMessagesRequest,
            stream_workflow_replication_messages_request::Attributes as Ack,
        },
        common::v1::HistoryDlqKey,
        replication::v1::{ReplicationTask, SyncReplicationState},
    },
    time,
};
use proto_services::stream_encoded_replication_messages;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status};

use super::{
    APPLY_AT_ONCE, APPLY_ATTEMPTS_MAX, APPLY_TIMEOUT, Lanes, OUTSTANDING_MAX, PullStatus,
    PullerDeps,
    lanes::Lane,
    received::{self, Undecoded, Unusable},
};
use crate::{
    dead_letters,
    keyed_queue::KeyedQueue,
    metrics::Received,
    remotes::{add_store, add_version_headers},
    route::StreamKey,
    sender,
    watermark::Reception,
    wire,
};

/// Progress is acknowledged at once, but not more often than this.
const PROMPT_ACK_EVERY: Duration = Duration::from_millis(20);
/// Idle messages of the sender that may be missed before the stream counts as dead.
const MISSED_MESSAGES_MAX: u32 = 3;

const APPLY_RETRY: retry::Policy = retry::Policy {
    initial: Duration::from_millis(50),
    max: Duration::from_secs(5),
    multiplier: 1.5,
    jitter: 0.2,
    attempts: None,
    within: Some(Duration::from_secs(600)),
};

const DEAD_LETTER_RETRY: retry::Policy =
    retry::Policy::exponential(Duration::from_millis(100), Duration::from_secs(10));

pub(super) struct PullStream {
    pub cluster: ClusterName,
    pub key: StreamKey,
    pub deps: PullerDeps,
    pub status: Arc<Mutex<PullStatus>>,
    /// Tasks applied so far.
    pub applied: AtomicU64,
    pub meters: Received,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("{0}")]
    Status(#[from] Status),
    #[error("the sender closed the stream")]
    Closed,
    #[error("no message came for too long")]
    Silent,
    #[error(transparent)]
    LaneError(#[from] super::lanes::LaneError),
    #[error(transparent)]
    Unusable(#[from] Unusable),
}

impl Ended {
    /// Whether the shard moved or its host stopped in good order: no reason to look.
    pub(super) fn is_move(&self) -> bool {
        matches!(self, Self::Status(s) if cluster_rpc::status::is_shard_ownership_lost(s))
    }
}

type InboxKey = (NamespaceId, WorkflowId);

struct Waiting {
    lane: Lane,
    task: ReplicationTask,
    undecoded: Option<Undecoded>,
}

/// A task that is done.
struct Done {
    key: InboxKey,
    lane: Lane,
    id: TaskId,
}

/// One connection's state.
struct Connection<'a> {
    stream: &'a PullStream,
    lanes: Lanes,
    keyed_queue: KeyedQueue<InboxKey, Waiting>,
    applying: FuturesUnordered<BoxFuture<'a, Done>>,
    acks: mpsc::Sender<StreamWorkflowReplicationMessagesRequest>,
    acked: Option<SyncReplicationState>,
    acked_at: Instant,
}

impl PullStream {
    /// Opens the stream and works until it ends.
    pub async fn run(&self) -> Ended {
        match self.connect_and_work().await {
            Ok(never) => match never {},
            Err(ended) => ended,
        }
    }

    async fn connect_and_work(&self) -> Result<std::convert::Infallible, Ended> {
        let channel = self.deps.remotes.channel_to(&self.cluster)?;
        let (acks, outbound) = mpsc::channel(8);
        let mut request = Request::new(ReceiverStream::new(outbound));
        self.key.to_headers(request.metadata_mut());
        add_version_headers(&mut request);
        add_store(&mut request, self.deps.remotes.clusters());
        let opened =
            stream_encoded_replication_messages(channel, INTERNAL_MESSAGE_BYTES_MAX, request);
        let messages = opened.await?.into_inner();
        let mut connection = Connection {
            stream: self,
            lanes: Lanes::default(),
            keyed_queue: KeyedQueue::default(),
            applying: FuturesUnordered::new(),
            acks,
            acked: None,
            acked_at: Instant::now(),
        };
        connection.work(messages).await
    }

    /// Applies one task, however long it takes; what cannot be applied becomes a dead letter.
    async fn settle(&self, key: InboxKey, waiting: Waiting) -> Done {
        let Waiting {
            lane,
            task,
            undecoded,
        } = waiting;
        let id = TaskId::new(task.source_task_id);
        if let Some(Undecoded { bytes, reason }) = undecoded {
            let status = Status::invalid_argument(format!("the task cannot be decoded: {reason}"));
            self.enqueue_dlq(task, bytes, &status, 1).await;
            return Done { key, lane, id };
        }
        let policy = APPLY_RETRY.attempts(self.deps.settings.get(&APPLY_ATTEMPTS_MAX));
        let mut attempts = 0;
        loop {
            let others = self.applied.load(Ordering::Relaxed);
            let applied = retry::retry(&policy, is_worth_another_try, || {
                attempts += 1;
                self.apply(&task)
            })
            .await;
            let status = match applied {
                Ok(answer) => {
                    self.applied.fetch_add(1, Ordering::Relaxed);
                    self.count(&task, answer.outcome());
                    break;
                }
                Err(status) => status,
            };
            let is_own_fault =
                !is_worth_another_try(&status) || self.applied.load(Ordering::Relaxed) != others;
            if is_own_fault {
                self.enqueue_dlq(task, Bytes::new(), &status, attempts)
                    .await;
                break;
            }
            // Nothing else gets through either, so the trouble is this cluster's: a dead letter would only
            // make work for an operator.
            tracing::warn!(
                remote_cluster = %self.cluster,
                shard = %self.key.client.shard,
                attempts,
                %status,
                "no replication task can be applied; they are tried again"
            );
        }
        Done { key, lane, id }
    }

    async fn apply(&self, task: &ReplicationTask) -> Result<ApplyResponse, Status> {
        let mut request = Request::new(ApplyRequest {
            shard_id: self.key.client.shard.get(),
            source_cluster: self.cluster.to_string(),
            source_shard_id: self.key.server.shard.get(),
            task: Some(task.clone()),
            replay: false,
        });
        let timeout = self.deps.settings.get(&APPLY_TIMEOUT);
        request.set_timeout(timeout);
        let call = self.deps.replication.apply(request);
        match tokio::time::timeout(timeout, call).await {
            Ok(answer) => answer,
            Err(_) => Err(Status::deadline_exceeded("applying the task took too long")),
        }
    }

    fn count(&self, task: &ReplicationTask, outcome: Outcome) {
        let cluster = self.cluster.as_str();
        let counter = match outcome {
            Outcome::Applied => &self.meters.applied,
            Outcome::Duplicate => &self.meters.duplicate,
            _ => &self.meters.skipped,
        };
        let labels = [cluster];
        self.meters.received.with_label_values(&labels).inc();
        counter.with_label_values(&labels).inc();
        if let (Outcome::Applied, Some(made)) = (outcome, &task.visibility_time) {
            let now = Timestamp::from_nanos(self.deps.clock.now_nanos());
            let latency = now.since(time::from_proto(made)).as_secs_f64();
            self.meters
                .latency
                .with_label_values(&[cluster])
                .observe(latency);
        }
    }

    /// Holds the watermark until the letter is safe, however long that takes.
    async fn enqueue_dlq(
        &self,
        task: ReplicationTask,
        undecoded_task: Bytes,
        status: &Status,
        attempts: i32,
    ) {
        let own = self.deps.remotes.clusters().current_name();
        let labels = [self.cluster.as_str()];
        self.meters.received.with_label_values(&labels).inc();
        self.meters.dead.with_label_values(&labels).inc();
        let written = ["replication", self.cluster.as_str()];
        self.meters
            .letters_written
            .with_label_values(&written)
            .inc();
        let letter = DeadLetter {
            source_cluster: self.cluster.to_string(),
            source_shard_id: self.key.server.shard.get(),
            shard_id: self.key.client.shard.get(),
            task: Some(task),
            reason: format!("{:?}: {}", status.code(), status.message()),
            time: Some(time::to_proto(Timestamp::from_nanos(
                self.deps.clock.now_nanos(),
            ))),
            attempts,
            key: Some(HistoryDlqKey {
                task_category: dead_letters::CATEGORY,
                source_cluster: self.cluster.to_string(),
                target_cluster: own.to_string(),
            }),
            undecoded_task,
        };
        let put = || async {
            self.deps.dead_letters.put(&letter).await.inspect_err(|error| {
                tracing::error!(remote_cluster = %self.cluster, %error, "cannot write a dead letter");
            })
        };
        // The policy has no end.
        let _ = retry::retry(&DEAD_LETTER_RETRY, |_| true, put).await;
    }
}

impl<'a> Connection<'a> {
    async fn work(
        &mut self,
        mut messages: tonic::Streaming<EncodedReplicationResponse>,
    ) -> Result<std::convert::Infallible, Ended> {
        let settings = &self.stream.deps.settings;
        let mut tick = tokio::time::interval(settings.get(&sender::ACK_EVERY));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        loop {
            let has_room = self.keyed_queue.len() < settings.get(&OUTSTANDING_MAX);
            let silence = settings.get(&sender::IDLE_MESSAGE_EVERY) * MISSED_MESSAGES_MAX;
            let prompt = self.prompt_ack_at();
            tokio::select! {
                message = messages.message(), if has_room => {
                    heard = Instant::now();
                    if let Some(message) = message?.ok_or(Ended::Closed)?.messages {
                        self.receive(message)?;
                    }
                }
                Some(done) = self.applying.next() => self.finish(done),
                _ = tick.tick() => self.ack()?,
                () = sleep_until(prompt) => self.ack()?,
                () = tokio::time::sleep_until(heard + silence), if has_room => {
                    return Err(Ended::Silent);
                }
            }
            if !has_room {
                // Not reading is our own doing; the sender's silence begins when we read again.
                heard = Instant::now();
            }
            self.start_ready();
            self.show();
        }
    }

    fn receive(&mut self, message: EncodedReplicationMessages) -> Result<(), Ended> {
        let (message, undecoded) = received::decode(message)?;
        let (lane, incoming) = self.lanes.arrive(&message)?;
        if incoming == Reception::Repeated {
            return Ok(());
        }
        let tasks = message.replication_tasks.into_iter().zip(undecoded);
        for (task, undecoded) in tasks {
            let run = wire::run_key(&task);
            let waiting = Waiting {
                lane,
                task,
                undecoded,
            };
            let key = (run.namespace_id, run.workflow_id);
            self.keyed_queue.push(key, waiting);
        }
        Ok(())
    }

    fn start_ready(&mut self) {
        let at_once = self.stream.deps.settings.get(&APPLY_AT_ONCE).max(1);
        while self.applying.len() < at_once {
            let Some((key, waiting)) = self.keyed_queue.take() else {
                break;
            };
            self.applying
                .push(Box::pin(self.stream.settle(key, waiting)));
        }
    }

    fn finish(&mut self, done: Done) {
        self.keyed_queue.finish(&done.key);
        self.lanes.finish(done.lane, done.id);
    }

    /// When progress that was not acknowledged yet has to be.
    fn prompt_ack_at(&self) -> Option<Instant> {
        let current = self.lanes.low_mark()?.id.get();
        let acked = self
            .acked
            .as_ref()
            .map(|state| state.inclusive_low_watermark);
        (acked != Some(current)).then(|| self.acked_at + PROMPT_ACK_EVERY)
    }

    fn ack(&mut self) -> Result<(), Ended> {
        let Some(state) = self.lanes.ack() else {
            return Ok(());
        };
        let request = StreamWorkflowReplicationMessagesRequest {
            attributes: Some(Ack::SyncReplicationState(state)),
        };
        match self.acks.try_send(request) {
            Ok(()) => {
                self.acked = Some(state);
            }
            // The connection is slow; the next acknowledgement says the same and more.
            Err(mpsc::error::TrySendError::Full(_)) => {}
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(Ended::Closed),
        }
        self.acked_at = Instant::now();
        Ok(())
    }

    fn show(&self) {
        let mut status = self.stream.status.lock();
        status.low = self.lanes.low_mark();
        status.high = self.lanes.high_mark();
        status.connected = status.high.is_some();
        status.pending = self.keyed_queue.len();
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Whether to try again: an error of the task itself does not get better by waiting.
fn is_worth_another_try(status: &Status) -> bool {
    !matches!(
        status.code(),
        Code::InvalidArgument
            | Code::DataLoss
            | Code::Unimplemented
            | Code::OutOfRange
            | Code::PermissionDenied
    )
}
