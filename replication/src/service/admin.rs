//! The shard-bound part of the admin service.

use std::sync::Arc;

use cluster_rpc::status as statuses;
use proto_ids::TaskId;
use proto_messages::{
    temporal::server::api::{
        adminservice::v1::*,
        enums::v1::TaskType,
        persistence::v1::{
            QueueReaderState, QueueSliceRange, QueueSliceScope, QueueState, ShardInfo, TaskKey,
        },
    },
    time,
};
use proto_services::temporal::server::api::adminservice::v1::admin_service_server::AdminService;
use tonic::{Request, Response, Status, Streaming, codegen::BoxStream};

use super::ReplicationHost;
use crate::{
    apply::status,
    dead_letters::CATEGORY,
    route::{End, StreamKey},
    sender::ShardSource,
};

#[tonic::async_trait]
impl AdminService for ReplicationHost {
    async fn stream_workflow_replication_messages(
        &self,
        request: Request<Streaming<StreamWorkflowReplicationMessagesRequest>>,
    ) -> Result<Response<BoxStream<StreamWorkflowReplicationMessagesResponse>>, Status> {
        let key = StreamKey::from_headers(request.metadata())?;
        let peer = self.peer(&key, request.metadata()).await?;
        let shard = self.shard(key.server.shard.get()).await?;
        let registry = self.deps.registry.clone();
        let source = Arc::new(ShardSource::new(shard, registry, self.aside.clone()));
        Ok(Response::new(self.senders.open(
            key,
            peer,
            source,
            request.into_inner(),
        )))
    }

    async fn get_workflow_execution_raw_history_v2(
        &self,
        request: Request<GetWorkflowExecutionRawHistoryV2Request>,
    ) -> Result<Response<GetWorkflowExecutionRawHistoryV2Response>, Status> {
        self.raw_history_v2(request.into_inner())
            .await
            .map(Response::new)
    }

    async fn get_workflow_execution_raw_history(
        &self,
        request: Request<GetWorkflowExecutionRawHistoryRequest>,
    ) -> Result<Response<GetWorkflowExecutionRawHistoryResponse>, Status> {
        self.raw_history(request.into_inner())
            .await
            .map(Response::new)
    }

    async fn sync_workflow_state(
        &self,
        _: Request<SyncWorkflowStateRequest>,
    ) -> Result<Response<SyncWorkflowStateResponse>, Status> {
        // Without details: a peer then asks for the equivalent tasks instead.
        Err(statuses::failed_precondition(
            "state based replication is not enabled",
        ))
    }

    async fn add_tasks(
        &self,
        request: Request<AddTasksRequest>,
    ) -> Result<Response<AddTasksResponse>, Status> {
        self.add(request.into_inner()).await?;
        Ok(Response::new(AddTasksResponse {}))
    }

    async fn reapply_events(
        &self,
        request: Request<ReapplyEventsRequest>,
    ) -> Result<Response<ReapplyEventsResponse>, Status> {
        ReplicationHost::reapply_events(self, request.into_inner()).await?;
        Ok(Response::new(ReapplyEventsResponse {}))
    }

    async fn describe_mutable_state(
        &self,
        request: Request<DescribeMutableStateRequest>,
    ) -> Result<Response<DescribeMutableStateResponse>, Status> {
        self.mutable_state(request.into_inner())
            .await
            .map(Response::new)
    }

    async fn refresh_workflow_tasks(
        &self,
        request: Request<RefreshWorkflowTasksRequest>,
    ) -> Result<Response<RefreshWorkflowTasksResponse>, Status> {
        self.refresh_tasks(request.into_inner()).await?;
        Ok(Response::new(RefreshWorkflowTasksResponse {}))
    }

    async fn generate_last_history_replication_tasks(
        &self,
        request: Request<GenerateLastHistoryReplicationTasksRequest>,
    ) -> Result<Response<GenerateLastHistoryReplicationTasksResponse>, Status> {
        self.send_again(request.into_inner())
            .await
            .map(Response::new)
    }

    async fn get_shard(
        &self,
        request: Request<GetShardRequest>,
    ) -> Result<Response<GetShardResponse>, Status> {
        let shard = self.shard(request.into_inner().shard_id).await?;
        let mut reader_states = std::collections::HashMap::new();
        for remote in self.deps.clusters.remotes() {
            for (remote_shard, stands) in
                shard.replication_readers_of(&remote.name, remote.shard_count)
            {
                if !stands.connected {
                    continue;
                }
                let reader = StreamKey {
                    client: End {
                        cluster: i32::try_from(remote.initial_failover_version).unwrap_or(0),
                        shard: remote_shard,
                    },
                    server: End {
                        cluster: 0,
                        shard: shard.id(),
                    },
                };
                reader_states.insert(reader.reader_id(), reader_state(stands.acked));
            }
        }
        let end = *shard.replication_watermark().borrow();
        let replication = QueueState {
            reader_states,
            exclusive_reader_high_watermark: Some(task_key(end)),
        };
        let info = ShardInfo {
            shard_id: shard.id().get(),
            range_id: shard.range().get(),
            owner: self.deps.address.clone(),
            update_time: Some(time::to_proto(self.now())),
            queue_states: [(CATEGORY, replication)].into(),
            ..ShardInfo::default()
        };
        Ok(Response::new(GetShardResponse {
            shard_info: Some(info),
        }))
    }

    async fn list_history_tasks(
        &self,
        request: Request<ListHistoryTasksRequest>,
    ) -> Result<Response<ListHistoryTasksResponse>, Status> {
        let request = request.into_inner();
        if request.category != CATEGORY {
            return Err(statuses::unimplemented(
                "only the replication queue can be listed",
            ));
        }
        let shard = self.shard(request.shard_id).await?;
        let range = request.task_range.unwrap_or_default();
        let from = range.inclusive_min_task_key.map_or(0, |key| key.task_id);
        let until = range
            .exclusive_max_task_key
            .map_or(i64::MAX, |key| key.task_id);
        let from = match <[u8; 8]>::try_from(request.next_page_token.as_ref()) {
            Ok(token) => i64::from_be_bytes(token),
            Err(_) => from,
        };
        let limit = usize::try_from(request.batch_size)
            .unwrap_or(0)
            .clamp(1, 1_000);
        let read = shard
            .replication_read(TaskId::new(from), TaskId::new(until), limit)
            .await;
        let rows = read.map_err(status::shard)?;
        let next = match rows.last() {
            Some(last) if rows.len() == limit => last.task_id.next().get().to_be_bytes().to_vec(),
            _ => Vec::new(),
        };
        let tasks = rows
            .into_iter()
            .map(|row| Task {
                namespace_id: row.run.namespace_id.to_string(),
                workflow_id: row.run.workflow_id.to_string(),
                run_id: row.run.run_id.to_string(),
                task_id: row.task_id.get(),
                task_type: task_type(&row.task.kind) as i32,
                fire_time: Some(time::to_proto(row.at)),
                version: row.task.version.get(),
            })
            .collect();
        Ok(Response::new(ListHistoryTasksResponse {
            tasks,
            next_page_token: next.into(),
        }))
    }
}

fn task_key(id: TaskId) -> TaskKey {
    TaskKey {
        task_id: id.get(),
        ..TaskKey::default()
    }
}

fn reader_state(acked: TaskId) -> QueueReaderState {
    let range = QueueSliceRange {
        inclusive_min: Some(task_key(acked)),
        exclusive_max: Some(task_key(TaskId::new(i64::MAX))),
    };
    QueueReaderState {
        scopes: vec![QueueSliceScope { range: Some(range) }],
    }
}

fn task_type(kind: &cluster_core::TaskKind) -> TaskType {
    use cluster_core::TaskKind as Kind;
    match kind {
        Kind::ReplicateHistory { .. } => TaskType::ReplicationHistory,
        Kind::SyncActivity { .. } => TaskType::ReplicationSyncActivity,
        Kind::SyncWorkflowState => TaskType::ReplicationSyncWorkflowState,
        Kind::ReplicateDelete => TaskType::ReplicationDeleteExecution,
        _ => TaskType::Unspecified,
    }
}
