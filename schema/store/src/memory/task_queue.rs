//! Matching's backlog in memory.

use std::ops::Bound::{Excluded, Unbounded};

use async_trait::async_trait;
use proto_ids::{RangeId, TaskId};

use super::{MemoryStore, State};
use crate::{
    error::StoreError,
    task_queue::{BacklogAppend, BacklogTask, TaskQueueKey, TaskQueueRecord, TaskQueueStore},
};

#[async_trait]
impl TaskQueueStore for MemoryStore {
    async fn task_queue_acquire(&self, key: &TaskQueueKey) -> Result<TaskQueueRecord, StoreError> {
        let mut state = self.state();
        let record = state
            .task_queues
            .entry(key.clone())
            .or_insert(TaskQueueRecord {
                range: RangeId::new(0),
                ack: TaskId::new(0),
            });
        record.range = record.range.next();
        Ok(record.clone())
    }

    async fn task_queue_append(&self, appends: Vec<BacklogAppend>) -> Result<(), StoreError> {
        let mut state = self.state();
        for append in &appends {
            state.check_task_queue(&append.key, append.range)?;
        }
        for append in appends {
            for task in append.tasks {
                state
                    .backlog
                    .insert((append.key.clone(), task.task_id), task.data);
            }
        }
        Ok(())
    }

    async fn task_queue_read(
        &self,
        key: &TaskQueueKey,
        after: TaskId,
        limit: usize,
    ) -> Result<Vec<BacklogTask>, StoreError> {
        let state = self.state();
        let tasks = state
            .backlog
            .range((Excluded((key.clone(), after)), Unbounded))
            .take_while(|((of, _), _)| of == key);
        Ok(tasks
            .take(limit)
            .map(|((_, task_id), data)| BacklogTask {
                task_id: *task_id,
                data: data.clone(),
            })
            .collect())
    }

    async fn task_queue_count(&self, key: &TaskQueueKey, after: TaskId) -> Result<i64, StoreError> {
        let state = self.state();
        let tasks = state
            .backlog
            .range((Excluded((key.clone(), after)), Unbounded))
            .take_while(|((of, _), _)| of == key);
        Ok(tasks.count() as i64)
    }

    async fn task_queue_ack(
        &self,
        key: &TaskQueueKey,
        range: RangeId,
        ack: TaskId,
    ) -> Result<(), StoreError> {
        let mut state = self.state();
        state.check_task_queue(key, range)?;
        if let Some(record) = state.task_queues.get_mut(key) {
            record.ack = record.ack.max(ack);
        }
        let mut rest = state
            .backlog
            .split_off(&(key.clone(), TaskId::new(i64::MIN)));
        rest.retain(|(of, task_id), _| of != key || *task_id > ack);
        state.backlog.append(&mut rest);
        Ok(())
    }
}

impl State {
    fn check_task_queue(&self, key: &TaskQueueKey, range: RangeId) -> Result<(), StoreError> {
        let held = self.task_queues.get(key).map(|record| record.range);
        if held == Some(range) {
            Ok(())
        } else {
            Err(crate::task_queue::fenced(key, range))
        }
    }
}
