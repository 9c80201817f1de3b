//! Visibility reads.

use async_trait::async_trait;
use bytes::Bytes;
use proto_ids::{NamespaceId, RunId, ShardId, Timestamp};
use schema_store::{
    StoreError,
    visibility::{
        Position, VisibilityCount, VisibilityPage, VisibilityRecord, VisibilityStore,
        VisibilityWrite,
        query::{Query, Value},
    },
};
use sqlx::{AssertSqlSafe, Row};

use super::{Driver, DriverRow, Visibility, fail};
use crate::visibility_sql::{COLUMNS, Statement};

#[async_trait]
impl VisibilityStore for Visibility {
    async fn visibility_write(&self, writes: Vec<VisibilityWrite>) -> Result<(), StoreError> {
        self.write(writes).await
    }

    async fn visibility_list(
        &self,
        namespace_id: &NamespaceId,
        query: &Query,
        page_size: usize,
        after: Option<Bytes>,
    ) -> Result<VisibilityPage, StoreError> {
        query.check_list()?;
        let page_size = page_size.max(1);
        let after = after.as_deref().map(Position::decode).transpose()?;
        let statement = Statement::list(namespace_id.as_str(), query, page_size, after.as_ref());
        let mut records = Vec::new();
        for row in self.rows(statement).await? {
            records.push(record(namespace_id, &row).map_err(fail)?);
        }
        let more = records.len() > page_size;
        records.truncate(page_size);
        let next = records
            .last()
            .filter(|_| more)
            .map(|last| Position::of(last).encode());
        Ok(VisibilityPage { records, next })
    }

    async fn visibility_count(
        &self,
        namespace_id: &NamespaceId,
        query: &Query,
    ) -> Result<VisibilityCount, StoreError> {
        let mut count = VisibilityCount::default();
        for row in self
            .rows(Statement::count(namespace_id.as_str(), query))
            .await?
        {
            let status: i64 = row.try_get(0).map_err(fail)?;
            let runs: i64 = row.try_get(1).map_err(fail)?;
            count.total += runs;
            if query.group_by_status {
                count
                    .by_status
                    .insert(i32::try_from(status).unwrap_or_default(), runs);
            }
        }
        Ok(count)
    }

    async fn visibility_get(
        &self,
        namespace_id: &NamespaceId,
        run_id: &RunId,
    ) -> Result<Option<VisibilityRecord>, StoreError> {
        let sql =
            format!("SELECT {COLUMNS} FROM visibility WHERE namespace_id = $1 AND run_id = $2");
        let values =
            [namespace_id.as_str(), run_id.as_str()].map(|text| Value::Text(text.to_owned()));
        let statement = Statement {
            sql,
            values: values.into(),
        };
        let rows = self.rows(statement).await?;
        rows.first()
            .map(|row| record(namespace_id, row).map_err(fail))
            .transpose()
    }

    async fn visibility_is_complete(&self, shard: ShardId) -> Result<bool, StoreError> {
        self.is_complete(shard).await
    }

    async fn visibility_set_complete(&self, shard: ShardId) -> Result<(), StoreError> {
        self.set_complete(shard).await
    }
}

impl Visibility {
    /// Runs the statement. Filters differ too much to keep their plans.
    async fn rows(&self, statement: Statement) -> Result<Vec<DriverRow>, StoreError> {
        let mut conn = self.db.read().await?;
        // Only column names of our own are in the text; what the user wrote is bound.
        let mut query = sqlx::query::<Driver>(AssertSqlSafe(statement.sql)).persistent(false);
        for value in statement.values {
            query = match value {
                Value::Text(text) => query.bind(text),
                Value::Int(number) => query.bind(number),
            };
        }
        query.fetch_all(&mut *conn).await.map_err(fail)
    }
}

fn record(namespace_id: &NamespaceId, row: &DriverRow) -> Result<VisibilityRecord, sqlx::Error> {
    let text = |index: usize| row.try_get::<String, _>(index);
    let number = |index: usize| row.try_get::<i64, _>(index);
    let bytes = |index: usize| row.try_get::<Vec<u8>, _>(index).map(Bytes::from);
    let time = |index: usize| number(index).map(Timestamp::from_nanos);
    let close_key = number(8)?;
    Ok(VisibilityRecord {
        namespace_id: namespace_id.clone(),
        workflow_id: text(0)?.into(),
        run_id: text(1)?.into(),
        version: number(2)?,
        workflow_type: text(3)?,
        task_queue: text(4)?,
        status: i32::try_from(number(5)?).unwrap_or_default(),
        start_time: time(6)?,
        execution_time: time(7)?,
        close_time: if close_key == i64::MAX {
            Timestamp::ZERO
        } else {
            Timestamp::from_nanos(close_key)
        },
        history_length: number(9)?,
        history_size: number(10)?,
        state_transition_count: number(11)?,
        parent_workflow_id: text(12)?,
        parent_run_id: text(13)?,
        root_workflow_id: text(14)?,
        root_run_id: text(15)?,
        memo: bytes(16)?,
        search_attributes: bytes(17)?,
    })
}
