//! Rows that cannot be sent. They are kept among the dead letters, in the queue from this cluster to the one
//! that lacks them, before the stream passes them; so they are counted and listed with workflow and cause, and
//! the rest of the shard flows. Now and then it is tried whether they can be sent by now.
//!
//! Invariant: a row that was passed over is in its queue until it was put into the stream again, its run is
//! gone, or an operator removed it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use cluster_runtime::SharedClock;
use cluster_shard::QueuedTask;
use parking_lot::Mutex;
use proto_ids::{ClusterName, ShardId, TaskId, Timestamp};
use proto_messages::{
    meridian::replication::v1::DeadLetter,
    temporal::server::api::{
        common::v1::HistoryDlqKey, persistence::v1::ReplicationTaskInfo,
        replication::v1::ReplicationTask,
    },
    time,
};
use schema_store::StoreError;
use tokio::time::Instant;

use super::hydrate;
use crate::dead_letters::{CATEGORY, DeadLetters, DlqEntry, PAGE_MAX};

/// How long what was read of a queue counts as known.
const FRESH_FOR: Duration = Duration::from_secs(10);

/// The rows of this cluster that are set aside. Cheap to clone.
#[derive(Clone)]
pub struct UnsentRows(Arc<UnsentRowsInner>);

struct UnsentRowsInner {
    letters: DeadLetters,
    own: ClusterName,
    clock: SharedClock,
    known: Mutex<HashMap<ClusterName, Known>>,
}

/// The cached state of one cluster's queue.
struct Known {
    read: Instant,
    rows: BTreeMap<(ShardId, TaskId), Row>,
}

/// A row that is set aside.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    /// Its letter.
    pub letter: i64,
    /// The shard that lacks it.
    pub remote_shard: ShardId,
    /// The row.
    pub raw: ReplicationTaskInfo,
}

impl UnsentRows {
    /// Over the dead letters of the cluster `own`.
    pub fn new(letters: DeadLetters, own: ClusterName, clock: SharedClock) -> Self {
        Self(Arc::new(UnsentRowsInner {
            letters,
            own,
            clock,
            known: Mutex::default(),
        }))
    }

    /// Keeps a row of an own shard that a cluster's shard lacks, once however often it is met.
    pub async fn put(
        &self,
        shard: ShardId,
        row: &QueuedTask,
        cluster: &ClusterName,
        remote_shard: ShardId,
        reason: &str,
    ) -> Result<(), StoreError> {
        let place = (shard, row.task_id);
        if !self.is_fresh(cluster) {
            self.read(cluster).await?;
        }
        let is_known = |k: &HashMap<_, Known>| {
            k.get(cluster)
                .is_some_and(|known| known.rows.contains_key(&place))
        };
        if is_known(&self.0.known.lock()) {
            return Ok(());
        }
        let raw = hydrate::raw(row);
        let now = Timestamp::from_nanos(self.0.clock.now_nanos());
        let letter = DeadLetter {
            source_cluster: self.0.own.to_string(),
            source_shard_id: shard.get(),
            shard_id: remote_shard.get(),
            task: Some(ReplicationTask {
                source_task_id: row.task_id.get(),
                visibility_time: Some(time::to_proto(row.at)),
                raw_task_info: Some(raw.clone()),
                ..ReplicationTask::default()
            }),
            reason: reason.to_owned(),
            time: Some(time::to_proto(now)),
            attempts: 1,
            key: Some(HistoryDlqKey {
                task_category: CATEGORY,
                source_cluster: self.0.own.to_string(),
                target_cluster: cluster.to_string(),
            }),
            ..DeadLetter::default()
        };
        let letter = self.letters(cluster).put(&letter).await?;
        if let Some(known) = self.0.known.lock().get_mut(cluster) {
            let row = Row {
                letter,
                remote_shard,
                raw,
            };
            known.rows.insert(place, row);
        }
        Ok(())
    }

    /// Rows of an own shard that a cluster's shard lacks; none when that is not known.
    pub async fn count(
        &self,
        cluster: &ClusterName,
        shard: ShardId,
        remote: ShardId,
    ) -> Option<i64> {
        if !self.is_fresh(cluster)
            && let Err(error) = self.read(cluster).await
        {
            tracing::warn!(%cluster, %error, "rows that were set aside cannot be counted");
            return None;
        }
        let known = self.0.known.lock();
        let rows = known.get(cluster)?.rows.iter();
        let lacking = rows.filter(|((own, _), row)| *own == shard && row.remote_shard == remote);
        i64::try_from(lacking.count()).ok()
    }

    /// All rows a cluster lacks; none when that is not known.
    pub fn total(&self, cluster: &ClusterName) -> Option<i64> {
        let known = self.0.known.lock();
        i64::try_from(known.get(cluster)?.rows.len()).ok()
    }

    /// Rows a cluster lacks, read anew: by own shard and task.
    pub(crate) async fn rows(
        &self,
        cluster: &ClusterName,
    ) -> Result<BTreeMap<(ShardId, TaskId), Row>, StoreError> {
        self.read(cluster).await
    }

    /// A row was put into the stream again, or its run is gone.
    pub(crate) async fn remove(
        &self,
        cluster: &ClusterName,
        letter: i64,
    ) -> Result<(), StoreError> {
        let letters = self.letters(cluster);
        letters.remove(self.0.own.as_str(), letter).await?;
        if let Some(known) = self.0.known.lock().get_mut(cluster) {
            known.rows.retain(|_, row| row.letter != letter);
        }
        Ok(())
    }

    fn letters(&self, cluster: &ClusterName) -> DeadLetters {
        self.0.letters.towards(cluster.clone())
    }

    fn is_fresh(&self, cluster: &ClusterName) -> bool {
        let known = self.0.known.lock();
        let read = known.get(cluster).map(|known| known.read);
        read.is_some_and(|read| read.elapsed() < FRESH_FOR)
    }

    async fn read(
        &self,
        cluster: &ClusterName,
    ) -> Result<BTreeMap<(ShardId, TaskId), Row>, StoreError> {
        let letters = self.letters(cluster);
        let (mut rows, mut after) = (BTreeMap::new(), 0);
        let read = Instant::now();
        loop {
            let page = letters.read(self.0.own.as_str(), after, PAGE_MAX).await?;
            let is_last = page.len() < PAGE_MAX;
            for DlqEntry { id, letter } in page {
                after = id;
                let raw = letter.task.and_then(|task| task.raw_task_info);
                let raw = raw.unwrap_or_default();
                let place = (
                    ShardId::new(letter.source_shard_id),
                    TaskId::new(raw.task_id),
                );
                let row = Row {
                    letter: id,
                    remote_shard: ShardId::new(letter.shard_id),
                    raw,
                };
                rows.insert(place, row);
            }
            if is_last {
                break;
            }
        }
        let mut known = self.0.known.lock();
        if let Some(before) = known.get(cluster) {
            // Set aside while the queue was read.
            let later = before.rows.iter().filter(|(_, row)| row.letter > after);
            rows.extend(later.map(|(place, row)| (*place, row.clone())));
        }
        let found = Known {
            read,
            rows: rows.clone(),
        };
        known.insert(cluster.clone(), found);
        Ok(rows)
    }
}
