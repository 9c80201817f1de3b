//! Matching's backlog, apart from appends.

use async_trait::async_trait;
use proto_ids::{RangeId, TaskId};
use schema_store::{
    StoreError,
    task_queue::{
        BacklogAppend, BacklogTask, TaskQueueKey, TaskQueueRecord, TaskQueueStore, fenced,
    },
};

use super::{Backend, execution::limit_of, fail};

#[async_trait]
impl TaskQueueStore for Backend {
    async fn task_queue_acquire(&self, key: &TaskQueueKey) -> Result<TaskQueueRecord, StoreError> {
        let mut tx = self.db.begin().await?;
        let row = sqlx::query_as(
            "INSERT INTO task_queue (namespace_id, name, kind, range_id, ack) VALUES ($1, $2, $3, 1, 0)
             ON CONFLICT (namespace_id, name, kind) DO UPDATE SET range_id = task_queue.range_id + 1
             RETURNING range_id, ack",
        )
        .bind(key.namespace_id.as_str())
        .bind(&key.name)
        .bind(i64::from(key.kind))
        .fetch_one(tx.conn());
        let (range, ack): (i64, i64) = row.await.map_err(fail)?;
        tx.commit().await?;
        Ok(TaskQueueRecord {
            range: RangeId::new(range),
            ack: TaskId::new(ack),
        })
    }

    async fn task_queue_append(&self, appends: Vec<BacklogAppend>) -> Result<(), StoreError> {
        self.append(appends).await
    }

    async fn task_queue_read(
        &self,
        key: &TaskQueueKey,
        after: TaskId,
        limit: usize,
    ) -> Result<Vec<BacklogTask>, StoreError> {
        let mut conn = self.db.read().await?;
        let rows = sqlx::query_as(
            "SELECT task_id, data FROM backlog_task
             WHERE namespace_id = $1 AND name = $2 AND kind = $3 AND task_id > $4 ORDER BY task_id LIMIT $5",
        )
        .bind(key.namespace_id.as_str())
        .bind(&key.name)
        .bind(i64::from(key.kind))
        .bind(after.get())
        .bind(limit_of(limit))
        .fetch_all(&mut *conn);
        let rows: Vec<(i64, Vec<u8>)> = rows.await.map_err(fail)?;
        let task = |(task_id, data): (i64, Vec<u8>)| BacklogTask {
            task_id: TaskId::new(task_id),
            data: data.into(),
        };
        Ok(rows.into_iter().map(task).collect())
    }

    async fn task_queue_count(&self, key: &TaskQueueKey, after: TaskId) -> Result<i64, StoreError> {
        let mut conn = self.db.read().await?;
        let row = sqlx::query_as(
            "SELECT count(*) FROM backlog_task
             WHERE namespace_id = $1 AND name = $2 AND kind = $3 AND task_id > $4",
        )
        .bind(key.namespace_id.as_str())
        .bind(&key.name)
        .bind(i64::from(key.kind))
        .bind(after.get())
        .fetch_one(&mut *conn);
        let (count,): (i64,) = row.await.map_err(fail)?;
        Ok(count)
    }

    async fn task_queue_ack(
        &self,
        key: &TaskQueueKey,
        range: RangeId,
        ack: TaskId,
    ) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        let held = sqlx::query(
            "UPDATE task_queue SET ack = CASE WHEN ack < $5 THEN $5 ELSE ack END
             WHERE namespace_id = $1 AND name = $2 AND kind = $3 AND range_id = $4",
        )
        .bind(key.namespace_id.as_str())
        .bind(&key.name)
        .bind(i64::from(key.kind))
        .bind(range.get())
        .bind(ack.get())
        .execute(tx.conn())
        .await
        .map_err(fail)?;
        if held.rows_affected() == 0 {
            return Err(fenced(key, range));
        }
        sqlx::query("DELETE FROM backlog_task WHERE namespace_id = $1 AND name = $2 AND kind = $3 AND task_id <= $4")
            .bind(key.namespace_id.as_str())
            .bind(&key.name)
            .bind(i64::from(key.kind))
            .bind(ack.get())
            .execute(tx.conn())
            .await
            .map_err(fail)?;
        tx.commit().await
    }
}
