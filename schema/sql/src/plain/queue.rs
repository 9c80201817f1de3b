//! Durable queues. The queue's row gives the ids; who holds it appends, so that ids rise in commit order.

use async_trait::async_trait;
use bytes::Bytes;
use schema_store::{
    StoreError,
    queue::{Message, QueueInfo, QueueStore},
};

use super::{Backend, Connection, execution::limit_of, fail};

#[async_trait]
impl QueueStore for Backend {
    async fn queue_enqueue(&self, queue: &str, data: Bytes) -> Result<i64, StoreError> {
        let mut tx = self.db.begin().await?;
        let id = enqueue(tx.conn(), queue, &data).await?;
        tx.commit().await?;
        Ok(id)
    }

    async fn queue_read(
        &self,
        queue: &str,
        after: i64,
        limit: usize,
    ) -> Result<Vec<Message>, StoreError> {
        let mut conn = self.db.read().await?;
        let rows = sqlx::query_as(
            "SELECT id, data FROM queue_message WHERE queue = $1 AND id > $2 ORDER BY id LIMIT $3",
        )
        .bind(queue)
        .bind(after)
        .bind(limit_of(limit))
        .fetch_all(&mut *conn);
        let rows: Vec<(i64, Vec<u8>)> = rows.await.map_err(fail)?;
        let message = |(id, data): (i64, Vec<u8>)| Message {
            id,
            data: data.into(),
        };
        Ok(rows.into_iter().map(message).collect())
    }

    async fn queue_delete(&self, queue: &str, first: i64, last: i64) -> Result<i64, StoreError> {
        let mut tx = self.db.begin().await?;
        let gone =
            sqlx::query("DELETE FROM queue_message WHERE queue = $1 AND id >= $2 AND id <= $3")
                .bind(queue)
                .bind(first)
                .bind(last)
                .execute(tx.conn())
                .await
                .map_err(fail)?;
        tx.commit().await?;
        Ok(gone.rows_affected() as i64)
    }

    async fn queue_last_id(&self, queue: &str) -> Result<i64, StoreError> {
        let mut conn = self.db.read().await?;
        let row = sqlx::query_as("SELECT last_id FROM queue WHERE name = $1")
            .bind(queue)
            .fetch_optional(&mut *conn);
        let row: Option<(i64,)> = row.await.map_err(fail)?;
        Ok(row.map_or(0, |(last_id,)| last_id))
    }

    async fn queue_list(&self, prefix: &str) -> Result<Vec<QueueInfo>, StoreError> {
        let mut conn = self.db.read().await?;
        let rows = sqlx::query_as(
            "SELECT name, (SELECT count(*) FROM queue_message AS m WHERE m.queue = q.name), last_id
             FROM queue AS q WHERE substr(name, 1, length($1)) = $1 ORDER BY name",
        )
        .bind(prefix)
        .fetch_all(&mut *conn);
        let rows: Vec<(String, i64, i64)> = rows.await.map_err(fail)?;
        let info = |(name, len, last_id)| QueueInfo { name, len, last_id };
        Ok(rows.into_iter().map(info).collect())
    }

    async fn queue_ack_get(&self, queue: &str, consumer: &str) -> Result<Option<i64>, StoreError> {
        let mut conn = self.db.read().await?;
        let row = sqlx::query_as("SELECT id FROM queue_ack WHERE queue = $1 AND consumer = $2")
            .bind(queue)
            .bind(consumer)
            .fetch_optional(&mut *conn);
        let row: Option<(i64,)> = row.await.map_err(fail)?;
        Ok(row.map(|(id,)| id))
    }

    async fn queue_ack_set(&self, queue: &str, consumer: &str, id: i64) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        sqlx::query(
            "INSERT INTO queue_ack (queue, consumer, id) VALUES ($1, $2, $3)
             ON CONFLICT (queue, consumer) DO UPDATE SET id = excluded.id WHERE queue_ack.id < excluded.id",
        )
        .bind(queue)
        .bind(consumer)
        .bind(id)
        .execute(tx.conn())
        .await
        .map_err(fail)?;
        tx.commit().await
    }
}

/// Appends within a transaction; the message's id.
pub(super) async fn enqueue(
    conn: &mut Connection,
    queue: &str,
    data: &[u8],
) -> Result<i64, StoreError> {
    let row = sqlx::query_as(
        "INSERT INTO queue (name, last_id) VALUES ($1, 1)
         ON CONFLICT (name) DO UPDATE SET last_id = queue.last_id + 1 RETURNING last_id",
    )
    .bind(queue)
    .fetch_one(&mut *conn);
    let (id,): (i64,) = row.await.map_err(fail)?;
    sqlx::query("INSERT INTO queue_message (queue, id, data) VALUES ($1, $2, $3)")
        .bind(queue)
        .bind(id)
        .bind(data)
        .execute(conn)
        .await
        .map_err(fail)?;
    Ok(id)
}
