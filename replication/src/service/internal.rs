//! The apply service: what worker hosts and frontends of the same cluster ask of the owner of a shard.

use std::{collections::HashMap, time::Duration};

use proto_ids::{ClusterName, NamespaceId, RunKey, ShardId, TaskId};
use proto_messages::{
    meridian::replication::v1::{
        ApplyRequest, ApplyResponse, CompareRunsResponse, CompareShardRunsRequest,
        FlushBufferedEventsRequest, FlushBufferedEventsResponse, FreezeNamespaceRequest,
        FreezeNamespaceResponse, GetHistoryDigestsResponse, GetShardHistoryDigestsRequest,
        GetShardReplicationStatusRequest, GetShardReplicationStatusResponse,
        ListChangedRunsRequest, ListChangedRunsResponse, ListShardRunsRequest,
        ListShardRunsResponse, ListShardUnreplicatedRequest, ListShardUnreplicatedResponse,
        UnfreezeNamespaceRequest, UnfreezeNamespaceResponse, UnreplicatedRun,
    },
    temporal::api::common::v1::WorkflowExecution,
    time,
};
use proto_services::meridian::replication::v1::replication_apply_service_server::ReplicationApplyService;
use tonic::{Request, Response, Status};

use super::{ReplicationHost, run_key, standing};
use crate::apply::status;

/// Rows looked at for one page of the tail.
const TAIL_PAGE_MAX: usize = 1_000;

/// Longest time a namespace stays shut by one call, whatever was asked for.
const HOLD_MAX: Duration = Duration::from_secs(60);

/// Runs in one call for digests.
const DIGESTS_MAX: usize = 100;

#[tonic::async_trait]
impl ReplicationApplyService for ReplicationHost {
    async fn apply(
        &self,
        request: Request<ApplyRequest>,
    ) -> Result<Response<ApplyResponse>, Status> {
        self.applier
            .apply(request.into_inner())
            .await
            .map(Response::new)
    }

    async fn get_shard_replication_status(
        &self,
        request: Request<GetShardReplicationStatusRequest>,
    ) -> Result<Response<GetShardReplicationStatusResponse>, Status> {
        let request = request.into_inner();
        let mut answer = GetShardReplicationStatusResponse::default();
        for shard in self.deps.shards.owned() {
            if !request.shard_ids.is_empty() && !request.shard_ids.contains(&shard.id().get()) {
                continue;
            }
            let stands = standing::of(
                self,
                &shard,
                &request.remote_clusters,
                standing::PAGES_ASKED,
            )
            .await;
            let (status, namespaces) = stands.map_err(status::shard)?;
            answer.shards.push(status);
            standing::merge(&mut answer.namespaces, namespaces);
        }
        Ok(Response::new(answer))
    }

    async fn list_shard_unreplicated(
        &self,
        request: Request<ListShardUnreplicatedRequest>,
    ) -> Result<Response<ListShardUnreplicatedResponse>, Status> {
        let request = request.into_inner();
        let shard = self.shard(request.shard_id).await?;
        let remote = ClusterName::new(&request.remote_cluster);
        let remote = self.deps.clusters.get(&remote).ok_or_else(|| {
            Status::invalid_argument(format!(
                "cluster {} is not known here",
                request.remote_cluster
            ))
        })?;
        let readers = shard.replication_readers_of(&remote.name, remote.shard_count);
        let acked = readers.into_iter().map(|(_, reader)| reader.acked).min();
        let from = acked
            .unwrap_or_default()
            .max(TaskId::new(request.after_task_id + 1));
        let until = *shard.replication_watermark().borrow();
        let limit = usize::try_from(request.page_size)
            .unwrap_or(0)
            .clamp(1, TAIL_PAGE_MAX);
        let tasks = shard
            .replication_read(from, until, limit)
            .await
            .map_err(status::shard)?;
        let next = if tasks.len() == limit {
            tasks.last().map_or(0, |t| t.task_id.get())
        } else {
            0
        };
        let mut runs: HashMap<RunKey, UnreplicatedRun> = HashMap::new();
        for task in tasks {
            let is_wanted = request.namespace_id.is_empty()
                || task.run.namespace_id.as_str() == request.namespace_id;
            if !is_wanted {
                continue;
            }
            let (first, end) = standing::events_of(&task.task);
            let run = runs
                .entry(task.run.clone())
                .or_insert_with(|| UnreplicatedRun {
                    namespace_id: task.run.namespace_id.to_string(),
                    execution: Some(WorkflowExecution {
                        workflow_id: task.run.workflow_id.to_string(),
                        run_id: task.run.run_id.to_string(),
                    }),
                    shard_id: shard.id().get(),
                    first_event_id: first,
                    since: Some(time::to_proto(task.at)),
                    ..UnreplicatedRun::default()
                });
            run.next_event_id = run.next_event_id.max(end);
            run.version = run.version.max(task.task.version.get());
        }
        let runs = runs.into_values().collect();
        Ok(Response::new(ListShardUnreplicatedResponse {
            runs,
            next_after_task_id: next,
        }))
    }

    async fn get_shard_history_digests(
        &self,
        request: Request<GetShardHistoryDigestsRequest>,
    ) -> Result<Response<GetHistoryDigestsResponse>, Status> {
        let request = request.into_inner();
        if request.executions.len() > DIGESTS_MAX {
            return Err(Status::invalid_argument(format!(
                "at most {DIGESTS_MAX} runs can be compared in one call"
            )));
        }
        let shard = self.shard(request.shard_id).await?;
        let mut digests = Vec::with_capacity(request.executions.len());
        for execution in request.executions {
            let key = run_key(&request.namespace_id, Some(&execution))?;
            digests.push(self.digest(&shard, &key, execution).await?);
        }
        Ok(Response::new(GetHistoryDigestsResponse { digests }))
    }

    async fn freeze_namespace(
        &self,
        request: Request<FreezeNamespaceRequest>,
    ) -> Result<Response<FreezeNamespaceResponse>, Status> {
        let request = request.into_inner();
        let namespace_id = NamespaceId::new(&request.namespace_id);
        let shard = ShardId::new(request.shard_id);
        let hold = time::duration_from_proto(request.hold.as_ref()).min(HOLD_MAX);
        let shards = &self.deps.shards;
        if request.probe {
            let probed = shards.freeze_probe(shard, hold).await;
            probed.map_err(status::shard)?;
            return Ok(Response::new(FreezeNamespaceResponse::default()));
        }
        let last = shards.freeze(&namespace_id, shard, hold).await;
        let last = last.map_err(status::shard)?;
        // Frozen implies held: without the stored hold nothing would keep a later owner from writing.
        let held = self.deps.registry.by_id(&namespace_id);
        if !held.is_some_and(|namespace| namespace.handover) {
            shards.unfreeze(&namespace_id);
            return Err(cluster_rpc::status::failed_precondition(format!(
                "writes of namespace {namespace_id} are not held back by what is stored"
            )));
        }
        Ok(Response::new(FreezeNamespaceResponse {
            last_task_id: last.get(),
        }))
    }

    async fn unfreeze_namespace(
        &self,
        request: Request<UnfreezeNamespaceRequest>,
    ) -> Result<Response<UnfreezeNamespaceResponse>, Status> {
        let namespace_id = NamespaceId::new(request.into_inner().namespace_id);
        self.deps.shards.unfreeze(&namespace_id);
        Ok(Response::new(UnfreezeNamespaceResponse {}))
    }

    async fn list_shard_runs(
        &self,
        request: Request<ListShardRunsRequest>,
    ) -> Result<Response<ListShardRunsResponse>, Status> {
        let listed = self.shard_runs(request.into_inner()).await;
        listed.map(Response::new)
    }

    async fn list_changed_runs(
        &self,
        request: Request<ListChangedRunsRequest>,
    ) -> Result<Response<ListChangedRunsResponse>, Status> {
        let changed = self.changed_runs(request.into_inner()).await;
        changed.map(Response::new)
    }

    async fn compare_shard_runs(
        &self,
        request: Request<CompareShardRunsRequest>,
    ) -> Result<Response<CompareRunsResponse>, Status> {
        let compared = self.compare_runs(request.into_inner()).await;
        compared.map(Response::new)
    }

    async fn flush_buffered_events(
        &self,
        request: Request<FlushBufferedEventsRequest>,
    ) -> Result<Response<FlushBufferedEventsResponse>, Status> {
        let flushed = self.flush_buffered(request.into_inner()).await;
        flushed.map(Response::new)
    }
}
