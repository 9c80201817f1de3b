//! Task rows as they are stored, for tools and for checks.

use cluster_core::task::Category;
use proto_ids::{TaskId, Timestamp};

use super::QueuedTask;
use crate::{error::ShardError, shard::Shard};

/// Rows read at once.
const PAGE: usize = 512;

impl Shard {
    /// All tasks that rows of the shard hold, done ones that are not trimmed yet included.
    pub async fn stored_tasks(&self) -> Result<Vec<QueuedTask>, ShardError> {
        self.check()?;
        let store = &self.0.host.deps.store.execution;
        let mut found = Vec::new();
        let mut after = TaskId::default();
        loop {
            let rows = store.outbox_read(self.id(), after, PAGE).await?;
            for row in &rows {
                after = row.last_task_id;
                let tasks = self.tasks_of_row(Category::Transfer, after, &row.data);
                found.extend(tasks.await?);
            }
            if rows.len() < PAGE {
                break;
            }
        }
        let mut after = (Timestamp::from_nanos(i64::MIN), TaskId::default());
        loop {
            let rows = store.timer_read(self.id(), after, Timestamp::MAX, PAGE);
            let rows = rows.await?;
            for row in &rows {
                after = (row.fire_at, row.task_id);
                let tasks = self.tasks_of_row(Category::Timer, row.task_id, &row.data);
                found.extend(tasks.await?);
            }
            if rows.len() < PAGE {
                return Ok(found);
            }
        }
    }
}
