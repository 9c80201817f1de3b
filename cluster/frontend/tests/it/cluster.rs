//! One cluster: a frontend on a socket over memory.

use std::{sync::Arc, time::Duration};

use certs::{ServerTls, Store, issue::Issued};
use cluster_frontend::{
    About, Delegates, ForwardingPolicy, Frontend, FrontendDeps, Readiness, RemoteFrontends,
};
use cluster_membership::{Member, Membership, Role};
use cluster_rpc::{
    ChannelOptions, Channels, HistoryClient, Listener, MatchingClient, PUBLIC_MESSAGE_BYTES_MAX,
    ReplicationClient, Security, ServeOptions,
    guard::{Callers, guarded},
    tuned,
};
use cluster_runtime::{Metrics, Overload, Settings, SystemClock, Tasks};
use namespaces::{
    Clusters, Manager, ManagerOptions, Registry,
    rules::{OwnCluster, ReplicationChange, Update},
};
use proto_messages::temporal::{
    api::{
        common::v1::WorkflowType,
        enums::v1::ReplicationState,
        operatorservice::v1 as operator,
        replication::v1::{ClusterReplicationConfig, NamespaceReplicationConfig},
        taskqueue::v1::TaskQueue,
        workflowservice::v1 as api,
    },
    server::api::{
        adminservice::v1::GetNamespaceReplicationMessagesRequest,
        replication::v1::replication_task::Attributes,
    },
};
use proto_services::temporal::{
    api::{
        operatorservice::v1::{
            operator_service_client::OperatorServiceClient,
            operator_service_server::OperatorServiceServer,
        },
        workflowservice::v1::{
            workflow_service_client::WorkflowServiceClient,
            workflow_service_server::WorkflowServiceServer,
        },
    },
    server::api::adminservice::v1::{
        admin_service_client::AdminServiceClient, admin_service_server::AdminServiceServer,
    },
};
use tonic::{service::Routes, transport::Channel};

use crate::behind::{History, Matching};

pub struct Cluster {
    pub name: &'static str,
    pub address: String,
    pub manager: Manager,
    pub history: Arc<History>,
    pub matching: Arc<Matching>,
    pub readiness: Readiness,
    pub metrics: Metrics,
    channel: Channel,
    tasks: Tasks,
}

pub async fn start(name: &'static str, initial: i64, policy: ForwardingPolicy) -> Cluster {
    start_with(name, initial, policy, Settings::new()).await
}

/// How a cluster is called and calls others.
#[derive(Default)]
pub struct Trust {
    server: Option<ServerTls>,
    security: Security,
}

impl Trust {
    /// Both ways with a certificate.
    pub async fn mutual(issued: Issued) -> Self {
        let store = Store::open(issued.mutual()).await.unwrap();
        Self {
            server: Some(store.server()),
            security: Security::Tls {
                tls: store.client(),
                server_name: None,
            },
        }
    }
}

pub async fn start_secured(name: &'static str, initial: i64, trust: Trust) -> Cluster {
    start_trusting(name, initial, ForwardingPolicy::All, Settings::new(), trust).await
}

pub async fn start_with(
    name: &'static str,
    initial: i64,
    policy: ForwardingPolicy,
    settings: Settings,
) -> Cluster {
    start_trusting(name, initial, policy, settings, Trust::default()).await
}

async fn start_trusting(
    name: &'static str,
    initial: i64,
    policy: ForwardingPolicy,
    settings: Settings,
    trust: Trust,
) -> Cluster {
    let at = ([127, 0, 0, 1], 0).into();
    let listener = Listener::bind(at, trust.server, ServeOptions::public())
        .await
        .unwrap();
    let address = listener.address().to_string();
    let store = schema_store::memory::MemoryStore::new().store();
    let (tasks, metrics) = (Tasks::new(name), Metrics::new());
    let own = OwnCluster {
        name: name.into(),
        initial_failover_version: initial,
        failover_version_increment: 10,
        shard_count: 4,
        address: address.clone(),
        connection_enabled: true,
        is_global_namespace_enabled: true,
        ..Default::default()
    };
    let clusters = Clusters::start(&own, store.cluster.clone(), settings.clone(), &tasks)
        .await
        .unwrap();
    let registry = Registry::start(store.namespace.clone(), settings.clone(), &tasks)
        .await
        .unwrap();
    let manager = Manager::new(
        ManagerOptions {
            master_cluster: "west".into(),
        },
        store.namespace.clone(),
        registry.clone(),
        clusters.clone(),
        SystemClock::shared(),
    );
    manager.ensure_system().await.unwrap();
    let history = Arc::new(History {
        registry: registry.clone(),
        clusters: clusters.clone(),
        knows_better: Default::default(),
        started: Default::default(),
    });
    let matching = Arc::new(Matching::default());
    let (to_history, to_matching) = (HistoryClient::local(4), MatchingClient::local());
    to_history.set_local(history.clone());
    to_matching.set_local(matching.clone());
    let channels = Channels::new(trust.security, ChannelOptions::between_clusters());
    let readiness = Readiness::new();
    let frontend = Frontend::new(FrontendDeps {
        registry: registry.clone(),
        manager: manager.clone(),
        clusters: clusters.clone(),
        visibility: store.visibility.clone(),
        queue: store.queue.clone(),
        history: to_history,
        matching: to_matching,
        remotes: RemoteFrontends::new(channels.clone(), clusters.clone()),
        membership: Membership::alone(Member {
            id: name.to_owned(),
            gossip: listener.address(),
            roles: vec![(Role::Frontend, listener.address())],
            incarnation: 1,
        }),
        delegates: Delegates {
            replication: ReplicationClient::local(4),
            dead_letters: None,
        },
        policy,
        readiness: readiness.clone(),
        overload: Overload::new(settings.clone(), &metrics),
        about: About {
            persistence_store: "memory".into(),
            visibility_store: "memory".into(),
        },
        settings,
        clock: SystemClock::shared(),
        metrics: metrics.clone(),
    });
    let workflow = WorkflowServiceServer::from_arc(frontend.workflow_service());
    let routes = Routes::new(tuned!(workflow, PUBLIC_MESSAGE_BYTES_MAX))
        .add_service(OperatorServiceServer::from_arc(frontend.operator_service()))
        .add_service(AdminServiceServer::from_arc(frontend.admin_service()));
    listener.serve(&tasks, "frontend", guarded(routes, Callers::Known));
    readiness.set(true);
    let channel = channels.get(address.as_str()).unwrap();
    Cluster {
        name,
        address,
        manager,
        history,
        matching,
        readiness,
        metrics,
        channel,
        tasks,
    }
}

/// Two clusters that know each other, with the global namespace `orders` active in `west`.
pub async fn pair(policy: ForwardingPolicy) -> (Cluster, Cluster) {
    let (west, east) = (
        start("west", 1, policy).await,
        start("east", 2, policy).await,
    );
    west.connect(&east).await;
    east.connect(&west).await;
    register(&west, "orders", &["west", "east"]).await;
    east.pull(&west).await;
    (west, east)
}

/// A namespace in these clusters, or a local one.
pub async fn register(cluster: &Cluster, namespace: &str, clusters: &[&str]) {
    let clusters = clusters.iter().map(|c| ClusterReplicationConfig {
        cluster_name: (*c).into(),
        ..Default::default()
    });
    let clusters: Vec<_> = clusters.collect();
    let request = api::RegisterNamespaceRequest {
        namespace: namespace.into(),
        workflow_execution_retention_period: Some(prost_types::Duration {
            seconds: 86_400,
            nanos: 0,
        }),
        is_global_namespace: !clusters.is_empty(),
        clusters,
        ..Default::default()
    };
    let registered = cluster.workflows().register_namespace(request).await;
    registered.unwrap();
}

impl Cluster {
    pub fn workflows(&self) -> WorkflowServiceClient {
        WorkflowServiceClient::new(self.channel.clone())
    }

    pub fn operator(&self) -> OperatorServiceClient {
        OperatorServiceClient::new(self.channel.clone())
    }

    pub fn admin(&self) -> AdminServiceClient {
        AdminServiceClient::new(self.channel.clone())
    }

    pub async fn connect(&self, other: &Cluster) {
        let request = operator::AddOrUpdateRemoteClusterRequest {
            frontend_address: other.address.clone(),
            enable_remote_cluster_connection: true,
            enable_replication: true,
            ..Default::default()
        };
        self.operator()
            .add_or_update_remote_cluster(request)
            .await
            .unwrap();
    }

    /// What the puller of the worker role does.
    pub async fn pull(&self, from: &Cluster) {
        let request = GetNamespaceReplicationMessagesRequest {
            last_retrieved_message_id: -1,
            last_processed_message_id: -1,
            cluster_name: self.name.into(),
        };
        let answer = from
            .admin()
            .get_namespace_replication_messages(request)
            .await
            .unwrap();
        for task in answer.into_inner().messages.unwrap().replication_tasks {
            let Some(Attributes::NamespaceTaskAttributes(attributes)) = &task.attributes else {
                panic!("{task:?}")
            };
            self.manager
                .merge(&from.name.into(), attributes)
                .await
                .unwrap();
        }
    }

    /// A metric, summed over its labels.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.metrics.text();
        let lines = text.lines().filter_map(|l| l.strip_prefix(name));
        let values = lines.filter(|l| l.starts_with('{'));
        values
            .filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// Waits until a metric is more than it was.
    pub async fn wait_until_more(&self, name: &str, than: f64) {
        let waits = async {
            while self.metric(name) <= than {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), waits).await;
        waited.unwrap_or_else(|_| panic!("{name} stays {than}: {}", self.metrics.text()));
    }

    /// Makes a cluster the active one, as the stock command line does.
    pub async fn fail_over_to(&self, cluster: &str) {
        let replication_config = NamespaceReplicationConfig {
            active_cluster_name: cluster.into(),
            ..Default::default()
        };
        let request = api::UpdateNamespaceRequest {
            namespace: "orders".into(),
            replication_config: Some(replication_config),
            ..Default::default()
        };
        self.workflows().update_namespace(request).await.unwrap();
    }

    pub async fn hold(&self, hold: bool) {
        let state = match hold {
            true => ReplicationState::Handover,
            false => ReplicationState::Normal,
        };
        let handover = Some(state == ReplicationState::Handover);
        let wanted = Update {
            replication: ReplicationChange {
                handover,
                ..Default::default()
            },
            ..Default::default()
        };
        self.manager.update(&"orders".into(), wanted).await.unwrap();
    }

    pub async fn stop(self) {
        assert!(
            self.tasks.shutdown(Duration::from_secs(10)).await,
            "{} held on",
            self.name
        );
    }
}

pub fn start_request(workflow_id: &str) -> api::StartWorkflowExecutionRequest {
    api::StartWorkflowExecutionRequest {
        namespace: "orders".into(),
        workflow_id: workflow_id.into(),
        workflow_type: Some(WorkflowType {
            name: "Order".into(),
        }),
        task_queue: Some(TaskQueue {
            name: "orders".into(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// A request that the caller waits for as long as told.
pub fn within<T>(message: T, millis: u64) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(Duration::from_millis(millis));
    request
}

pub fn poll_request() -> api::PollWorkflowTaskQueueRequest {
    api::PollWorkflowTaskQueueRequest {
        namespace: "orders".into(),
        task_queue: Some(TaskQueue {
            name: "orders".into(),
            ..Default::default()
        }),
        ..Default::default()
    }
}
