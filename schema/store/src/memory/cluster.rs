//! Cluster and member rows in memory.

use async_trait::async_trait;
use proto_ids::{ClusterName, Timestamp};

use super::MemoryStore;
use crate::{
    cluster::{ClusterRecord, ClusterStore, MemberRecord},
    error::StoreError,
};

#[async_trait]
impl ClusterStore for MemoryStore {
    async fn cluster_list(&self) -> Result<Vec<ClusterRecord>, StoreError> {
        Ok(self.state().clusters.values().cloned().collect())
    }

    async fn cluster_put(&self, mut record: ClusterRecord) -> Result<(), StoreError> {
        let mut state = self.state();
        let stored = state
            .clusters
            .get(&record.name)
            .map_or(0, |stored| stored.version);
        if stored != record.version {
            return Err(crate::cluster::moved(&record));
        }
        record.version += 1;
        state.clusters.insert(record.name.clone(), record);
        Ok(())
    }

    async fn cluster_delete(&self, name: &ClusterName) -> Result<(), StoreError> {
        self.state().clusters.remove(name);
        Ok(())
    }

    async fn member_put(&self, record: MemberRecord) -> Result<(), StoreError> {
        self.state().members.insert(record.id.clone(), record);
        Ok(())
    }

    async fn member_list(&self, since: Timestamp) -> Result<Vec<MemberRecord>, StoreError> {
        let mut state = self.state();
        state.members.retain(|_, member| member.seen_at >= since);
        Ok(state.members.values().cloned().collect())
    }

    async fn member_delete(&self, id: &str) -> Result<(), StoreError> {
        self.state().members.remove(id);
        Ok(())
    }
}
