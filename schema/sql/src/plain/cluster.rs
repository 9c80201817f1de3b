//! Cluster and member rows.

use async_trait::async_trait;
use proto_ids::{ClusterName, Timestamp};
use schema_store::{
    StoreError,
    cluster::{ClusterRecord, ClusterStore, MemberRecord, moved},
};

use super::{Backend, fail};

const INSERT: &str = "INSERT INTO cluster (name, data, version) VALUES ($1, $2, $3 + 1) ON CONFLICT (name) DO NOTHING";
const UPDATE: &str =
    "UPDATE cluster SET data = $2, version = version + 1 WHERE name = $1 AND version = $3";

#[async_trait]
impl ClusterStore for Backend {
    async fn cluster_list(&self) -> Result<Vec<ClusterRecord>, StoreError> {
        let mut conn = self.db.read().await?;
        let rows = sqlx::query_as("SELECT name, data, version FROM cluster ORDER BY name")
            .fetch_all(&mut *conn);
        let rows: Vec<(String, Vec<u8>, i64)> = rows.await.map_err(fail)?;
        let record = |(name, data, version): (String, Vec<u8>, i64)| ClusterRecord {
            name: name.into(),
            data: data.into(),
            version,
        };
        Ok(rows.into_iter().map(record).collect())
    }

    async fn cluster_put(&self, record: ClusterRecord) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        let sql = if record.version == 0 { INSERT } else { UPDATE };
        let written = sqlx::query(sql)
            .bind(record.name.as_str())
            .bind(&record.data[..])
            .bind(record.version)
            .execute(tx.conn())
            .await
            .map_err(fail)?;
        if written.rows_affected() == 0 {
            return Err(moved(&record));
        }
        tx.commit().await
    }

    async fn cluster_delete(&self, name: &ClusterName) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        sqlx::query("DELETE FROM cluster WHERE name = $1")
            .bind(name.as_str())
            .execute(tx.conn())
            .await
            .map_err(fail)?;
        tx.commit().await
    }

    async fn member_put(&self, record: MemberRecord) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        sqlx::query(
            "INSERT INTO member (id, data, seen_at) VALUES ($1, $2, $3)
             ON CONFLICT (id) DO UPDATE SET data = excluded.data, seen_at = excluded.seen_at",
        )
        .bind(&record.id)
        .bind(&record.data[..])
        .bind(record.seen_at.nanos())
        .execute(tx.conn())
        .await
        .map_err(fail)?;
        tx.commit().await
    }

    async fn member_list(&self, since: Timestamp) -> Result<Vec<MemberRecord>, StoreError> {
        let mut tx = self.db.begin().await?;
        sqlx::query("DELETE FROM member WHERE seen_at < $1")
            .bind(since.nanos())
            .execute(tx.conn())
            .await
            .map_err(fail)?;
        let rows =
            sqlx::query_as("SELECT id, data, seen_at FROM member ORDER BY id").fetch_all(tx.conn());
        let rows: Vec<(String, Vec<u8>, i64)> = rows.await.map_err(fail)?;
        tx.commit().await?;
        let record = |(id, data, seen_at): (String, Vec<u8>, i64)| MemberRecord {
            id,
            data: data.into(),
            seen_at: Timestamp::from_nanos(seen_at),
        };
        Ok(rows.into_iter().map(record).collect())
    }

    async fn member_delete(&self, id: &str) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        sqlx::query("DELETE FROM member WHERE id = $1")
            .bind(id)
            .execute(tx.conn())
            .await
            .map_err(fail)?;
        tx.commit().await
    }

    async fn cluster_restored(&self) -> Result<bool, StoreError> {
        self.read_restored().await
    }

    async fn cluster_restored_settle(&self) -> Result<(), StoreError> {
        self.settle_restored().await
    }
}
