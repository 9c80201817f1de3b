//! The sequence of a stream, against a queue in memory.

use std::collections::BTreeMap;

use async_trait::async_trait;
use cluster_core::{Task, TaskKind};
use cluster_runtime::ManualClock;
use cluster_shard::QueuedTask;
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
use crate::{route::End, watermark::Mark};

struct Queue {
    rows: Mutex<BTreeMap<i64, QueuedTask>>,
    end: watch::Sender<i64>,
    acked: Mutex<HashMap<String, Mark>>,
}

impl Queue {
    fn new(end: i64) -> Arc<Self> {
        Arc::new(Self {
            rows: Mutex::default(),
            end: watch::Sender::new(end),
            acked: Mutex::default(),
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
            "stuck" => Err(SourceError::Stuck {
                id: row.task_id,
                reason: "no history".to_owned(),
            }),
            _ => Ok(Some(ReplicationTask {
                source_task_id: row.task_id.get(),
                ..Default::default()
            })),
        }
    }

    fn acked(&self, reader: &str) -> Option<TaskId> {
        self.acked.lock().get(reader).map(|mark| mark.id)
    }

    fn ack(&self, reader: &str, mark: Mark) {
        self.acked.lock().insert(reader.to_owned(), mark);
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
    tasks: Tasks,
    queue: Arc<Queue>,
}

struct Client {
    messages: BoxStream<'static, Outbound>,
    acks: mpsc::Sender<Inbound>,
}

impl World {
    fn new(end: i64) -> Self {
        let tasks = Tasks::new("test");
        let clock = ManualClock::new(1_000_000_000);
        let senders = Senders::new(clock, Settings::new(), &tasks);
        Self {
            senders,
            tasks,
            queue: Queue::new(end),
        }
    }

    fn open(&self, shard_count: i32) -> Client {
        let (acks, inbound) = mpsc::channel(8);
        let peer = Peer {
            name: "east".into(),
            shard_count,
        };
        let inbound = ReceiverStream::new(inbound);
        let messages = self.senders.open(KEY, peer, self.queue.clone(), inbound);
        Client { messages, acks }
    }
}

impl Client {
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
    let world = World::new(5);
    world.queue.push(7, "a");
    let mut client = world.open(1);
    assert_eq!(client.next().await, (vec![7], 8));
    assert_eq!(
        world.queue.acked(READER),
        Some(0.into()),
        "the queue waits for it"
    );
    world.queue.push(9, "a");
    world.queue.push(12, "gone");
    world.queue.push(13, "stuck");
    assert_eq!(client.next().await, (vec![9], 10));
    assert_eq!(client.next().await, (vec![], 14));
    // Idle: the same mark again.
    assert_eq!(client.next().await, (vec![], 14));
    assert!(world.tasks.shutdown(Duration::from_secs(5)).await);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_comes_back_goes_on_where_it_was() {
    let world = World::new(5);
    for id in [5, 6, 8] {
        world.queue.push(id, "a");
    }
    world.queue.ack(
        READER,
        Mark {
            id: 6.into(),
            time: Timestamp::ZERO,
        },
    );
    let mut client = world.open(1);
    assert_eq!(client.next().await, (vec![6], 7));
    assert_eq!(client.next().await, (vec![8], 9));
    client
        .ack(SyncReplicationState {
            inclusive_low_watermark: 9,
            ..Default::default()
        })
        .await;
    while world.queue.acked(READER) != Some(9.into()) {
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
    let world = World::new(1);
    world.queue.ack(READER, Mark::default());
    let count = 4;
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
    let world = World::new(1);
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
