//! A puller against a sender that follows a script, over a real connection: what is applied, in which
//! order, and what is acknowledged when.

use std::{collections::HashMap, sync::Arc, time::Duration};

use cluster_membership::{Member, Membership, Role};
use cluster_rpc::{ChannelOptions, Channels, ReplicationClient, Security};
use cluster_runtime::{Metrics, Settings, SystemClock, Tasks};
use namespaces::{ClusterInfo, Clusters};
use parking_lot::Mutex;
use proto_messages::{
    meridian::replication::v1::{ApplyRequest, ApplyResponse, Outcome},
    temporal::api::failure::v1::Failure,
    temporal::server::api::{
        adminservice::v1::{
            StreamWorkflowReplicationMessagesRequest, StreamWorkflowReplicationMessagesResponse,
            stream_workflow_replication_messages_request::Attributes as Ack,
            stream_workflow_replication_messages_response::Attributes,
        },
        persistence::v1::ReplicationTaskInfo,
        replication::v1::{
            ReplicationTask, SyncActivityTaskAttributes, WorkflowReplicationMessages,
            replication_task,
        },
    },
};
use proto_services::{
    meridian::replication::v1::replication_apply_service_server::ReplicationApplyService,
    temporal::server::api::adminservice::v1::admin_service_server::{
        AdminService, AdminServiceServer,
    },
};
use replication::{
    dead_letters::DeadLetters,
    puller::{APPLY_ATTEMPTS_MAX, PullerDeps, Pullers},
    remotes::Remotes,
    route::StreamKey,
};
use schema_store::memory::MemoryStore;
use tokio::{
    net::TcpListener,
    sync::{Notify, mpsc},
};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming, codegen::BoxStream, transport::Server};

type Message = Result<StreamWorkflowReplicationMessagesResponse, Status>;

/// One stream as the sender has it.
struct Opened {
    key: StreamKey,
    out: mpsc::Sender<Message>,
    acks: Streaming<StreamWorkflowReplicationMessagesRequest>,
}

struct Sender(mpsc::Sender<Opened>);

#[tonic::async_trait]
impl AdminService for Sender {
    async fn stream_workflow_replication_messages(
        &self,
        request: Request<Streaming<StreamWorkflowReplicationMessagesRequest>>,
    ) -> Result<Response<BoxStream<StreamWorkflowReplicationMessagesResponse>>, Status> {
        let key = StreamKey::from_headers(request.metadata())?;
        let (out, messages) = mpsc::channel(16);
        let opened = Opened {
            key,
            out,
            acks: request.into_inner(),
        };
        self.0
            .send(opened)
            .await
            .map_err(|_| Status::cancelled("the test is over"))?;
        Ok(Response::new(Box::pin(ReceiverStream::new(messages))))
    }
}

/// Applies what it is given; tasks of workflow "held" wait for the gate, those of "bad" are refused.
#[derive(Default)]
struct Applier {
    order: Mutex<Vec<i64>>,
    gate: Notify,
}

#[tonic::async_trait]
impl ReplicationApplyService for Applier {
    async fn apply(
        &self,
        request: Request<ApplyRequest>,
    ) -> Result<Response<ApplyResponse>, Status> {
        let task = request.into_inner().task.unwrap();
        match task
            .raw_task_info
            .as_ref()
            .map(|raw| raw.workflow_id.as_str())
        {
            Some("held") => self.gate.notified().await,
            Some("down") => return Err(Status::unavailable("the store is away")),
            Some("bad") => return Err(Status::invalid_argument("cannot be read")),
            _ => {}
        }
        self.order.lock().push(task.source_task_id);
        Ok(Response::new(ApplyResponse {
            outcome: Outcome::Applied as i32,
            ..Default::default()
        }))
    }
}

fn task(id: i64, workflow: &str) -> ReplicationTask {
    let raw = ReplicationTaskInfo {
        namespace_id: "ns".to_owned(),
        workflow_id: workflow.to_owned(),
        run_id: "run".to_owned(),
        ..Default::default()
    };
    ReplicationTask {
        source_task_id: id,
        raw_task_info: Some(raw),
        ..Default::default()
    }
}

impl Opened {
    async fn send(&self, tasks: Vec<ReplicationTask>, high: i64) {
        let messages = WorkflowReplicationMessages {
            replication_tasks: tasks,
            exclusive_high_watermark: high,
            ..Default::default()
        };
        let attributes = Some(Attributes::Messages(messages));
        let message = StreamWorkflowReplicationMessagesResponse { attributes };
        self.out.send(Ok(message)).await.unwrap();
    }

    async fn ack(&mut self) -> i64 {
        let Ack::SyncReplicationState(state) = self
            .acks
            .message()
            .await
            .unwrap()
            .unwrap()
            .attributes
            .unwrap();
        state.inclusive_low_watermark
    }

    async fn acked(&mut self, mark: i64) {
        while self.ack().await != mark {}
    }
}

struct World {
    opened: mpsc::Receiver<Opened>,
    applier: Arc<Applier>,
    letters: DeadLetters,
    replication: ReplicationClient,
    tasks: Tasks,
    pullers: Pullers,
}

fn cluster(name: &str, number: i64, address: String) -> ClusterInfo {
    ClusterInfo {
        name: name.into(),
        initial_failover_version: number,
        failover_version_increment: 100,
        shard_count: 1,
        address,
        connection_enabled: true,
        replication_enabled: true,
        tags: HashMap::new(),
        ..Default::default()
    }
}

async fn world() -> World {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let (sender, opened) = mpsc::channel(4);
    tokio::spawn(
        Server::builder()
            .add_service(AdminServiceServer::new(Sender(sender)))
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    let tasks = Tasks::new("test");
    let clusters = Clusters::fixed(
        cluster("west", 1, String::new()),
        vec![cluster("east", 2, at.to_string())],
    );
    let me = Member {
        id: "me".to_owned(),
        gossip: at,
        roles: vec![(Role::Worker, at), (Role::History, at)],
        incarnation: 1,
    };
    let channels = Channels::new(Security::Plain, ChannelOptions::between_clusters());
    let applier = Arc::new(Applier::default());
    let replication = ReplicationClient::local(1);
    replication.set_local(applier.clone(), Arc::new(NoAdmin));
    let letters = DeadLetters::new(MemoryStore::new().store().queue, "west".into());
    let pullers = Pullers::start(PullerDeps {
        remotes: Remotes::new(clusters, channels),
        membership: Membership::alone(me),
        replication: replication.clone(),
        dead_letters: letters.clone(),
        clock: SystemClock::shared(),
        settings: Settings::of([(APPLY_ATTEMPTS_MAX.name(), 1)]),
        metrics: Metrics::new(),
        tasks: tasks.clone(),
    });
    World {
        opened,
        applier,
        letters,
        replication,
        tasks,
        pullers,
    }
}

struct NoAdmin;

#[tonic::async_trait]
impl AdminService for NoAdmin {}

#[tokio::test]
async fn acknowledges_what_is_done_and_no_more() {
    let mut world = world().await;
    let mut stream = world.opened.recv().await.unwrap();
    assert_eq!(
        (stream.key.client.cluster, stream.key.server.cluster),
        (1, 2)
    );
    stream.send(vec![], 5).await;
    assert_eq!(
        stream.ack().await,
        5,
        "nothing was said before the first message"
    );
    for (id, workflow) in [(5, "held"), (6, "held"), (7, "free")] {
        stream.send(vec![task(id, workflow)], id + 1).await;
    }
    // A held workflow holds its own tasks and the mark, but no other workflow; acknowledgements go on.
    while *world.applier.order.lock() != [7] {
        assert_eq!(stream.ack().await, 5);
    }
    assert_eq!(stream.ack().await, 5);
    world.applier.gate.notify_one();
    stream.acked(6).await;
    world.applier.gate.notify_one();
    stream.acked(8).await;
    assert_eq!(*world.applier.order.lock(), [7, 5, 6]);
    assert!(world.tasks.shutdown(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn a_broken_stream_is_opened_again_and_repeats_are_applied_again() {
    let mut world = world().await;
    let mut stream = world.opened.recv().await.unwrap();
    stream.send(vec![task(3, "a")], 4).await;
    stream.acked(4).await;
    stream
        .out
        .send(Err(Status::unavailable("the shard moved")))
        .await
        .unwrap();
    let mut again = world.opened.recv().await.unwrap();
    assert_eq!(again.key, stream.key);
    assert!(world.pullers.status()[0].last_error.is_some());
    // The sender's memory of the acknowledgement was lost: it begins earlier. Duplicates are the
    // applying side's to recognise.
    again.send(vec![task(3, "a")], 4).await;
    again.send(vec![task(4, "a")], 5).await;
    again.acked(5).await;
    assert_eq!(*world.applier.order.lock(), [3, 3, 4]);
}

#[tokio::test]
async fn a_task_that_cannot_be_applied_stops_nothing_and_can_be_replayed() {
    let mut world = world().await;
    let mut stream = world.opened.recv().await.unwrap();
    stream.send(vec![task(3, "bad"), task(4, "a")], 5).await;
    stream.acked(5).await;
    assert_eq!(*world.applier.order.lock(), [4]);
    let letters = world.letters.read("east", 0, 10).await.unwrap();
    let letter = &letters[0].letter;
    assert_eq!(letter.task.as_ref().unwrap().source_task_id, 3);
    assert_eq!(letter.reason, "InvalidArgument: cannot be read");
    assert_eq!(letter.attempts, 1);

    let last = letters[0].id;
    let replayed = world
        .letters
        .replay("east", 0, last, &world.replication)
        .await
        .unwrap();
    assert_eq!((replayed.done, replayed.failed.len()), (0, 1));
    assert_eq!(
        world.letters.list().await.unwrap().queues[0].message_count,
        1
    );
    assert_eq!(world.letters.purge("east", last).await.unwrap(), 1);
    assert!(world.letters.read("east", 0, 10).await.unwrap().is_empty());
}

/// A task that no receiver can decode: protobuf is read a hundred messages deep.
fn nested_too_deeply(id: i64) -> ReplicationTask {
    let failure = (0..200).fold(Failure::default(), |cause, _| Failure {
        cause: Some(Box::new(cause)),
        ..Failure::default()
    });
    let attributes = SyncActivityTaskAttributes {
        last_failure: Some(failure),
        ..Default::default()
    };
    ReplicationTask {
        attributes: Some(replication_task::Attributes::SyncActivityTaskAttributes(
            attributes,
        )),
        ..task(id, "deep")
    }
}

#[tokio::test]
async fn a_task_that_cannot_be_decoded_stops_nothing_and_is_kept_as_it_came() {
    let mut world = world().await;
    let mut stream = world.opened.recv().await.unwrap();
    let tasks = vec![nested_too_deeply(3), task(4, "a")];
    stream.send(tasks, 5).await;
    stream.acked(5).await;
    assert_eq!(*world.applier.order.lock(), [4]);
    let letters = world.letters.read("east", 0, 10).await.unwrap();
    let letter = &letters[0].letter;
    assert!(
        letter.reason.contains("cannot be decoded"),
        "{}",
        letter.reason
    );
    let raw = letter.task.as_ref().unwrap().raw_task_info.as_ref();
    assert_eq!(raw.unwrap().workflow_id, "deep");
    assert!(letter.undecoded_task.len() > 200);
    let replayed = world
        .letters
        .replay("east", 0, i64::MAX, &world.replication);
    assert_eq!(replayed.await.unwrap().failed.len(), 1, "and it stays");
}

#[tokio::test]
async fn a_task_is_given_up_only_while_others_get_through() {
    let mut world = world().await;
    let mut stream = world.opened.recv().await.unwrap();
    stream.send(vec![task(3, "down")], 4).await;
    for _ in 0..3 {
        assert_eq!(stream.ack().await, 3);
    }
    assert!(world.letters.read("east", 0, 10).await.unwrap().is_empty());
    stream.send(vec![task(4, "a")], 5).await;
    stream.acked(5).await;
    let letters = world.letters.read("east", 0, 10).await.unwrap();
    assert!(letters[0].letter.attempts > 1);
    assert_eq!(letters[0].letter.reason, "Unavailable: the store is away");
}
