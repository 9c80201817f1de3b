//! The extension service between clusters and for operators: status, the unreplicated tail, digests, and
//! planned failover. What only the active cluster of a namespace can tell or do is passed on to it, so that an
//! operator needs one address.

use std::sync::Arc;

use cluster_rpc::{
    guard::{AuthenticatedPeer, not_shared},
    status,
};
use cluster_runtime::task::{TaskKind, Tasks};
use namespaces::{Namespace, Registry};
use proto_ids::{ClusterName, NamespaceId, NamespaceName, ShardId};
use proto_messages::{
    meridian::replication::v1::*,
    temporal::api::{common::v1::WorkflowExecution, workflowservice::v1::DescribeNamespaceRequest},
    time,
};
use proto_services::{
    meridian::replication::v1::{
        replication_extension_service_client::ReplicationExtensionServiceClient,
        replication_extension_service_server::ReplicationExtensionService,
    },
    temporal::api::workflowservice::v1::workflow_service_client::WorkflowServiceClient,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Response, Status, async_trait, codegen::BoxStream, metadata::AsciiMetadataValue,
};

use crate::{
    completeness::{Check, ComparisonError},
    dead_letters::DeadLetters,
    remotes,
    switchover::Switchovers,
};

/// Runs in one message of the tail.
const TAIL_PAGE: i32 = 500;
/// Runs whose digests are asked for at once, per shard.
const DIGESTS_PAGE: usize = 100;
/// Runs compared at once, per shard.
const COMPARE_PAGE: usize = 500;
/// Dead letters read at once.
const LETTERS_PAGE: usize = 100;
/// Runs of dead letters that are named.
const LETTER_RUNS_MAX: usize = 20;
/// Messages a slow reader may be behind.
const BEHIND: usize = 16;

/// The dependencies of the service.
#[derive(Clone)]
pub struct ExtensionDeps {
    /// Planned failovers; its parts serve the rest, too.
    pub switchovers: Switchovers,
    /// The rows that this cluster could not send.
    pub dead_letters: DeadLetters,
    /// Namespaces as they are.
    pub registry: Registry,
    /// The group switchovers run in: they outlive their callers.
    pub tasks: Tasks,
}

/// Serves the extension.
pub struct Extension(ExtensionDeps);

impl Extension {
    /// Over the shards of this cluster.
    pub fn new(deps: ExtensionDeps) -> Arc<Self> {
        Arc::new(Self(deps))
    }
}

/// Marks a call that another cluster passed on; it is not passed on again.
const PASSED_ON: &str = "meridian-passed-on";

impl Extension {
    /// The cluster that has to answer instead of this one: where the namespace is active.
    fn elsewhere<T>(
        &self,
        request: &Request<T>,
        namespace: Option<Arc<Namespace>>,
    ) -> Option<ClusterName> {
        let namespace = namespace?;
        let here = self.0.switchovers.clusters.current_name();
        let passed_on = request.metadata().contains_key(PASSED_ON);
        (!passed_on && !namespace.is_active_in(&here)).then(|| namespace.active_cluster.clone())
    }

    /// Whether whoever calls may do so about the namespace: a cluster only about those that it shares.
    fn check_peer<T>(
        &self,
        request: &Request<T>,
        namespace: Option<&Namespace>,
    ) -> Result<(), Status> {
        let peer = request.extensions().get::<AuthenticatedPeer>();
        let (Some(peer), Some(namespace)) = (peer, namespace) else {
            return Ok(());
        };
        let clusters = &self.0.switchovers.clusters;
        match clusters.stranger_to(namespace, |c| peer.speaks_for(c)) {
            Some(stranger) => Err(not_shared(stranger.as_str(), namespace.name.as_str())),
            None => Ok(()),
        }
    }

    /// The namespace that a request names, if it is known here and whoever calls may ask about it.
    fn named<T>(&self, request: &Request<T>, name: &str) -> Result<Option<Arc<Namespace>>, Status> {
        let namespace = self.0.registry.by_name(&NamespaceName::new(name));
        self.check_peer(request, namespace.as_deref())?;
        Ok(namespace)
    }

    /// The same by id.
    fn of_id<T>(&self, request: &Request<T>, id: &str) -> Result<Option<Arc<Namespace>>, Status> {
        let namespace = self.0.registry.by_id(&NamespaceId::new(id));
        self.check_peer(request, namespace.as_deref())?;
        Ok(namespace)
    }

    fn client(&self, cluster: &ClusterName) -> Result<ReplicationExtensionServiceClient, Status> {
        self.0.switchovers.remotes.extension(cluster)
    }
}

/// The summary of dead letters of a namespace from one cluster: how many, and the runs of the first.
async fn dead_letters(
    letters: &DeadLetters,
    source: &str,
    namespace_id: &str,
    answer: &mut CompareRunsResponse,
) -> Result<(), Status> {
    let mut after = 0;
    loop {
        let page = letters.read(source, after, LETTERS_PAGE).await;
        let page = page.map_err(crate::dead_letters::unavailable)?;
        let is_last = page.len() < LETTERS_PAGE;
        for letter in page {
            after = letter.id;
            let run = letter.letter.task.as_ref().map(crate::wire::run_key);
            let run = run.unwrap_or_default();
            if run.namespace_id.as_str() != namespace_id {
                continue;
            }
            answer.dead_letters += 1;
            let run = WorkflowExecution {
                workflow_id: run.workflow_id.to_string(),
                run_id: run.run_id.to_string(),
            };
            let named = &mut answer.dead_letter_runs;
            if named.len() < LETTER_RUNS_MAX && !named.contains(&run) {
                named.push(run);
            }
        }
        if is_last {
            return Ok(());
        }
    }
}

/// Compares a namespace with another cluster and tells how that goes.
async fn check_completeness(
    deps: Switchovers,
    namespace: Arc<Namespace>,
    request: CheckCompletenessRequest,
    progress: mpsc::Sender<Result<CheckCompletenessResponse, Status>>,
) {
    let to = ClusterName::new(&request.to_cluster);
    let mut check = Check::new(deps.shards, deps.remotes, namespace.id.clone(), to);
    let compared = check.all(|checked| {
        let message = CheckCompletenessResponse {
            checked_runs: i64::try_from(checked).unwrap_or(i64::MAX),
            result: None,
        };
        // Only what comes next counts, so a slow reader misses nothing.
        let _ = progress.try_send(Ok(message));
    });
    let compared = tokio::select! {
        compared = compared => compared,
        // Nobody waits for it any more.
        () = progress.closed() => Err(ComparisonError::Unknown(String::new())),
    };
    let mut result = check.findings();
    match compared {
        Ok(()) if request.send_again => match check.send_again(&namespace.name).await {
            Ok(sent) => result.sent_again = sent,
            Err(fault) => result.unknown = fault.to_string(),
        },
        Ok(()) => {}
        Err(fault) => result.unknown = fault.to_string(),
    }
    check.end().await;
    let message = CheckCompletenessResponse {
        checked_runs: result.checked_runs,
        result: Some(result),
    };
    let _ = progress.send(Ok(message)).await;
}

/// The call as it is passed on. Its deadline stays the caller's.
fn passed_on<T>(request: Request<T>) -> Request<T> {
    let mut on = Request::new(request.into_inner());
    on.metadata_mut()
        .insert(PASSED_ON, AsciiMetadataValue::from_static("1"));
    remotes::add_version_headers(&mut on);
    on
}

#[async_trait]
impl ReplicationExtensionService for Extension {
    async fn get_replication_status(
        &self,
        request: Request<GetReplicationStatusRequest>,
    ) -> Result<Response<GetReplicationStatusResponse>, Status> {
        let asked = GetShardReplicationStatusRequest {
            shard_ids: Vec::new(),
            remote_clusters: request.get_ref().remote_clusters.clone(),
        };
        let shards = &self.0.switchovers.shards;
        let mut status = shards.get_shard_replication_status(asked).await;
        status
            .namespaces
            .retain(|n| self.of_id(&request, &n.namespace_id).is_ok());
        let letters = self.0.dead_letters.count().await.unwrap_or_else(|error| {
            tracing::warn!(%error, "dead letters cannot be counted");
            None
        });
        Ok(Response::new(GetReplicationStatusResponse {
            cluster: self.0.switchovers.clusters.current_name().to_string(),
            shards: status.shards,
            namespaces: match request.get_ref().by_namespace {
                true => status.namespaces,
                false => Vec::new(),
            },
            dead_letters_known: letters.is_some(),
            dead_letters: letters.unwrap_or_default(),
        }))
    }

    async fn list_unreplicated(
        &self,
        request: Request<ListUnreplicatedRequest>,
    ) -> Result<Response<BoxStream<ListUnreplicatedResponse>>, Status> {
        let namespace = self.of_id(&request, &request.get_ref().namespace_id)?;
        if let Some(active) = self.elsewhere(&request, namespace) {
            let answer = self
                .client(&active)?
                .list_unreplicated(passed_on(request))
                .await?;
            return Ok(Response::new(Box::pin(answer.into_inner())));
        }
        let request = request.into_inner();
        let (send, receive) = mpsc::channel(BEHIND);
        let shards = self.0.switchovers.shards.clone();
        self.0
            .tasks
            .spawn(TaskKind::Stream, "unreplicated-tail", async move {
                for shard_id in 1..=shards.shard_count() {
                    let mut after_task_id = 0;
                    loop {
                        let page = ListShardUnreplicatedRequest {
                            shard_id,
                            namespace_id: request.namespace_id.clone(),
                            remote_cluster: request.remote_cluster.clone(),
                            after_task_id,
                            page_size: TAIL_PAGE,
                        };
                        let page = shards.list_shard_unreplicated(page).await;
                        let next = page.as_ref().map_or(0, |p| p.next_after_task_id);
                        let failed = page.is_err();
                        let message = page.map(|p| ListUnreplicatedResponse { runs: p.runs });
                        if send.send(message).await.is_err() || failed {
                            return;
                        }
                        if next == 0 {
                            break;
                        }
                        after_task_id = next;
                    }
                }
            });
        Ok(Response::new(Box::pin(ReceiverStream::new(receive))))
    }

    async fn get_history_digests(
        &self,
        request: Request<GetHistoryDigestsRequest>,
    ) -> Result<Response<GetHistoryDigestsResponse>, Status> {
        self.of_id(&request, &request.get_ref().namespace_id)?;
        let request = request.into_inner();
        let shards = &self.0.switchovers.shards;
        let mut by_shard: std::collections::BTreeMap<ShardId, Vec<_>> = Default::default();
        for execution in request.executions {
            let shard = shards.shard_of(&request.namespace_id, &execution.workflow_id);
            by_shard.entry(shard).or_default().push(execution);
        }
        let mut all = GetHistoryDigestsResponse::default();
        for (shard, executions) in by_shard {
            for page in executions.chunks(DIGESTS_PAGE) {
                let part = GetShardHistoryDigestsRequest {
                    shard_id: shard.get(),
                    namespace_id: request.namespace_id.clone(),
                    executions: page.to_vec(),
                };
                all.digests
                    .extend(shards.get_shard_history_digests(part).await?.digests);
            }
        }
        Ok(Response::new(all))
    }

    async fn compare_runs(
        &self,
        request: Request<CompareRunsRequest>,
    ) -> Result<Response<CompareRunsResponse>, Status> {
        let namespace = self.of_id(&request, &request.get_ref().namespace_id)?;
        let request = request.into_inner();
        let id = NamespaceId::new(&request.namespace_id);
        let here = self.0.switchovers.clusters.current_name();
        if !namespace.is_some_and(|n| n.lives_in(&here)) {
            return Err(Status::not_found(format!(
                "the namespace is not known in {here} yet"
            )));
        }
        let shards = &self.0.switchovers.shards;
        let mut by_shard: std::collections::BTreeMap<ShardId, Vec<_>> = Default::default();
        for run in request.runs {
            let workflow_id = run.execution.as_ref().map(|e| e.workflow_id.as_str());
            let shard = shards.shard_of(id.as_str(), workflow_id.unwrap_or_default());
            by_shard.entry(shard).or_default().push(run);
        }
        let mut answer = CompareRunsResponse::default();
        for (shard, runs) in by_shard {
            for page in runs.chunks(COMPARE_PAGE) {
                let part = CompareShardRunsRequest {
                    shard_id: shard.get(),
                    namespace_id: request.namespace_id.clone(),
                    runs: page.to_vec(),
                };
                let part = shards.compare_shard_runs(part).await?;
                answer.differences.extend(part.differences);
            }
        }
        if !request.dead_letters_of.is_empty() {
            let (letters, source) = (&self.0.dead_letters, &request.dead_letters_of);
            dead_letters(letters, source, id.as_str(), &mut answer).await?;
        }
        Ok(Response::new(answer))
    }

    async fn check_completeness(
        &self,
        request: Request<CheckCompletenessRequest>,
    ) -> Result<Response<BoxStream<CheckCompletenessResponse>>, Status> {
        let name = NamespaceName::new(&request.get_ref().namespace);
        let namespace = self.named(&request, name.as_str())?;
        if let Some(active) = self.elsewhere(&request, namespace.clone()) {
            let mut client = self.client(&active)?;
            let answer = client.check_completeness(passed_on(request)).await?;
            return Ok(Response::new(Box::pin(answer.into_inner())));
        }
        let namespace = namespace.ok_or_else(|| status::namespace_not_found(name.as_str()))?;
        let here = self.0.switchovers.clusters.current_name();
        if !namespace.is_active_in(&here) {
            return Err(status::namespace_not_active(
                name.as_str(),
                here.as_str(),
                namespace.active_cluster.as_str(),
            ));
        }
        let (send, receive) = mpsc::channel(BEHIND);
        let work = check_completeness(
            self.0.switchovers.clone(),
            namespace,
            request.into_inner(),
            send,
        );
        self.0.tasks.spawn(TaskKind::Stream, "completeness", work);
        Ok(Response::new(Box::pin(ReceiverStream::new(receive))))
    }

    async fn get_namespace_view(
        &self,
        request: Request<GetNamespaceViewRequest>,
    ) -> Result<Response<GetNamespaceViewResponse>, Status> {
        let namespace = self.named(&request, &request.get_ref().namespace)?;
        let request = request.into_inner();
        let cluster = ClusterName::new(&request.cluster);
        let deps = &self.0.switchovers;
        let describe = DescribeNamespaceRequest {
            namespace: request.namespace.clone(),
            ..Default::default()
        };
        if cluster == deps.clusters.current_name() {
            let namespace =
                namespace.ok_or_else(|| status::namespace_not_found(&request.namespace))?;
            return Ok(Response::new(GetNamespaceViewResponse {
                active_cluster: namespace.active_cluster.to_string(),
                failover_version: namespace.failover_version.get(),
            }));
        }
        let mut there = WorkflowServiceClient::new(deps.remotes.channel_to(&cluster)?);
        let told = there.describe_namespace(remotes::request(describe)).await?;
        let told = told.into_inner();
        Ok(Response::new(GetNamespaceViewResponse {
            active_cluster: told
                .replication_config
                .unwrap_or_default()
                .active_cluster_name,
            failover_version: told.failover_version,
        }))
    }

    async fn switchover(
        &self,
        request: Request<SwitchoverRequest>,
    ) -> Result<Response<BoxStream<SwitchoverProgress>>, Status> {
        let namespace = self.named(&request, &request.get_ref().namespace)?;
        if let Some(active) = self.elsewhere(&request, namespace) {
            let answer = self.client(&active)?.switchover(passed_on(request)).await?;
            return Ok(Response::new(Box::pin(answer.into_inner())));
        }
        let (send, receive) = mpsc::channel(BEHIND);
        let work = self
            .0
            .switchovers
            .prepare(request.into_inner(), send)
            .await?;
        // Runs to its end even when the caller goes away.
        self.0.tasks.spawn(TaskKind::Request, "switchover", work);
        let messages = tokio_stream::StreamExt::map(ReceiverStream::new(receive), Ok);
        Ok(Response::new(Box::pin(messages)))
    }

    async fn get_handoff(
        &self,
        request: Request<GetHandoffRequest>,
    ) -> Result<Response<GetHandoffResponse>, Status> {
        let namespace = self.of_id(&request, &request.get_ref().namespace_id)?;
        let id = NamespaceId::new(request.into_inner().namespace_id);
        let namespace = namespace.ok_or_else(|| status::namespace_not_found(id.as_str()))?;
        let handoff = namespace.handover.then(|| Handoff {
            namespace_id: id.to_string(),
            from_cluster: namespace.active_cluster.to_string(),
            deadline: Some(time::to_proto(namespace.handover_until)),
            failover_version: namespace.failover_version.get(),
            ..Default::default()
        });
        Ok(Response::new(GetHandoffResponse { handoff }))
    }
}
