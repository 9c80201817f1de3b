//! Reads of runs, pointers, outbox and timers.

use proto_ids::{RunId, RunKey, ShardId, TaskId, Timestamp};
use schema_store::{
    StoreError,
    execution::{CurrentRecord, ItemRowKey, LANE_COMMITS_KEPT, OutboxRow, RunRecord, TimerRow},
};

use super::{Backend, fail};

/// A row of the run's one query: the run itself first (kind null), then items in key order.
type Part = (Option<i64>, String, Option<i64>, Vec<u8>, Option<Vec<u8>>);

impl Backend {
    pub(super) async fn read_commit_happened(
        &self,
        lane: &str,
        seq: i64,
    ) -> Result<bool, StoreError> {
        let mut conn = self.db.read().await?;
        let row = sqlx::query_as("SELECT seq FROM lane_commit WHERE lane = $1 AND slot = $2")
            .bind(lane)
            .bind(seq.rem_euclid(LANE_COMMITS_KEPT))
            .fetch_optional(&mut *conn);
        let row: Option<(i64,)> = row.await.map_err(fail)?;
        Ok(row == Some((seq,)))
    }

    pub(super) async fn read_run(
        &self,
        shard: ShardId,
        key: &RunKey,
    ) -> Result<Option<RunRecord>, StoreError> {
        let mut conn = self.db.read().await?;
        let rows = sqlx::query_as(
            "SELECT CAST(NULL AS BIGINT) AS kind, '' AS id, version, hot, start FROM run
             WHERE shard_id = $1 AND namespace_id = $2 AND workflow_id = $3 AND run_id = $4
             UNION ALL
             SELECT kind, id, NULL, value, NULL FROM run_item
             WHERE shard_id = $1 AND namespace_id = $2 AND workflow_id = $3 AND run_id = $4",
        )
        .bind(i64::from(shard.get()))
        .bind(key.namespace_id.as_str())
        .bind(key.workflow_id.as_str())
        .bind(key.run_id.as_str())
        .fetch_all(&mut *conn);
        let rows: Vec<Part> = rows.await.map_err(fail)?;
        let mut run = None;
        let mut items = Vec::with_capacity(rows.len());
        for (kind, id, version, value, start) in rows {
            match (kind, version) {
                (Some(kind), _) => {
                    let kind = i16::try_from(kind).map_err(|_| {
                        StoreError::Corrupt(format!("run {key} has an item of kind {kind}"))
                    })?;
                    items.push((ItemRowKey { kind, id }, value.into()));
                }
                (None, Some(version)) => run = Some((version, value, start.unwrap_or_default())),
                (None, None) => {}
            }
        }
        items.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(run.map(|(version, hot, start)| RunRecord {
            version,
            hot: hot.into(),
            start: start.into(),
            items,
        }))
    }

    pub(super) async fn read_outbox(
        &self,
        shard: ShardId,
        after: TaskId,
        limit: usize,
    ) -> Result<Vec<OutboxRow>, StoreError> {
        let mut conn = self.db.read().await?;
        let rows = sqlx::query_as(
            "SELECT first_task_id, last_task_id, data FROM outbox WHERE shard_id = $1 AND last_task_id > $2
             ORDER BY last_task_id LIMIT $3",
        )
        .bind(i64::from(shard.get()))
        .bind(after.get())
        .bind(limit_of(limit))
        .fetch_all(&mut *conn);
        let rows: Vec<(i64, i64, Vec<u8>)> = rows.await.map_err(fail)?;
        let row = |(first, last, data): (i64, i64, Vec<u8>)| OutboxRow {
            first_task_id: TaskId::new(first),
            last_task_id: TaskId::new(last),
            data: data.into(),
        };
        Ok(rows.into_iter().map(row).collect())
    }

    pub(super) async fn read_timers(
        &self,
        shard: ShardId,
        after: (Timestamp, TaskId),
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<TimerRow>, StoreError> {
        let mut conn = self.db.read().await?;
        let rows = sqlx::query_as(
            "SELECT fire_at, task_id, data FROM timer
             WHERE shard_id = $1 AND (fire_at, task_id) > ($2, $3) AND fire_at <= $4
             ORDER BY fire_at, task_id LIMIT $5",
        )
        .bind(i64::from(shard.get()))
        .bind(after.0.nanos())
        .bind(after.1.get())
        .bind(until.nanos())
        .bind(limit_of(limit))
        .fetch_all(&mut *conn);
        let rows: Vec<(i64, i64, Vec<u8>)> = rows.await.map_err(fail)?;
        let row = |(fire_at, task_id, data): (i64, i64, Vec<u8>)| TimerRow {
            fire_at: Timestamp::from_nanos(fire_at),
            task_id: TaskId::new(task_id),
            data: data.into(),
        };
        Ok(rows.into_iter().map(row).collect())
    }

    pub(super) async fn read_runs(
        &self,
        shard: ShardId,
        after: Option<RunKey>,
        limit: usize,
    ) -> Result<Vec<RunKey>, StoreError> {
        let after = after.unwrap_or_default();
        let mut conn = self.db.read().await?;
        let rows = sqlx::query_as(
            "SELECT namespace_id, workflow_id, run_id FROM run
             WHERE shard_id = $1 AND (run_id, namespace_id, workflow_id) > ($2, $3, $4)
             ORDER BY run_id, namespace_id, workflow_id LIMIT $5",
        )
        .bind(i64::from(shard.get()))
        .bind(after.run_id.as_str())
        .bind(after.namespace_id.as_str())
        .bind(after.workflow_id.as_str())
        .bind(limit_of(limit))
        .fetch_all(&mut *conn);
        let rows: Vec<(String, String, String)> = rows.await.map_err(fail)?;
        Ok(rows
            .into_iter()
            .map(|(namespace, workflow, run)| RunKey::new(namespace, workflow, run))
            .collect())
    }
}

/// A stored pointer without its key.
pub(super) type PointerRow = (String, String, i64, i64, i64, String);

/// The pointer that a row holds.
pub(super) fn pointer_of(row: PointerRow) -> Result<CurrentRecord, StoreError> {
    let (run_id, request_id, status, last_write_version, start_time, first_run_id) = row;
    Ok(CurrentRecord {
        run_id: RunId::from(run_id),
        request_id,
        status: i32::try_from(status)
            .map_err(|_| StoreError::Corrupt(format!("status {status} of a pointer")))?,
        last_write_version,
        start_time: Timestamp::from_nanos(start_time),
        first_run_id: RunId::from(first_run_id),
    })
}

/// A limit as the databases take it.
pub(super) fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
