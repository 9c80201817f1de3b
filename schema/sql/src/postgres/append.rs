//! Appends to task queues: one statement, which writes all or, when a fence is old, nothing. The share lock on
//! the queue's row makes an acquisition wait for it.

use schema_store::{
    StoreError,
    task_queue::{BacklogAppend, fenced},
};

use super::{Backend, fail, is_in_doubt};
use crate::stats::Stats;

const APPEND: &str = "WITH wanted AS (
        SELECT * FROM unnest($1::TEXT[], $2::TEXT[], $3::BIGINT[], $4::BIGINT[])
            AS w (namespace_id, name, kind, range_id)
    ), held AS (
        SELECT q.namespace_id, q.name, q.kind, q.range_id FROM wanted AS w JOIN task_queue AS q
            ON q.namespace_id = w.namespace_id AND q.name = w.name AND q.kind = w.kind AND q.range_id = w.range_id
            ORDER BY 1, 2, 3 FOR SHARE OF q
    ), lost AS (
        SELECT 1 FROM wanted AS w WHERE NOT EXISTS (
            SELECT 1 FROM held AS h WHERE h.namespace_id = w.namespace_id AND h.name = w.name AND h.kind = w.kind
                AND h.range_id = w.range_id)
    )
    INSERT INTO backlog_task (namespace_id, name, kind, task_id, data)
        SELECT t.* FROM unnest($5::TEXT[], $6::TEXT[], $7::BIGINT[], $8::BIGINT[], $9::BYTEA[])
            AS t (namespace_id, name, kind, task_id, data)
        WHERE NOT EXISTS (SELECT 1 FROM lost)
        ON CONFLICT (namespace_id, name, kind, task_id) DO UPDATE SET data = excluded.data";

impl Backend {
    pub(super) async fn append(&self, appends: Vec<BacklogAppend>) -> Result<(), StoreError> {
        let keys = || appends.iter().map(|append| &append.key);
        let tasks = || {
            appends
                .iter()
                .flat_map(|append| append.tasks.iter().map(|task| (&append.key, task)))
        };
        let count = tasks().count() as u64;
        let mut conn = self.db.read().await?;
        let written = sqlx::query(APPEND)
            .bind(
                keys()
                    .map(|key| key.namespace_id.as_str())
                    .collect::<Vec<_>>(),
            )
            .bind(keys().map(|key| key.name.as_str()).collect::<Vec<_>>())
            .bind(keys().map(|key| i64::from(key.kind)).collect::<Vec<_>>())
            .bind(
                appends
                    .iter()
                    .map(|append| append.range.get())
                    .collect::<Vec<_>>(),
            )
            .bind(
                tasks()
                    .map(|(key, _)| key.namespace_id.as_str())
                    .collect::<Vec<_>>(),
            )
            .bind(
                tasks()
                    .map(|(key, _)| key.name.as_str())
                    .collect::<Vec<_>>(),
            )
            .bind(
                tasks()
                    .map(|(key, _)| i64::from(key.kind))
                    .collect::<Vec<_>>(),
            )
            .bind(
                tasks()
                    .map(|(_, task)| task.task_id.get())
                    .collect::<Vec<_>>(),
            )
            .bind(tasks().map(|(_, task)| &task.data[..]).collect::<Vec<_>>())
            .execute(&mut *conn)
            .await;
        let written = written.map_err(|error| {
            let text = error.to_string();
            if is_in_doubt(&error) {
                StoreError::Unknown(text)
            } else {
                fail(error)
            }
        })?;
        if count > 0 && written.rows_affected() == count {
            Stats::add(&self.stats.transactions, 1);
            return Ok(());
        }
        // A range never comes back, so what was lost then is lost now.
        for append in &appends {
            let row = sqlx::query_as("SELECT range_id FROM task_queue WHERE namespace_id = $1 AND name = $2 AND kind = $3")
                .bind(append.key.namespace_id.as_str())
                .bind(&append.key.name)
                .bind(i64::from(append.key.kind))
                .fetch_optional(&mut *conn);
            let held: Option<(i64,)> = row.await.map_err(fail)?;
            if held != Some((append.range.get(),)) {
                return Err(fenced(&append.key, append.range));
            }
        }
        if count == 0 {
            return Ok(());
        }
        Err(StoreError::Unavailable(
            "the appends were not written".to_owned(),
        ))
    }
}
