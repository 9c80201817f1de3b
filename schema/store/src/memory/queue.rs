//! Durable queues in memory.

use std::ops::Bound::{Excluded, Unbounded};

use async_trait::async_trait;
use bytes::Bytes;

use super::MemoryStore;
use crate::{
    error::StoreError,
    queue::{Message, QueueInfo, QueueStore},
};

#[async_trait]
impl QueueStore for MemoryStore {
    async fn queue_enqueue(&self, queue: &str, data: Bytes) -> Result<i64, StoreError> {
        Ok(self
            .state()
            .queues
            .entry(queue.to_owned())
            .or_default()
            .push(data))
    }

    async fn queue_read(
        &self,
        queue: &str,
        after: i64,
        limit: usize,
    ) -> Result<Vec<Message>, StoreError> {
        let state = self.state();
        let Some(queue) = state.queues.get(queue) else {
            return Ok(Vec::new());
        };
        let messages = queue
            .messages
            .range((Excluded(after), Unbounded))
            .take(limit);
        Ok(messages
            .map(|(id, data)| Message {
                id: *id,
                data: data.clone(),
            })
            .collect())
    }

    async fn queue_delete(&self, queue: &str, first: i64, last: i64) -> Result<i64, StoreError> {
        let mut state = self.state();
        let Some(queue) = state.queues.get_mut(queue) else {
            return Ok(0);
        };
        let before = queue.messages.len();
        queue.messages.retain(|id, _| *id < first || *id > last);
        Ok((before - queue.messages.len()) as i64)
    }

    async fn queue_last_id(&self, queue: &str) -> Result<i64, StoreError> {
        Ok(self
            .state()
            .queues
            .get(queue)
            .map_or(0, |queue| queue.last_id))
    }

    async fn queue_list(&self, prefix: &str) -> Result<Vec<QueueInfo>, StoreError> {
        let state = self.state();
        let found = state
            .queues
            .iter()
            .filter(|(name, _)| name.starts_with(prefix));
        Ok(found
            .map(|(name, queue)| QueueInfo {
                name: name.clone(),
                len: queue.messages.len() as i64,
                last_id: queue.last_id,
            })
            .collect())
    }

    async fn queue_ack_get(&self, queue: &str, consumer: &str) -> Result<Option<i64>, StoreError> {
        Ok(self
            .state()
            .acks
            .get(&(queue.to_owned(), consumer.to_owned()))
            .copied())
    }

    async fn queue_ack_set(&self, queue: &str, consumer: &str, id: i64) -> Result<(), StoreError> {
        let mut state = self.state();
        let ack = state
            .acks
            .entry((queue.to_owned(), consumer.to_owned()))
            .or_insert(id);
        *ack = (*ack).max(id);
        Ok(())
    }
}
