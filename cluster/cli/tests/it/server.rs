//! A frontend of the active cluster, which answers what it was told to.

use std::sync::Arc;

use parking_lot::Mutex;
use proto_messages::{
    meridian::replication::v1::*,
    temporal::api::{
        namespace::v1::NamespaceInfo,
        replication::v1::{ClusterReplicationConfig, NamespaceReplicationConfig},
        workflowservice::v1::*,
    },
};
use proto_services::{
    meridian::replication::v1::replication_extension_service_server::{
        ReplicationExtensionService, ReplicationExtensionServiceServer,
    },
    temporal::api::workflowservice::v1::workflow_service_server::{
        WorkflowService, WorkflowServiceServer,
    },
};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, codegen::BoxStream};

/// The version that the namespace has once it was moved.
const VERSION: i64 = 12;

/// What the server says.
#[derive(Clone, Default)]
pub struct Answers {
    /// Runs that the target has not acknowledged; none when the active side cannot be asked.
    pub tail: Option<usize>,
    /// What a comparison finds; none when there can be no comparison.
    pub found: Option<Completeness>,
    /// How a switchover goes.
    pub switchover: Vec<SwitchoverProgress>,
}

/// A running server; dropping it ends it.
pub struct Server {
    pub address: String,
    shared: Arc<Shared>,
    _serving: JoinSet<()>,
}

struct Shared {
    answers: Answers,
    /// The cluster that was made active.
    moved_to: Mutex<Option<String>>,
    asked: Mutex<Option<SwitchoverRequest>>,
}

struct Service(Arc<Shared>);

impl Server {
    pub async fn start(answers: Answers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address").to_string();
        let shared = Arc::new(Shared {
            answers,
            moved_to: Mutex::default(),
            asked: Mutex::default(),
        });
        let (workflow, extension) = (Service(shared.clone()), Service(shared.clone()));
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            tonic::transport::Server::builder()
                .add_service(WorkflowServiceServer::new(workflow))
                .add_service(ReplicationExtensionServiceServer::new(extension))
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await
                .expect("serve");
        });
        Self {
            address,
            shared,
            _serving: serving,
        }
    }

    /// The cluster that was made active.
    pub fn moved_to(&self) -> Option<String> {
        self.shared.moved_to.lock().clone()
    }

    /// The switchover that was asked for.
    pub fn asked(&self) -> Option<SwitchoverRequest> {
        self.shared.asked.lock().clone()
    }
}

fn stream<T: Send + 'static>(messages: Vec<T>) -> Response<BoxStream<T>> {
    let messages = messages.into_iter().map(Ok).collect::<Vec<_>>();
    Response::new(Box::pin(tokio_stream::iter(messages)))
}

fn unreachable() -> Status {
    Status::unavailable("cluster west does not answer")
}

#[tonic::async_trait]
impl WorkflowService for Service {
    async fn get_system_info(
        &self,
        _: Request<GetSystemInfoRequest>,
    ) -> Result<Response<GetSystemInfoResponse>, Status> {
        Ok(Response::new(GetSystemInfoResponse::default()))
    }

    async fn describe_namespace(
        &self,
        _: Request<DescribeNamespaceRequest>,
    ) -> Result<Response<DescribeNamespaceResponse>, Status> {
        let clusters = ["west", "east"].map(|name| ClusterReplicationConfig {
            cluster_name: name.into(),
            ..Default::default()
        });
        Ok(Response::new(DescribeNamespaceResponse {
            namespace_info: Some(NamespaceInfo {
                id: "3a4c8d6e-90c2-4b61-8d3a-7d7f0c6b2a11".into(),
                ..Default::default()
            }),
            replication_config: Some(NamespaceReplicationConfig {
                active_cluster_name: "west".into(),
                clusters: clusters.into(),
                ..Default::default()
            }),
            is_global_namespace: true,
            failover_version: 1,
            ..Default::default()
        }))
    }

    async fn update_namespace(
        &self,
        request: Request<UpdateNamespaceRequest>,
    ) -> Result<Response<UpdateNamespaceResponse>, Status> {
        let wanted = request.into_inner().replication_config.unwrap_or_default();
        *self.0.moved_to.lock() = Some(wanted.active_cluster_name);
        Ok(Response::new(UpdateNamespaceResponse {
            failover_version: VERSION,
            ..Default::default()
        }))
    }
}

#[tonic::async_trait]
impl ReplicationExtensionService for Service {
    async fn list_unreplicated(
        &self,
        _: Request<ListUnreplicatedRequest>,
    ) -> Result<Response<BoxStream<ListUnreplicatedResponse>>, Status> {
        let tail = self.0.answers.tail.ok_or_else(unreachable)?;
        let runs = vec![UnreplicatedRun::default(); tail];
        Ok(stream(vec![ListUnreplicatedResponse { runs }]))
    }

    async fn check_completeness(
        &self,
        _: Request<CheckCompletenessRequest>,
    ) -> Result<Response<BoxStream<CheckCompletenessResponse>>, Status> {
        let found = self.0.answers.found.clone().ok_or_else(unreachable)?;
        Ok(stream(vec![CheckCompletenessResponse {
            checked_runs: found.checked_runs,
            result: Some(found),
        }]))
    }

    async fn get_namespace_view(
        &self,
        _: Request<GetNamespaceViewRequest>,
    ) -> Result<Response<GetNamespaceViewResponse>, Status> {
        let active_cluster = self.0.moved_to.lock().clone();
        Ok(Response::new(GetNamespaceViewResponse {
            active_cluster: active_cluster.unwrap_or_else(|| "west".into()),
            failover_version: VERSION,
        }))
    }

    async fn switchover(
        &self,
        request: Request<SwitchoverRequest>,
    ) -> Result<Response<BoxStream<SwitchoverProgress>>, Status> {
        *self.0.asked.lock() = Some(request.into_inner());
        Ok(stream(self.0.answers.switchover.clone()))
    }
}
