//! The sequence of a stream, against a queue in memory.

use std::collections::BTreeMap;

use async_trait::async_trait;
use cluster_core::{Task, TaskKind};
use cluster_runtime::ManualClock;
use cluster_shard::{AckRefused, QueuedTask, Reader};
use namespaces::{ClusterInfo, rules::OwnCluster};
use proto_ids::{RunKey, TaskId, Timestamp};
use proto_messages::temporal::server::api::{
    adminservice::v1::{
        stream_workflow_replication_messages_request::Attributes as Ack,
        stream_workflow_replication_messages_response::Attributes,
    },
    replication::v1::{ReplicationState, ReplicationTask, SyncReplicationState},
};
use tokio::sync::watch;

use super::*;
use crate::route::End;

struct Queue {
    rows: Mutex<BTreeMap<i64, QueuedTask>>,
    end: watch::Sender<i64>,
    acked: Mutex<HashMap<String, TaskId>>,
    aside: Mutex<Vec<(i64, String)>>,
    /// Where set-aside rows go is out of reach.
    aside_is_down: watch::Sender<bool>,
}

impl Queue {
    fn new(end: i64) -> Arc<Self> {
        Arc::new(Self {
            rows: Mutex::default(),
            end: watch::Sender::new(end),
            acked: Mutex::default(),
            aside: Mutex::default(),
            aside_is_down: watch::Sender::new(false),
        })
    }

    fn push(&self, id: i64, workflow: &str) {
        let row = QueuedTask {
            task_id: id.into(),
            run: RunKey::new("ns", workflow, "run"),
            task: Task {
                version: 1.into(),
                fire_at: None,
                kind: TaskKind::SyncWorkflowState,
            },
            at: Timestamp::from_millis(id),
        };
        self.rows.lock().insert(id, row);
        self.end.send_replace(id + 1);
    }
}

#[async_trait]
impl TaskSource for Queue {
    fn end(&self) -> TaskId {
        TaskId::new(*self.end.borrow())
    }

    async fn grown(&self, seen: TaskId) -> Result<(), SourceError> {
        let mut end = self.end.subscribe();
        let _ = end.wait_for(|end| *end > seen.get()).await;
        Ok(())
    }

    async fn read(
        &self,
        from: TaskId,
        until: TaskId,
        limit: usize,
    ) -> Result<Vec<QueuedTask>, SourceError> {
        let rows = self.rows.lock();
        Ok(rows
            .range(from.get()..until.get())
            .take(limit)
            .map(|(_, r)| r.clone())
            .collect())
    }

    async fn hydrate(
        &self,
        row: &QueuedTask,
        _: &str,
    ) -> Result<Option<ReplicationTask>, SourceError> {
        match row.run.workflow_id.as_str() {
            "gone" => Ok(None),
            "stuck" => Err(SourceError::Stuck("no history".to_owned())),
            _ => Ok(Some(ReplicationTask {
                source_task_id: row.task_id.get(),
                ..Default::default()
            })),
        }
    }

    async fn unsent_rows(
        &self,
        row: &QueuedTask,
        _: &str,
        _: ShardId,
        reason: &str,
    ) -> Result<(), SourceError> {
        if *self.aside_is_down.borrow() {
            return Err(SourceError::Unavailable("the store is away".to_owned()));
        }
        let row = (row.task_id.get(), reason.to_owned());
        self.aside.lock().push(row);
        Ok(())
    }

    fn open(&self, reader: &ReaderId) -> Reader {
        assert_eq!(reader.incarnation, "store-1");
        let mut acked = self.acked.lock();
        let acked = *acked.entry(reader.name.clone()).or_default();
        Reader {
            acked,
            ..Reader::default()
        }
    }

    fn ack(&self, reader: &ReaderId, below: TaskId) -> Result<(), AckRefused> {
        self.acked.lock().insert(reader.name.clone(), below);
        Ok(())
    }
}

impl Queue {
    fn acked(&self) -> Option<TaskId> {
        self.acked.lock().get(READER).copied()
    }
}

const KEY: StreamKey = StreamKey {
    client: End {
        cluster: 2,
        shard: ShardId::new(1),
    },
    server: End {
        cluster: 1,
        shard: ShardId::new(1),
    },
};

const READER: &str = "east/1";

struct World {
    senders: Senders,
    clusters: Clusters,
    metrics: Metrics,
    tasks: Tasks,
    queue: Arc<Queue>,
}

struct Client {
    messages: BoxStream<'static, Outbound>,
    acks: mpsc::Sender<Inbound>,
}

impl World {
    async fn new(end: i64) -> Self {
        Self::with(end, 1).await
    }

    /// With so many shards at the other end.
    async fn with(end: i64, shard_count: i32) -> Self {
        let tasks = Tasks::new("test");
        let clock = ManualClock::new(1_000_000_000);
        let metrics = Metrics::new();
        let store = schema_store::memory::MemoryStore::new().store().cluster;
        let own = OwnCluster {
            name: "west".into(),
            initial_failover_version: 1,
            failover_version_increment: 10,
            shard_count: 4,
            is_global_namespace_enabled: true,
            ..OwnCluster::default()
        };
        let clusters = Clusters::start(&own, store, Settings::new(), &tasks).await;
        let clusters = clusters.unwrap();
        clusters.upsert(east(shard_count, true)).await.unwrap();
        let settings = Settings::new();
        let senders = Senders::new(clock, settings, clusters.clone(), &metrics, &tasks);
        Self {
            senders,
            clusters,
            metrics,
            tasks,
            queue: Queue::new(end),
        }
    }

    fn open(&self, shard_count: i32) -> Client {
        let (acks, inbound) = mpsc::channel(8);
        let peer = Peer {
            name: "east".into(),
            incarnation: "store-1".to_owned(),
            shard_count,
        };
        let inbound = ReceiverStream::new(inbound);
        let messages = self.senders.open(KEY, peer, self.queue.clone(), inbound);
        Client { messages, acks }
    }
}

fn east(shard_count: i32, replication_enabled: bool) -> ClusterInfo {
    ClusterInfo {
        name: "east".into(),
        initial_failover_version: 2,
        failover_version_increment: 10,
        shard_count,
        address: "east:7233".to_owned(),
        connection_enabled: true,
        replication_enabled,
        is_global_namespace_enabled: true,
        ..ClusterInfo::default()
    }
}

impl Client {
    /// Why the stream ends.
    async fn end(&mut self) -> Status {
        loop {
            match self.messages.next().await.unwrap() {
                Ok(_) => {}
                Err(status) => return status,
            }
        }
    }

    async fn ack_below(&self, below: i64) {
        self.ack(SyncReplicationState {
            inclusive_low_watermark: below,
            ..Default::default()
        })
        .await;
    }

    /// Ids of the tasks of the next message, and its mark.
    async fn next(&mut self) -> (Vec<i64>, i64) {
        match self
            .messages
            .next()
            .await
            .unwrap()
            .unwrap()
            .attributes
            .unwrap()
        {
            Attributes::Messages(m) => {
                assert_eq!(m.priority, 0);
                let ids = m
                    .replication_tasks
                    .iter()
                    .map(|t| t.source_task_id)
                    .collect();
                (ids, m.exclusive_high_watermark)
            }
        }
    }

    async fn ack(&self, state: SyncReplicationState) {
        let attributes = Some(Ack::SyncReplicationState(state));
        let request = StreamWorkflowReplicationMessagesRequest { attributes };
        self.acks.send(Ok(request)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_client_gets_what_is_left_and_then_everything() {
    let world = World::new(5).await;
    world.queue.push(7, "a");
    let mut client = world.open(1);
    assert_eq!(client.next().await, (vec![7], 8));
    assert_eq!(
        world.queue.acked(),
        Some(0.into()),
        "the queue waits for it"
    );
    world.queue.push(9, "a");
    world.queue.push(12, "gone");
    world.queue.push(13, "stuck");
    assert_eq!(client.next().await, (vec![9], 10));
    assert_eq!(client.next().await, (vec![], 14));
    assert_eq!(
        *world.queue.aside.lock(),
        [(13, "no history".to_owned())],
        "it is kept before the mark passes it"
    );
    // Idle: the same mark again.
    assert_eq!(client.next().await, (vec![], 14));
    assert!(world.tasks.shutdown(Duration::from_secs(5)).await);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_comes_back_goes_on_where_it_was() {
    let world = World::new(5).await;
    for id in [5, 6, 8] {
        world.queue.push(id, "a");
    }
    world.queue.acked.lock().insert(READER.to_owned(), 6.into());
    let mut client = world.open(1);
    assert_eq!(client.next().await, (vec![6], 7));
    assert_eq!(client.next().await, (vec![8], 9));
    client
        .ack(SyncReplicationState {
            inclusive_low_watermark: 9,
            ..Default::default()
        })
        .await;
    while world.queue.acked() != Some(9.into()) {
        tokio::task::yield_now().await;
    }
    // A newer stream with the same key replaces this one, which ends without an error.
    let mut newer = world.open(1);
    assert!(client.messages.next().await.is_none());
    assert_eq!(newer.next().await, (vec![], 9));
    assert_eq!(
        world.senders.connected(1.into(), &"east".into()),
        [1.into()]
    );
}

#[tokio::test(start_paused = true)]
async fn only_the_clients_own_workflows_are_sent() {
    let count = 4;
    let world = World::with(1, count).await;
    let mine =
        |id: &str| ShardId::for_workflow(&"ns".into(), &id.into(), count) == KEY.client.shard;
    let mut wanted = Vec::new();
    for id in 1..=40 {
        let workflow = format!("wf-{id}");
        world.queue.push(id, &workflow);
        if mine(&workflow) {
            wanted.push(id);
        }
    }
    assert!(!wanted.is_empty() && wanted.len() < 40);
    let mut client = world.open(count);
    let mut seen = Vec::new();
    loop {
        let (ids, mark) = client.next().await;
        seen.extend(ids);
        if mark == 41 {
            break;
        }
    }
    assert_eq!(seen, wanted);
}

#[tokio::test(start_paused = true)]
async fn a_silent_or_muddled_client_loses_its_stream() {
    let world = World::new(1).await;
    let mut client = world.open(1);
    client.next().await;
    client
        .ack(SyncReplicationState {
            inclusive_low_watermark: 1,
            ..Default::default()
        })
        .await;
    let ended = loop {
        match client.messages.next().await.unwrap() {
            Ok(_) => {}
            Err(status) => break status,
        }
    };
    assert_eq!(ended.code(), tonic::Code::DeadlineExceeded);

    let mut client = world.open(1);
    client.next().await;
    let state = Some(ReplicationState::default());
    client
        .ack(SyncReplicationState {
            high_priority_state: state,
            ..Default::default()
        })
        .await;
    let ended = client.messages.next().await.unwrap().unwrap_err();
    assert_eq!(ended.code(), tonic::Code::InvalidArgument);
}

#[tokio::test(start_paused = true)]
async fn an_acknowledgement_beyond_what_was_sent_is_refused() {
    for beyond in [6, 1 << 40, i64::MAX] {
        let world = World::new(5).await;
        let mut client = world.open(1);
        assert_eq!(client.next().await, (vec![], 5));
        client.ack_below(5).await;
        client.ack_below(beyond).await;
        let ended = client.end().await;
        assert_eq!(ended.code(), tonic::Code::InvalidArgument);
        assert_eq!(world.queue.acked(), Some(5.into()), "{beyond} is not kept");
        let text = world.metrics.text();
        let counted = "refused_acknowledgements_total{remote_cluster=\"east\"} 1";
        assert!(text.contains(counted), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_row_that_cannot_be_sent_is_passed_only_once_it_is_safe() {
    let world = World::new(5).await;
    world.queue.aside_is_down.send_replace(true);
    world.queue.push(7, "stuck");
    world.queue.push(8, "a");
    let mut client = world.open(1);
    let ended = client.end().await;
    assert_eq!(ended.code(), tonic::Code::Unavailable);
    world.queue.aside_is_down.send_replace(false);
    let mut client = world.open(1);
    assert_eq!(client.next().await, (vec![8], 9));
    assert_eq!(world.queue.aside.lock().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_open_stream_ends_when_replication_is_disabled() {
    let world = World::new(5).await;
    let mut client = world.open(1);
    client.next().await;
    world.clusters.upsert(east(1, false)).await.unwrap();
    let ended = client.end().await;
    assert_eq!(ended.code(), tonic::Code::FailedPrecondition, "{ended}");
}
