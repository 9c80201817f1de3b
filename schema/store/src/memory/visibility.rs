//! Visibility rows in memory: lists walk all rows of the namespace.

use async_trait::async_trait;
use bytes::Bytes;
use proto_ids::{NamespaceId, RunId};

use super::{MemoryStore, State};
use crate::{
    error::StoreError,
    visibility::{
        Position, VisibilityCount, VisibilityPage, VisibilityRecord, VisibilityStore,
        VisibilityWrite, query::Query,
    },
};

#[async_trait]
impl VisibilityStore for MemoryStore {
    async fn visibility_write(&self, writes: Vec<VisibilityWrite>) -> Result<(), StoreError> {
        let mut state = self.state();
        for write in writes {
            match write {
                VisibilityWrite::Put(record) => {
                    let key = (record.namespace_id.clone(), record.run_id.clone());
                    let stored = state.visibility.get(&key).map(|stored| stored.version);
                    if stored.is_none_or(|stored| stored < record.version) {
                        state.visibility.insert(key, *record);
                    }
                }
                VisibilityWrite::Delete {
                    namespace_id,
                    run_id,
                } => {
                    state.visibility.remove(&(namespace_id, run_id));
                }
            }
        }
        Ok(())
    }

    async fn visibility_list(
        &self,
        namespace_id: &NamespaceId,
        query: &Query,
        page_size: usize,
        after: Option<Bytes>,
    ) -> Result<VisibilityPage, StoreError> {
        query.check_list()?;
        let after = after.as_deref().map(Position::decode).transpose()?;
        let state = self.state();
        let mut found: Vec<(Position, &VisibilityRecord)> = state
            .matching(namespace_id, query)
            .map(|record| (Position::of(record), record))
            .filter(|(position, _)| after.as_ref().is_none_or(|after| position > after))
            .collect();
        found.sort_by(|(a, _), (b, _)| a.cmp(b));
        let page_size = page_size.max(1);
        let more = found.len() > page_size;
        found.truncate(page_size);
        let next = found
            .last()
            .filter(|_| more)
            .map(|(position, _)| position.encode());
        Ok(VisibilityPage {
            records: found
                .into_iter()
                .map(|(_, record)| record.clone())
                .collect(),
            next,
        })
    }

    async fn visibility_count(
        &self,
        namespace_id: &NamespaceId,
        query: &Query,
    ) -> Result<VisibilityCount, StoreError> {
        let state = self.state();
        let mut count = VisibilityCount::default();
        for record in state.matching(namespace_id, query) {
            count.total += 1;
            if query.group_by_status {
                *count.by_status.entry(record.status).or_default() += 1;
            }
        }
        Ok(count)
    }

    async fn visibility_get(
        &self,
        namespace_id: &NamespaceId,
        run_id: &RunId,
    ) -> Result<Option<VisibilityRecord>, StoreError> {
        let key = (namespace_id.clone(), run_id.clone());
        Ok(self.state().visibility.get(&key).cloned())
    }
}

impl State {
    fn matching<'a>(
        &'a self,
        namespace_id: &'a NamespaceId,
        query: &'a Query,
    ) -> impl Iterator<Item = &'a VisibilityRecord> {
        self.visibility
            .range((namespace_id.clone(), RunId::default())..)
            .take_while(move |((of, _), _)| of == namespace_id)
            .map(|(_, record)| record)
            .filter(move |record| query.matches(record))
    }
}
