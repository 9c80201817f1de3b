//! Namespace rows in memory.

use async_trait::async_trait;
use proto_ids::{NamespaceId, NamespaceName};

use super::{MemoryStore, State};
use crate::{
    error::StoreError,
    namespace::{NamespaceRecord, NamespaceStore, QueueMessage, conflict},
};

#[async_trait]
impl NamespaceStore for MemoryStore {
    async fn namespace_version(&self) -> Result<i64, StoreError> {
        Ok(self.state().namespace_version)
    }

    async fn namespace_create(
        &self,
        record: NamespaceRecord,
        version: i64,
        message: Option<QueueMessage>,
    ) -> Result<(), StoreError> {
        let mut state = self.state();
        if state.namespaces.contains_key(&record.id) {
            return Err(conflict::id_taken(&record.id));
        }
        state.check_name(&record)?;
        state.write_namespace(record, version, message)
    }

    async fn namespace_update(
        &self,
        record: NamespaceRecord,
        version: i64,
        message: Option<QueueMessage>,
    ) -> Result<(), StoreError> {
        let mut state = self.state();
        if !state.namespaces.contains_key(&record.id) {
            return Err(conflict::not_found(&record.id));
        }
        state.check_name(&record)?;
        state.write_namespace(record, version, message)
    }

    async fn namespace_get(&self, id: &NamespaceId) -> Result<Option<NamespaceRecord>, StoreError> {
        Ok(self.state().namespaces.get(id).cloned())
    }

    async fn namespace_get_by_name(
        &self,
        name: &NamespaceName,
    ) -> Result<Option<NamespaceRecord>, StoreError> {
        Ok(self
            .state()
            .namespaces
            .values()
            .find(|record| record.name == *name)
            .cloned())
    }

    async fn namespace_list(
        &self,
        after: Option<NamespaceName>,
        limit: usize,
    ) -> Result<Vec<NamespaceRecord>, StoreError> {
        let state = self.state();
        let wanted =
            |record: &&NamespaceRecord| after.as_ref().is_none_or(|after| record.name > *after);
        let mut found: Vec<NamespaceRecord> =
            state.namespaces.values().filter(wanted).cloned().collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found.truncate(limit);
        Ok(found)
    }

    async fn namespace_delete(&self, id: &NamespaceId) -> Result<(), StoreError> {
        let mut state = self.state();
        if state.namespaces.remove(id).is_some() {
            state.namespace_version += 1;
        }
        Ok(())
    }
}

impl State {
    fn check_name(&self, record: &NamespaceRecord) -> Result<(), StoreError> {
        let taken = |other: &NamespaceRecord| other.name == record.name && other.id != record.id;
        if self.namespaces.values().any(taken) {
            return Err(conflict::name_taken(&record.name));
        }
        Ok(())
    }

    fn write_namespace(
        &mut self,
        mut record: NamespaceRecord,
        version: i64,
        message: Option<QueueMessage>,
    ) -> Result<(), StoreError> {
        if self.namespace_version != version {
            return Err(conflict::counter_moved(version));
        }
        self.namespace_version += 1;
        record.notification_version = version;
        self.namespaces.insert(record.id.clone(), record);
        if let Some(message) = message {
            self.queues
                .entry(message.queue)
                .or_default()
                .push(message.data);
        }
        Ok(())
    }
}
