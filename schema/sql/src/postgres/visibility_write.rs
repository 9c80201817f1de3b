//! Visibility writes: one statement.

use proto_ids::ShardId;
use schema_store::{
    StoreError,
    visibility::{Position, VisibilityRecord, VisibilityWrite},
};

use super::{Visibility, fail, is_in_doubt};
use crate::stats::Stats;

const WRITE: &str = "WITH gone AS (
        DELETE FROM visibility AS v USING unnest($20::TEXT[], $21::TEXT[]) AS d (namespace_id, run_id)
            WHERE v.namespace_id = d.namespace_id AND v.run_id = d.run_id
    )
    INSERT INTO visibility AS v (namespace_id, run_id, version, workflow_id, workflow_type, task_queue, status,
            start_time, execution_time, close_key, history_length, history_size, state_transition_count,
            parent_workflow_id, parent_run_id, root_workflow_id, root_run_id, memo, search_attributes)
        SELECT * FROM unnest($1::TEXT[], $2::TEXT[], $3::BIGINT[], $4::TEXT[], $5::TEXT[], $6::TEXT[],
            $7::BIGINT[], $8::BIGINT[], $9::BIGINT[], $10::BIGINT[], $11::BIGINT[], $12::BIGINT[], $13::BIGINT[],
            $14::TEXT[], $15::TEXT[], $16::TEXT[], $17::TEXT[], $18::BYTEA[], $19::BYTEA[])
        ON CONFLICT (namespace_id, run_id) DO UPDATE SET version = excluded.version,
            workflow_id = excluded.workflow_id, workflow_type = excluded.workflow_type,
            task_queue = excluded.task_queue, status = excluded.status, start_time = excluded.start_time,
            execution_time = excluded.execution_time, close_key = excluded.close_key,
            history_length = excluded.history_length, history_size = excluded.history_size,
            state_transition_count = excluded.state_transition_count,
            parent_workflow_id = excluded.parent_workflow_id, parent_run_id = excluded.parent_run_id,
            root_workflow_id = excluded.root_workflow_id, root_run_id = excluded.root_run_id,
            memo = excluded.memo, search_attributes = excluded.search_attributes
        WHERE excluded.version > v.version";

impl Visibility {
    /// Rows lie in the database of the runs and are not lost apart from them.
    pub(super) async fn is_complete(&self, _shard: ShardId) -> Result<bool, StoreError> {
        Ok(true)
    }

    pub(super) async fn set_complete(&self, _shard: ShardId) -> Result<(), StoreError> {
        Ok(())
    }

    pub(super) async fn write(&self, writes: Vec<VisibilityWrite>) -> Result<(), StoreError> {
        let mut puts: Vec<&VisibilityRecord> = Vec::with_capacity(writes.len());
        let mut gone_namespace = Vec::new();
        let mut gone_run = Vec::new();
        for write in &writes {
            match write {
                VisibilityWrite::Put(record) => puts.push(record),
                VisibilityWrite::Delete {
                    namespace_id,
                    run_id,
                } => {
                    gone_namespace.push(namespace_id.as_str());
                    gone_run.push(run_id.as_str());
                }
            }
        }
        // Transactions that write the same rows in one order do not deadlock.
        puts.sort_by(|a, b| (&a.namespace_id, &a.run_id).cmp(&(&b.namespace_id, &b.run_id)));
        let texts = |of: fn(&VisibilityRecord) -> &str| {
            puts.iter().map(|record| of(record)).collect::<Vec<_>>()
        };
        let numbers = |of: fn(&VisibilityRecord) -> i64| {
            puts.iter().map(|record| of(record)).collect::<Vec<_>>()
        };
        let blobs = |of: fn(&VisibilityRecord) -> &[u8]| {
            puts.iter().map(|record| of(record)).collect::<Vec<_>>()
        };
        let mut conn = self.db.read().await?;
        let written = sqlx::query(WRITE)
            .bind(texts(|r| r.namespace_id.as_str()))
            .bind(texts(|r| r.run_id.as_str()))
            .bind(numbers(|r| r.version))
            .bind(texts(|r| r.workflow_id.as_str()))
            .bind(texts(|r| &r.workflow_type))
            .bind(texts(|r| &r.task_queue))
            .bind(numbers(|r| i64::from(r.status)))
            .bind(numbers(|r| r.start_time.nanos()))
            .bind(numbers(|r| r.execution_time.nanos()))
            .bind(numbers(|r| Position::of(r).close))
            .bind(numbers(|r| r.history_length))
            .bind(numbers(|r| r.history_size))
            .bind(numbers(|r| r.state_transition_count))
            .bind(texts(|r| &r.parent_workflow_id))
            .bind(texts(|r| &r.parent_run_id))
            .bind(texts(|r| &r.root_workflow_id))
            .bind(texts(|r| &r.root_run_id))
            .bind(blobs(|r| &r.memo))
            .bind(blobs(|r| &r.search_attributes))
            .bind(gone_namespace)
            .bind(gone_run)
            .execute(&mut *conn)
            .await;
        match written {
            Ok(_) => {
                Stats::add(&self.db.stats().transactions, 1);
                Ok(())
            }
            Err(error) if is_in_doubt(&error) => Err(StoreError::Unknown(error.to_string())),
            Err(error) => Err(fail(error)),
        }
    }
}
