//! First contact. Gossip needs to know one living member to find all others; rows in the store, which
//! every member can reach anyway, name a few.

use std::{error::Error, sync::Arc, time::Duration};

use async_trait::async_trait;
use cluster_runtime::SharedClock;
use proto_ids::Timestamp;
use schema_store::cluster::{ClusterStore, MemberRecord};

use crate::Member;

/// An error of wherever contacts are kept; only its text is used.
pub type ContactError = Box<dyn Error + Send + Sync>;

/// Where members tell that they live. Errors are logged and the call is made again later.
#[async_trait]
pub trait Contacts: Send + Sync + 'static {
    /// Tells that this member lives now. Called again and again.
    async fn announce(&self, me: &Member) -> Result<(), ContactError>;

    /// Members that lived lately, this one perhaps among them. Some may be dead.
    async fn recent(&self) -> Result<Vec<Member>, ContactError>;

    /// This member leaves.
    async fn withdraw(&self, me: &Member) -> Result<(), ContactError>;
}

/// Contacts in the store's member rows.
pub struct StoreContacts {
    store: Arc<dyn ClusterStore>,
    clock: SharedClock,
    fresh_for: Duration,
}

impl StoreContacts {
    /// Members that announced themselves within the last minute count as recent.
    pub fn new(store: Arc<dyn ClusterStore>, clock: SharedClock) -> Self {
        Self {
            store,
            clock,
            fresh_for: Duration::from_secs(60),
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.clock.now_nanos())
    }
}

#[async_trait]
impl Contacts for StoreContacts {
    async fn announce(&self, me: &Member) -> Result<(), ContactError> {
        let record = MemberRecord {
            id: me.id.clone(),
            data: me.encode(),
            seen_at: self.now(),
        };
        Ok(self.store.member_put(record).await?)
    }

    async fn recent(&self) -> Result<Vec<Member>, ContactError> {
        let records = self
            .store
            .member_list(self.now().minus(self.fresh_for))
            .await?;
        let decode = |record: MemberRecord| {
            Member::decode(&record.data)
                .map_err(
                    |error| tracing::warn!(member = record.id, %error, "member row cannot be read"),
                )
                .ok()
        };
        Ok(records.into_iter().filter_map(decode).collect())
    }

    async fn withdraw(&self, me: &Member) -> Result<(), ContactError> {
        Ok(self.store.member_delete(&me.id).await?)
    }
}
