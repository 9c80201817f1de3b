//! Calls of operators.

use proto_messages::meridian::history::v1::{
    DescribeShardsRequest, DescribeShardsResponse, Empty, RebuildTasksRequest,
    describe_shards_response,
};
use tonic::Status;

use cluster_shard::{Shard, Txn};

use crate::{
    api,
    engine::Engine,
    error::{self, HistoryError},
};

/// The shards this process owns.
pub async fn describe_shards(
    engine: &Engine,
    _: DescribeShardsRequest,
) -> Result<DescribeShardsResponse, Status> {
    let owned = engine.deps.shards.owned();
    Ok(DescribeShardsResponse {
        shards: owned.iter().map(describe).collect(),
    })
}

fn describe(shard: &Shard) -> describe_shards_response::Shard {
    describe_shards_response::Shard {
        shard_id: shard.id().get(),
        range_id: shard.range().get(),
        replication_max_task_id: shard.replication_watermark().borrow().get() - 1,
        ..Default::default()
    }
}

/// Makes every task the run owes again, from its state alone.
pub async fn rebuild_tasks(engine: &Engine, request: RebuildTasksRequest) -> Result<Empty, Status> {
    let key = api::run_key(&request.namespace_id, request.execution.as_ref())?;
    let shard = engine.shard_of(&key).await?;
    let rebuild = async |txn: &mut Txn| -> Result<(), HistoryError> {
        let run_id = match key.run_id.is_empty() {
            true => txn.current().await?.ok_or(HistoryError::NoRun)?.run_id,
            false => key.run_id.clone(),
        };
        let context = txn.decision_context();
        let ms = txn.peek(&run_id).await?.ok_or(HistoryError::NoRun)?;
        let tasks = ms.pending_tasks(context.borrowed().limits);
        txn.add_tasks(&run_id, tasks)?;
        Ok(())
    };
    let done = shard
        .transact(&key.namespace_id, &key.workflow_id, rebuild)
        .await;
    done.map_err(|e| error::status(e.into(), &key))?;
    Ok(Empty {})
}
