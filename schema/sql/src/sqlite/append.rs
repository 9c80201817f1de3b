//! Appends to task queues: one call, fenced like a commit batch.

use schema_store::{
    StoreError,
    task_queue::{BacklogAppend, fenced},
};

use super::{Backend, code, fail, rows::Rows};
use crate::stats::Stats;

const APPEND: &str = "BEGIN IMMEDIATE;
    INSERT INTO broken SELECT 'fence' FROM jsonb_each($1) AS f LEFT JOIN task_queue AS q
        ON q.namespace_id = f.value->>0 AND q.name = f.value->>1 AND q.kind = f.value->>2
        WHERE q.range_id IS NOT f.value->>3 LIMIT 1;
    INSERT INTO backlog_task (namespace_id, name, kind, task_id, data)
        SELECT value->>0, value->>1, value->>2, value->>3, substr($3, value->>4, value->>5)
            FROM jsonb_each($2) WHERE true
        ON CONFLICT DO UPDATE SET data = excluded.data;
    COMMIT;";

const LOST: &str = "SELECT f.value->>4 FROM jsonb_each($1) AS f LEFT JOIN task_queue AS q
    ON q.namespace_id = f.value->>0 AND q.name = f.value->>1 AND q.kind = f.value->>2
    WHERE q.range_id IS NOT f.value->>3 ORDER BY 1 LIMIT 1";

impl Backend {
    pub(super) async fn append(&self, appends: Vec<BacklogAppend>) -> Result<(), StoreError> {
        let mut fences = Rows::new();
        let mut tasks = Rows::new();
        for (index, append) in appends.iter().enumerate() {
            let (namespace, name, kind) = (
                append.key.namespace_id.as_str(),
                &append.key.name,
                append.key.kind,
            );
            let row = fences.row().text(namespace).text(name).int(i64::from(kind));
            row.int(append.range.get()).int(index as i64);
            for task in &append.tasks {
                let row = tasks.row().text(namespace).text(name).int(i64::from(kind));
                row.int(task.task_id.get()).blob(&task.data);
            }
        }
        if fences.has_zero {
            return Err(StoreError::Invalid(
                "a task queue's name has a zero byte".to_owned(),
            ));
        }
        let (fences, _) = fences.finish();
        let (tasks, data) = tasks.finish();
        let mut writer = self.db.writer().await;
        writer.in_doubt = true;
        let outcome = sqlx::query(APPEND)
            .bind(&fences)
            .bind(tasks)
            .bind(data)
            .execute(&mut writer.conn)
            .await;
        let Err(error) = outcome else {
            writer.in_doubt = false;
            Stats::add(&self.stats.transactions, 1);
            Stats::add(&self.stats.wal_syncs, 1);
            return Ok(());
        };
        writer.roll_back().await;
        if code(&error) == Some(super::SQLITE_IOERR) {
            return Err(StoreError::Unknown(error.to_string()));
        }
        let lost = sqlx::query_as(LOST)
            .bind(fences)
            .fetch_optional(&mut writer.conn);
        let lost: Option<(i64,)> = lost.await.map_err(fail)?;
        let lost = lost.and_then(|(index,)| appends.get(usize::try_from(index).ok()?));
        Err(lost.map_or_else(|| fail(error), |append| fenced(&append.key, append.range)))
    }
}
