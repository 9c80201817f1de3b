//! Two clusters in one process, each with shards on a store in memory, its services on a port of its own,
//! and pullers that can be stopped and started like a network.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use cluster_core::{MutableState, Request, Start, Task, TaskKind, request::Signal};
use cluster_membership::{Member, Membership, Role};
use cluster_rpc::{ChannelOptions, Channels, ReplicationClient, Security};
use cluster_runtime::{Clock, Metrics, Settings, SharedClock, SystemClock, Tasks};
use cluster_shard::{
    CurrentChange, CurrentRecord, ReadError, Shard, Shards, ShardsDeps, ShardsOptions, TaskDlq, Txn,
};
use namespaces::{ClusterInfo, Clusters, Manager, ManagerOptions, Namespace, Registry};
use prost::Message;
use proto_ids::{NamespaceId, RunId, RunKey};
use proto_messages::temporal::{
    api::{
        command::v1::Command,
        common::v1::{WorkflowExecution, WorkflowType},
        history::v1::{History, HistoryEvent},
        taskqueue::v1::TaskQueue,
        workflowservice::v1::{RespondWorkflowTaskCompletedRequest, StartWorkflowExecutionRequest},
    },
    server::api::adminservice::v1::GenerateLastHistoryReplicationTasksRequest,
};
use proto_messages::{meridian::replication::v1::FreezeNamespaceRequest, time};
use proto_services::{
    meridian::replication::v1::replication_extension_service_server::ReplicationExtensionServiceServer,
    temporal::server::api::adminservice::v1::admin_service_server::AdminServiceServer,
};
use replication::{
    completeness::Check,
    dead_letters::DeadLetters,
    edge::{Extension, ExtensionDeps, LetterBox, LetterBoxDeps},
    namespaces::Refresher,
    puller::{PullerDeps, Pullers},
    remotes::Remotes,
    service::{HostDeps, ReplicationHost},
    switchover::Switchovers,
};
use schema_store::{memory::MemoryStore, shard::ShardStore};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;

use crate::faults::Faults;

pub const NAMESPACE: &str = "3a4c8d6e-90c2-4b61-8d3a-7d7f0c6b2a11";

pub struct Cluster {
    pub shards: Shards,
    pub client: ReplicationClient,
    pub registry: Registry,
    pub letters: DeadLetters,
    pub letter_box: Arc<LetterBox>,
    pub tasks_aside: TaskDlq,
    pub remotes: Remotes,
    pub faults: Arc<Faults>,
    shard_store: Arc<dyn ShardStore>,
    membership: Membership,
    tasks: Tasks,
    clock: Arc<Skewed>,
}

/// A wall clock that can be set wrong.
#[derive(Default)]
struct Skewed(AtomicI64);

impl Clock for Skewed {
    fn now_nanos(&self) -> i64 {
        SystemClock.now_nanos() + self.0.load(Ordering::SeqCst)
    }
}

pub struct World {
    pub west: Cluster,
    pub east: Cluster,
}

/// Streams into one cluster; they end when it is dropped.
pub struct Pulling(Tasks);

fn info(name: &str, number: i64, shard_count: i32, address: String) -> ClusterInfo {
    ClusterInfo {
        name: name.into(),
        initial_failover_version: number,
        failover_version_increment: 10,
        shard_count,
        address,
        connection_enabled: true,
        replication_enabled: true,
        cluster_id: format!("store-of-{name}"),
        ..Default::default()
    }
}

pub fn namespace(active: &str, version: i64) -> Namespace {
    Namespace {
        id: NAMESPACE.into(),
        name: "orders".into(),
        state: 1,
        is_global: true,
        active_cluster: active.into(),
        clusters: vec!["west".into(), "east".into()],
        failover_version: version.into(),
        retention: Duration::from_secs(86_400),
        ..Default::default()
    }
}

async fn cluster(listener: TcpListener, own: ClusterInfo, other: ClusterInfo) -> Cluster {
    let at = listener.local_addr().unwrap();
    let tasks = Tasks::new(own.name.to_string());
    let mut store = MemoryStore::new().store();
    let faults = Faults::before(&mut store);
    let shard_store = store.shard.clone();
    let clock = Arc::new(Skewed::default());
    let own_clock = clock.clone();
    let clock: SharedClock = clock;
    let membership = Membership::alone(Member {
        id: own.name.to_string(),
        gossip: at,
        roles: Role::ALL.into_iter().map(|role| (role, at)).collect(),
        incarnation: 1,
    });
    let registry = Registry::fixed(vec![namespace("west", 1)]);
    let shard_count = own.shard_count;
    let name = own.name.clone();
    let clusters = Clusters::fixed(own, vec![other]);
    let options = ShardsOptions {
        shard_count,
        ..Default::default()
    };
    let shards = Shards::start(
        options,
        ShardsDeps {
            store: store.clone(),
            membership: membership.clone(),
            registry: registry.clone(),
            clusters: clusters.clone(),
            overload: Default::default(),
            clock: clock.clone(),
            tasks: tasks.clone(),
            settings: Settings::new(),
            metrics: Metrics::new(),
        },
    );
    let manager = Manager::new(
        ManagerOptions {
            master_cluster: "west".into(),
        },
        store.namespace.clone(),
        registry.clone(),
        clusters.clone(),
        clock.clone(),
    );
    let channels = Channels::new(Security::Plain, ChannelOptions::between_clusters());
    let remotes = Remotes::new(clusters.clone(), channels);
    let letters = DeadLetters::new(store.queue.clone(), name.clone());
    let host = ReplicationHost::new(HostDeps {
        shards: shards.clone(),
        registry: registry.clone(),
        clusters: clusters.clone(),
        remotes: remotes.clone(),
        refresher: Refresher::new(remotes.clone(), manager.clone()),
        dead_letters: letters.clone(),
        clock: clock.clone(),
        settings: Settings::new(),
        metrics: Metrics::new(),
        tasks: tasks.clone(),
        address: at.to_string(),
    });
    let client = ReplicationClient::local(shard_count);
    client.set_local(host.clone(), host.clone());
    let extension = Extension::new(ExtensionDeps {
        switchovers: Switchovers {
            manager: manager.clone(),
            clusters: clusters.clone(),
            shards: client.clone(),
            remotes: remotes.clone(),
            clock,
        },
        registry: registry.clone(),
        dead_letters: letters.clone(),
        tasks: tasks.child("extension"),
    });
    tokio::spawn(
        Server::builder()
            .add_service(AdminServiceServer::from_arc(host.clone()))
            .add_service(ReplicationExtensionServiceServer::from_arc(extension))
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    let letter_box = LetterBox::new(LetterBoxDeps {
        queues: store.queue.clone(),
        clusters,
        shards: client.clone(),
        manager,
    });
    let tasks_aside = TaskDlq::new(store.queue, name);
    Cluster {
        shards,
        client,
        registry,
        letters,
        letter_box,
        tasks_aside,
        remotes,
        faults,
        shard_store,
        membership,
        tasks,
        clock: own_clock,
    }
}

impl World {
    /// West with `west` shards and east with `east`; the namespace is active in west. Nothing is pulled yet.
    pub async fn new(west: i32, east: i32) -> Self {
        let bind = || TcpListener::bind("127.0.0.1:0");
        let (at_west, at_east) = (bind().await.unwrap(), bind().await.unwrap());
        let address = |l: &TcpListener| l.local_addr().unwrap().to_string();
        let west_info = info("west", 1, west, address(&at_west));
        let east_info = info("east", 2, east, address(&at_east));
        Self {
            west: cluster(at_west, west_info.clone(), east_info.clone()).await,
            east: cluster(at_east, east_info, west_info).await,
        }
    }

    pub fn fail_over(&self, active: &str, version: i64) {
        for cluster in [&self.west, &self.east] {
            cluster.registry.set(vec![namespace(active, version)]);
        }
    }

    /// A comparison of the namespace in west with east's.
    pub fn check(&self) -> Check {
        let (client, remotes) = (self.west.client.clone(), self.west.remotes.clone());
        Check::new(client, remotes, NAMESPACE.into(), "east".into())
    }

    /// Holds writes back in west, as what is stored says and as a barrier.
    pub async fn hold(&self) {
        let held = Namespace {
            handover: true,
            ..namespace("west", 1)
        };
        self.west.registry.set(vec![held]);
        for shard_id in 1..=self.west.client.shard_count() {
            let request = FreezeNamespaceRequest {
                shard_id,
                namespace_id: NAMESPACE.to_owned(),
                hold: Some(time::duration_to_proto(Duration::from_secs(60))),
                probe: false,
            };
            self.west.client.freeze_namespace(request).await.unwrap();
        }
    }

    /// Streams both ways, and the first of their messages.
    pub async fn connect(&self) -> (Pulling, Pulling) {
        (self.west.pull().await, self.east.pull().await)
    }
}

impl Cluster {
    /// Starts to pull, and waits until all streams stand.
    pub async fn pull(&self) -> Pulling {
        let tasks = self.tasks.child("pulling");
        let pullers = Pullers::start(PullerDeps {
            remotes: self.remotes.clone(),
            membership: self.membership.clone(),
            replication: self.client.clone(),
            dead_letters: self.letters.clone(),
            clock: SystemClock::shared(),
            settings: Settings::new(),
            metrics: Metrics::new(),
            tasks: tasks.clone(),
        });
        until("streams stand", || async {
            let all = pullers.status();
            !all.is_empty() && all.iter().all(|s| s.connected)
        })
        .await;
        Pulling(tasks)
    }

    /// Sets the clock wrong by so many milliseconds.
    pub fn skew(&self, millis: i64) {
        self.clock.0.store(millis * 1_000_000, Ordering::SeqCst);
    }

    /// Runs of this workflow hold garbage from now on, and nothing of them is in memory.
    pub async fn corrupt(&self, workflow: &'static str) {
        *self.faults.corrupt.lock() = Some(workflow);
        let shard = self.shard(workflow).await.id();
        let now = self.clock.now_nanos();
        let taken = self
            .shard_store
            .shard_acquire(shard, "another", proto_ids::Timestamp::from_nanos(now))
            .await;
        taken.unwrap();
        let lost = self.shards.freeze_probe(shard, Duration::from_secs(30));
        lost.await.unwrap_err();
    }

    pub async fn shard(&self, workflow: &str) -> Shard {
        let (namespace, workflow) = (NAMESPACE.into(), workflow.into());
        self.shards
            .for_workflow(&namespace, &workflow)
            .await
            .unwrap()
    }

    pub async fn start(&self, workflow: &str, run: &str) {
        let key = key(workflow, run);
        let request = StartWorkflowExecutionRequest {
            workflow_id: workflow.to_owned(),
            workflow_type: Some(WorkflowType {
                name: "type".to_owned(),
            }),
            task_queue: Some(TaskQueue {
                name: "queue".to_owned(),
                ..Default::default()
            }),
            request_id: run.to_owned(),
            ..Default::default()
        };
        let shard = self.shard(workflow).await;
        let started = shard
            .transact(
                &key.namespace_id,
                &key.workflow_id,
                async |txn: &mut Txn| {
                    let context = txn.decision_context();
                    let start = Start {
                        key: key.clone(),
                        request: Box::new(request),
                        ..Default::default()
                    };
                    let (run, transition) = MutableState::start(start, &context.borrowed())
                        .map_err(|refusal| format!("{refusal:?}"))?;
                    txn.insert(
                        run,
                        transition.events,
                        transition.tasks,
                        CurrentChange::Become,
                    )
                    .map_err(|e| e.to_string())
                },
            )
            .await;
        started.unwrap();
    }

    pub async fn ask(&self, key: &RunKey, request: Request) {
        let shard = self.shard(key.workflow_id.as_str()).await;
        let done = shard
            .update(key, |run, ctx| Ok((run.handle(request, ctx)?, ())))
            .await;
        done.unwrap();
    }

    pub async fn signal(&self, workflow: &str, run: &str, name: &str) {
        let signal = Signal {
            name: name.to_owned(),
            ..Default::default()
        };
        let request = Request::Signal {
            signal,
            only_from_parent: None,
        };
        self.ask(&key(workflow, run), request).await;
    }

    pub async fn start_task(&self, workflow: &str, run: &str, scheduled: i64) {
        let request = Request::StartWorkflowTask {
            scheduled_event_id: scheduled.into(),
            attempt: 0,
            request_id: format!("poll-{scheduled}"),
            identity: "worker".to_owned(),
            task_queue: TaskQueue::default(),
            build_id: String::new(),
        };
        self.ask(&key(workflow, run), request).await;
    }

    pub async fn complete_task(
        &self,
        workflow: &str,
        run: &str,
        started: i64,
        commands: Vec<Command>,
    ) {
        let request = RespondWorkflowTaskCompletedRequest {
            commands,
            ..Default::default()
        };
        let request = Request::CompleteWorkflowTask {
            scheduled_event_id: (started - 1).into(),
            started_event_id: started.into(),
            attempt: 1,
            request: Box::new(request),
            queries_pending: false,
        };
        self.ask(&key(workflow, run), request).await;
    }

    /// Sends a run as if it had just changed.
    pub async fn send_again(&self, workflow: &str, run: &str) {
        let request = GenerateLastHistoryReplicationTasksRequest {
            namespace: "orders".to_owned(),
            execution: Some(WorkflowExecution {
                workflow_id: workflow.to_owned(),
                run_id: run.to_owned(),
            }),
            ..Default::default()
        };
        self.client
            .generate_last_history_replication_tasks(NAMESPACE, request)
            .await
            .unwrap();
    }

    /// A reader that has acknowledged, and lacks, all there is.
    pub async fn forget_backlog(&self, workflow: &str, reader: &str) {
        let shard = self.shard(workflow).await;
        let end = *shard.replication_watermark().borrow();
        let incarnation = &shard.replication_open(reader, "").incarnation;
        shard.replication_ack(reader, incarnation, end).unwrap();
    }

    /// Deletes a run as the active side does: the others are told.
    pub async fn delete(&self, workflow: &str, run: &str) {
        let shard = self.shard(workflow).await;
        let key = key(workflow, run);
        let told = shard
            .transact(
                &key.namespace_id,
                &key.workflow_id,
                async |txn: &mut Txn| {
                    let found = txn.run(&key.run_id).await.map_err(|e| e.to_string())?;
                    let version = found.ok_or("no such run")?.last_version();
                    let kind = TaskKind::ReplicateDelete;
                    let tasks = vec![Task {
                        version,
                        fire_at: None,
                        kind,
                    }];
                    txn.add_tasks(&key.run_id, tasks).map_err(|e| e.to_string())
                },
            )
            .await;
        told.unwrap();
        shard.delete_run(&key).await.unwrap();
    }

    pub async fn read<T>(
        &self,
        workflow: &str,
        run: &str,
        f: impl FnOnce(&MutableState) -> T,
    ) -> Option<T> {
        match self
            .shard(workflow)
            .await
            .read(&key(workflow, run), f)
            .await
        {
            Ok(value) => Some(value),
            Err(ReadError::NotFound) => None,
            Err(error) => panic!("{error}"),
        }
    }

    pub async fn current(&self, workflow: &str) -> Option<String> {
        let current = self.record(workflow).await;
        current.map(|record| record.run_id.to_string())
    }

    /// The current pointer.
    pub async fn record(&self, workflow: &str) -> Option<CurrentRecord> {
        let shard = self.shard(workflow).await;
        shard
            .current(&NAMESPACE.into(), &workflow.into())
            .await
            .unwrap()
    }

    /// Events of a run's current branch.
    pub async fn history(&self, workflow: &str, run: &str) -> Vec<HistoryEvent> {
        let shard = self.shard(workflow).await;
        let page = shard
            .history(&key(workflow, run), None, 1.into(), i64::MAX.into(), 10_000)
            .await
            .unwrap();
        let batches = page.batches.into_iter();
        batches
            .flat_map(|b| History::decode(b.data).unwrap().events)
            .collect()
    }
}

impl Pulling {
    /// The network breaks.
    pub async fn stop(self) {
        assert!(self.0.shutdown(Duration::from_secs(5)).await);
    }
}

pub fn key(workflow: &str, run: &str) -> RunKey {
    RunKey {
        namespace_id: NamespaceId::new(NAMESPACE),
        workflow_id: workflow.into(),
        run_id: RunId::new(run),
    }
}

/// Waits for a condition, for at most as long as a broken test may take.
pub async fn until<F: Future<Output = bool>>(what: &str, mut check: impl FnMut() -> F) {
    let waiting = async {
        while !check().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting)
        .await
        .unwrap_or_else(|_| panic!("in vain waited until {what}"));
}

/// What a history holds, without what each cluster sets for itself.
pub fn outline(events: &[HistoryEvent]) -> Vec<(i64, i64, String)> {
    let name = |e: &HistoryEvent| {
        let name = e.event_type().as_str_name();
        name.trim_start_matches("EVENT_TYPE_").to_owned()
    };
    events
        .iter()
        .map(|e| (e.event_id, e.version, name(e)))
        .collect()
}
