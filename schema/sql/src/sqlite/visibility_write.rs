//! Visibility writes: one call.

use proto_ids::ShardId;
use schema_store::{
    StoreError,
    visibility::{Position, VisibilityRecord, VisibilityWrite},
};

use super::{Visibility, fail, rows::Rows};
use crate::stats::Stats;

const WRITE: &str = "BEGIN IMMEDIATE;
    DELETE FROM visibility WHERE (namespace_id, run_id) IN (SELECT value->>0, value->>1 FROM jsonb_each($3));
    INSERT INTO visibility (namespace_id, run_id, version, workflow_id, workflow_type, task_queue, status,
            start_time, execution_time, close_key, history_length, history_size, state_transition_count,
            parent_workflow_id, parent_run_id, root_workflow_id, root_run_id, memo, search_attributes)
        SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, value->>7, value->>8,
            value->>9, value->>10, value->>11, value->>12, value->>13, value->>14, value->>15, value->>16,
            substr($2, value->>17, value->>18), substr($2, value->>19, value->>20)
            FROM jsonb_each($1) WHERE true
        ON CONFLICT DO UPDATE SET version = excluded.version, workflow_id = excluded.workflow_id,
            workflow_type = excluded.workflow_type, task_queue = excluded.task_queue, status = excluded.status,
            start_time = excluded.start_time, execution_time = excluded.execution_time,
            close_key = excluded.close_key, history_length = excluded.history_length,
            history_size = excluded.history_size, state_transition_count = excluded.state_transition_count,
            parent_workflow_id = excluded.parent_workflow_id, parent_run_id = excluded.parent_run_id,
            root_workflow_id = excluded.root_workflow_id, root_run_id = excluded.root_run_id,
            memo = excluded.memo, search_attributes = excluded.search_attributes
        WHERE excluded.version > visibility.version;
    COMMIT;";

impl Visibility {
    pub(super) async fn is_complete(&self, shard: ShardId) -> Result<bool, StoreError> {
        let mut conn = self.db.read().await?;
        let found = sqlx::query_as("SELECT count(*) FROM complete_shard WHERE shard_id = $1")
            .bind(i64::from(shard.get()))
            .fetch_one(&mut *conn);
        let (found,): (i64,) = found.await.map_err(fail)?;
        Ok(found > 0)
    }

    pub(super) async fn set_complete(&self, shard: ShardId) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        sqlx::query("INSERT INTO complete_shard (shard_id) VALUES ($1) ON CONFLICT DO NOTHING")
            .bind(i64::from(shard.get()))
            .execute(tx.conn())
            .await
            .map_err(fail)?;
        tx.commit().await
    }

    pub(super) async fn write(&self, writes: Vec<VisibilityWrite>) -> Result<(), StoreError> {
        let mut puts = Rows::new();
        let mut deletes = Rows::new();
        for write in &writes {
            match write {
                VisibilityWrite::Put(record) => put(&mut puts, record),
                VisibilityWrite::Delete {
                    namespace_id,
                    run_id,
                } => {
                    deletes
                        .row()
                        .text(namespace_id.as_str())
                        .text(run_id.as_str());
                }
            }
        }
        if puts.has_zero || deletes.has_zero {
            return Err(StoreError::Invalid(
                "a visibility record has a text with a zero byte".to_owned(),
            ));
        }
        let (json, bytes) = puts.finish();
        let query = sqlx::query(WRITE)
            .bind(json)
            .bind(bytes)
            .bind(deletes.finish().0);
        let mut writer = self.db.writer().await;
        writer.in_doubt = true;
        if let Err(error) = query.execute(&mut writer.conn).await {
            writer.roll_back().await;
            return Err(fail(error));
        }
        writer.in_doubt = false;
        Stats::add(&self.db.stats().transactions, 1);
        Stats::add(&self.db.stats().wal_syncs, 1);
        Ok(())
    }
}

fn put(rows: &mut Rows, record: &VisibilityRecord) {
    rows.row()
        .text(record.namespace_id.as_str())
        .text(record.run_id.as_str())
        .int(record.version)
        .text(record.workflow_id.as_str())
        .text(&record.workflow_type)
        .text(&record.task_queue)
        .int(i64::from(record.status))
        .int(record.start_time.nanos())
        .int(record.execution_time.nanos())
        .int(Position::of(record).close)
        .int(record.history_length)
        .int(record.history_size)
        .int(record.state_transition_count)
        .text(&record.parent_workflow_id)
        .text(&record.parent_run_id)
        .text(&record.root_workflow_id)
        .text(&record.root_run_id)
        .blob(&record.memo)
        .blob(&record.search_attributes);
}
