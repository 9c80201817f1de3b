//! Namespace rows. A transaction that raises the counter holds its row until its end, so that writes
//! follow each other; a writer whose counter moved rolls back what it wrote.

use async_trait::async_trait;
use proto_ids::{NamespaceId, NamespaceName};
use schema_store::{
    StoreError,
    namespace::{NamespaceRecord, NamespaceStore, QueueMessage, conflict},
};

use super::{Backend, Connection, execution::limit_of, fail, queue::enqueue};

type Row = (String, String, Vec<u8>, i64);

const INSERT: &str =
    "INSERT INTO namespace (id, name, data, notification_version) VALUES ($1, $2, $3, $4)";
const UPDATE: &str =
    "UPDATE namespace SET name = $2, data = $3, notification_version = $4 WHERE id = $1";

#[async_trait]
impl NamespaceStore for Backend {
    async fn namespace_version(&self) -> Result<i64, StoreError> {
        let mut conn = self.db.read().await?;
        let row = sqlx::query_as("SELECT version FROM namespace_counter WHERE id = 1")
            .fetch_one(&mut *conn);
        let (version,): (i64,) = row.await.map_err(fail)?;
        Ok(version)
    }

    async fn namespace_create(
        &self,
        record: NamespaceRecord,
        version: i64,
        message: Option<QueueMessage>,
    ) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        let counter = raise(tx.conn(), version).await;
        if by_id(tx.conn(), &record.id).await?.is_some() {
            return Err(conflict::id_taken(&record.id));
        }
        write(tx.conn(), INSERT, counter, &record, version, message).await?;
        tx.commit().await
    }

    async fn namespace_update(
        &self,
        record: NamespaceRecord,
        version: i64,
        message: Option<QueueMessage>,
    ) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        let counter = raise(tx.conn(), version).await;
        if by_id(tx.conn(), &record.id).await?.is_none() {
            return Err(conflict::not_found(&record.id));
        }
        write(tx.conn(), UPDATE, counter, &record, version, message).await?;
        tx.commit().await
    }

    async fn namespace_get(&self, id: &NamespaceId) -> Result<Option<NamespaceRecord>, StoreError> {
        let mut conn = self.db.read().await?;
        by_id(&mut conn, id).await
    }

    async fn namespace_get_by_name(
        &self,
        name: &NamespaceName,
    ) -> Result<Option<NamespaceRecord>, StoreError> {
        let mut conn = self.db.read().await?;
        by_name(&mut conn, name).await
    }

    async fn namespace_list(
        &self,
        after: Option<NamespaceName>,
        limit: usize,
    ) -> Result<Vec<NamespaceRecord>, StoreError> {
        let mut conn = self.db.read().await?;
        let rows = sqlx::query_as(
            "SELECT id, name, data, notification_version FROM namespace WHERE name > $1 ORDER BY name LIMIT $2",
        )
        .bind(after.unwrap_or_default().as_str().to_owned())
        .bind(limit_of(limit))
        .fetch_all(&mut *conn);
        let rows: Vec<Row> = rows.await.map_err(fail)?;
        Ok(rows.into_iter().map(record).collect())
    }

    async fn namespace_delete(&self, id: &NamespaceId) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        sqlx::query("UPDATE namespace_counter SET version = version + 1 WHERE id = 1")
            .execute(tx.conn())
            .await
            .map_err(fail)?;
        let gone = sqlx::query("DELETE FROM namespace WHERE id = $1")
            .bind(id.as_str())
            .execute(tx.conn())
            .await
            .map_err(fail)?;
        if gone.rows_affected() == 0 {
            return Ok(());
        }
        tx.commit().await
    }
}

fn record((id, name, data, notification_version): Row) -> NamespaceRecord {
    NamespaceRecord {
        id: id.into(),
        name: name.into(),
        data: data.into(),
        notification_version,
    }
}

/// Raises the counter from `version`; whether it was there.
async fn raise(conn: &mut Connection, version: i64) -> Result<bool, StoreError> {
    let raised = sqlx::query(
        "UPDATE namespace_counter SET version = version + 1 WHERE id = 1 AND version = $1",
    )
    .bind(version)
    .execute(conn)
    .await
    .map_err(fail)?;
    Ok(raised.rows_affected() == 1)
}

async fn by_id(
    conn: &mut Connection,
    id: &NamespaceId,
) -> Result<Option<NamespaceRecord>, StoreError> {
    let row =
        sqlx::query_as("SELECT id, name, data, notification_version FROM namespace WHERE id = $1")
            .bind(id.as_str())
            .fetch_optional(conn);
    let row: Option<Row> = row.await.map_err(fail)?;
    Ok(row.map(record))
}

async fn by_name(
    conn: &mut Connection,
    name: &NamespaceName,
) -> Result<Option<NamespaceRecord>, StoreError> {
    let row = sqlx::query_as(
        "SELECT id, name, data, notification_version FROM namespace WHERE name = $1",
    )
    .bind(name.as_str())
    .fetch_optional(conn);
    let row: Option<Row> = row.await.map_err(fail)?;
    Ok(row.map(record))
}

/// The rest of a write: what is taken is told before a moved counter, since trying again would not help.
async fn write(
    conn: &mut Connection,
    sql: &'static str,
    counter: Result<bool, StoreError>,
    record: &NamespaceRecord,
    version: i64,
    message: Option<QueueMessage>,
) -> Result<(), StoreError> {
    let holder = by_name(conn, &record.name).await?;
    if holder.is_some_and(|holder| holder.id != record.id) {
        return Err(conflict::name_taken(&record.name));
    }
    if !counter? {
        return Err(conflict::counter_moved(version));
    }
    sqlx::query(sql)
        .bind(record.id.as_str())
        .bind(record.name.as_str())
        .bind(&record.data[..])
        .bind(version)
        .execute(&mut *conn)
        .await
        .map_err(fail)?;
    if let Some(message) = message {
        enqueue(conn, &message.queue, &message.data).await?;
    }
    Ok(())
}
