//! The applying side, on the history host that owns the shard: tasks of other clusters become state, in the
//! same transactions and commit lanes as requests. A task that meets a gap pulls what is missing from its
//! source and goes on.
//!
//! [`Applier`] is built from [`ApplyDeps`]; [`crate::service`] mounts it. An answer is given only when the
//! effect is durable.

use std::sync::Arc;

use cluster_runtime::SharedClock;
use cluster_shard::{Shard, Shards, Txn};
use namespaces::{Clusters, Namespace, Registry};
use proto_ids::{ClusterName, FailoverVersion, RunKey};
use proto_messages::{
    meridian::replication::v1::{ApplyRequest, ApplyResponse, Outcome},
    temporal::server::api::replication::v1::SyncActivityTaskAttributes,
};
use replication_ndc::{Missing, branch};
use tonic::Status;
use tracing::Instrument;

use crate::{
    namespaces::Refresher,
    remotes::Remotes,
    wire::{IncomingHistory, IncomingTask, Kind, current_items},
};

mod absorb;
mod activity;
mod admission;
mod again;
mod backfill;
mod pointer;
mod rebuild;
mod reopen;
pub(crate) mod status;

pub(crate) use activity::TRANSIENT_EVENT;

use absorb::{ApplyError, Work};
use activity::Taken;
use admission::{Admission, Claim};
use backfill::Pulled;

/// Transactions one task may need: each pull of a gap, each branch that wins in the middle, and each write
/// of the local side in between costs one.
const ROUNDS_MAX: usize = 64;

/// The dependencies of the applying side.
#[derive(Clone)]
pub struct ApplyDeps {
    /// The shards of this process.
    pub shards: Shards,
    /// Namespaces.
    pub registry: Registry,
    /// The cluster directory.
    pub clusters: Clusters,
    /// Clients of remote clusters.
    pub remotes: Remotes,
    /// Fetches namespaces that are not known or old.
    pub refresher: Refresher,
    /// The time.
    pub clock: SharedClock,
}

/// Applies tasks of other clusters. Cheap to clone.
#[derive(Clone)]
pub struct Applier(Arc<ApplyDeps>);

/// The effects of a task so far.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Events written.
    events: usize,
    /// The gap pulled last; the same gap again means that pulling does not close it.
    gap: Option<Missing>,
}

impl Applier {
    /// Over the shards of this process.
    pub fn new(deps: ApplyDeps) -> Self {
        Self(Arc::new(deps))
    }

    pub(crate) fn deps(&self) -> &ApplyDeps {
        &self.0
    }

    /// Applies one task.
    pub async fn apply(&self, request: ApplyRequest) -> Result<ApplyResponse, Status> {
        let source = ClusterName::new(&request.source_cluster);
        let task = request.task.unwrap_or_default();
        let incoming =
            IncomingTask::read(&task).map_err(|e| Status::invalid_argument(e.to_string()))?;
        match incoming.kind {
            Kind::Nothing => return Ok(skipped("nothing to do")),
            Kind::Unknown(number) => {
                return Err(Status::unimplemented(format!(
                    "replication tasks of type {number} are not known here"
                )));
            }
            _ => {}
        }
        let claim = Claim::of(&task, &incoming)?;
        let namespace_id = &incoming.key.namespace_id;
        let namespace = match self.admit(&source, namespace_id, &claim).await? {
            Admission::Admit(namespace) => namespace,
            Admission::Skip(why) => {
                tracing::debug!(remote_cluster = %source, run = %incoming.key, why, "task skipped");
                return Ok(skipped(why));
            }
        };
        let key = &incoming.key;
        let shard = self
            .0
            .shards
            .for_workflow(&key.namespace_id, &key.workflow_id)
            .await;
        let at = ApplyTarget {
            source,
            namespace,
            shard: shard.map_err(status::shard)?,
        };
        let span = tracing::debug_span!("apply", remote_cluster = %at.source, shard = %at.shard.id(),
            namespace = %at.namespace.name, workflow_id = %incoming.key.workflow_id,
            run_id = %incoming.key.run_id);
        self.dispatch(&at, incoming).instrument(span).await
    }

    async fn dispatch(
        &self,
        at: &ApplyTarget,
        incoming: IncomingTask,
    ) -> Result<ApplyResponse, Status> {
        let key = incoming.key;
        let mut progress = Progress::default();
        let outcome = match incoming.kind {
            Kind::History(history) => self.history(at, &key, history, &mut progress).await?,
            Kind::Reach { items } => self.reach(at, &key, &items, &mut progress).await?,
            Kind::Closed(state) => {
                let info = state.execution_info.as_ref();
                let histories = info.and_then(|i| i.version_histories.as_ref());
                let items = current_items(histories.unwrap_or(&Default::default()))
                    .map_err(|e| Status::invalid_argument(e.to_string()))?;
                self.reach(at, &key, &items, &mut progress).await?
            }
            Kind::Activity(attributes) => {
                self.activity(at, &key, &attributes, &mut progress).await?
            }
            Kind::State { events, activities } => {
                let outcome = match events {
                    Ok(history) => self.history(at, &key, history, &mut progress).await?,
                    Err(items) => self.reach(at, &key, &items, &mut progress).await?,
                };
                for attributes in activities {
                    self.activity(at, &key, &attributes, &mut progress).await?;
                }
                outcome
            }
            Kind::Delete => self.delete(at, &key).await?,
            Kind::Nothing | Kind::Unknown(_) => Outcome::Skipped,
        };
        Ok(ApplyResponse {
            outcome: outcome as i32,
            events_applied: i32::try_from(progress.events).unwrap_or(i32::MAX),
            ..ApplyResponse::default()
        })
    }

    async fn history(
        &self,
        at: &ApplyTarget,
        key: &RunKey,
        history: IncomingHistory,
        progress: &mut Progress,
    ) -> Result<Outcome, Status> {
        let IncomingHistory {
            items,
            batches,
            new_run,
            non_history,
        } = history;
        let mut work = Work {
            key: key.clone(),
            items,
            batches,
            new_run,
            non_history,
        };
        for _ in 0..ROUNDS_MAX {
            match self.round(at, &mut work, progress).await? {
                Round::Done => {
                    return Ok(if progress.events > 0 {
                        Outcome::Applied
                    } else {
                        Outcome::Duplicate
                    });
                }
                Round::More => {}
                Round::Gap(missing) => {
                    if self.close(at, key, missing, progress).await? == Pulled::Gone {
                        return Ok(Outcome::Skipped);
                    }
                }
            }
        }
        Err(Status::unavailable(
            "the run changes faster than the task can be applied",
        ))
    }

    fn here(&self) -> LocalCluster {
        let own = self.0.clusters.current();
        LocalCluster {
            name: own.name.clone(),
            initial_version: own.initial_failover_version,
            increment: own.failover_version_increment.max(1),
        }
    }

    /// One transaction; what is settled leaves the work.
    async fn round(
        &self,
        at: &ApplyTarget,
        work: &mut Work,
        progress: &mut Progress,
    ) -> Result<Round, Status> {
        let here = self.here();
        let done = at
            .shard
            .replicate(
                &work.key.namespace_id,
                &work.key.workflow_id,
                async |txn: &mut Txn| absorb::absorb(txn, work, &here).await,
            )
            .await;
        let absorbed = match done {
            Ok(absorbed) => absorbed,
            Err(cluster_shard::TxnError::Decided(ApplyError::Gap(missing))) => {
                return Ok(Round::Gap(missing));
            }
            Err(error) => return Err(status::txn(error, &work.key)),
        };
        self.reapply_event(at, &work.key, &absorbed.lost).await?;
        progress.events += absorbed.events;
        work.batches.drain(..absorbed.batches);
        Ok(if work.batches.is_empty() {
            Round::Done
        } else {
            Round::More
        })
    }

    /// Pulls a gap; one that stays after it was pulled is a fault of the data.
    async fn close(
        &self,
        at: &ApplyTarget,
        key: &RunKey,
        missing: Missing,
        progress: &mut Progress,
    ) -> Result<Pulled, Status> {
        if progress.gap.replace(missing) == Some(missing) {
            return Err(Status::data_loss(format!(
                "{} does not have what is missing of {key} before event {}",
                at.source, missing.before.event_id
            )));
        }
        let pulled = Box::pin(self.backfill(at, key, &missing, progress)).await?;
        if pulled == Pulled::Gone {
            tracing::warn!(
                remote_cluster = %at.source,
                run = %key,
                "the source does not have the run any more; its task is skipped"
            );
        }
        Ok(pulled)
    }

    /// Applies a page of pulled events.
    async fn absorb_pulled(
        &self,
        at: &ApplyTarget,
        mut work: Work,
        progress: &mut Progress,
    ) -> Result<(), Status> {
        for _ in 0..ROUNDS_MAX {
            match self.round(at, &mut work, progress).await? {
                Round::Done => return Ok(()),
                Round::More => {}
                Round::Gap(missing) => {
                    let wire = backfill::to_wire(&work.key, &missing);
                    let text = "events are missing before the ones that were pulled";
                    return Err(cluster_rpc::status::retry_replication(text, &wire));
                }
            }
        }
        Err(Status::unavailable(
            "the run changes faster than events can be pulled",
        ))
    }

    /// Has the events of a branch up to its end.
    async fn reach(
        &self,
        at: &ApplyTarget,
        key: &RunKey,
        items: &[cluster_core::VersionItem],
        progress: &mut Progress,
    ) -> Result<Outcome, Status> {
        branch::check(items).map_err(|e| Status::invalid_argument(e.to_string()))?;
        let Some(last) = items.last().copied() else {
            return Ok(Outcome::Skipped);
        };
        let before = cluster_core::VersionItem {
            event_id: last.event_id.next(),
            ..last
        };
        let shared = at
            .shard
            .read(key, |run| {
                let branches = run.versions.histories.iter();
                branches
                    .filter_map(|local| branch::lowest_common_ancestor(&local.items, items))
                    .max_by_key(|item| item.event_id)
            })
            .await;
        let after = match shared {
            Ok(shared) => shared,
            Err(cluster_shard::ReadError::NotFound) => None,
            Err(error) => return Err(status::read(error)),
        };
        if after == Some(last) {
            return Ok(Outcome::Duplicate);
        }
        match self
            .close(at, key, Missing { after, before }, progress)
            .await?
        {
            Pulled::All => Ok(Outcome::Applied),
            Pulled::Gone => Ok(Outcome::Skipped),
        }
    }

    async fn activity(
        &self,
        at: &ApplyTarget,
        key: &RunKey,
        attributes: &SyncActivityTaskAttributes,
        progress: &mut Progress,
    ) -> Result<Outcome, Status> {
        for _ in 0..ROUNDS_MAX {
            let done = at
                .shard
                .replicate(
                    &key.namespace_id,
                    &key.workflow_id,
                    async |txn: &mut Txn| activity::take(txn, &key.run_id, attributes).await,
                )
                .await;
            return match done {
                Ok(Taken::Applied) => Ok(Outcome::Applied),
                Ok(Taken::Duplicate) => Ok(Outcome::Duplicate),
                Ok(Taken::Skipped) => Ok(Outcome::Skipped),
                Err(cluster_shard::TxnError::Decided(ApplyError::Gap(missing))) => {
                    match self.close(at, key, missing, progress).await? {
                        Pulled::All => continue,
                        Pulled::Gone => Ok(Outcome::Skipped),
                    }
                }
                Err(error) => Err(status::txn(error, key)),
            };
        }
        Err(Status::unavailable(
            "the run changes faster than the task can be applied",
        ))
    }

    async fn delete(&self, at: &ApplyTarget, key: &RunKey) -> Result<Outcome, Status> {
        if at.namespace.is_active_in(&self.0.clusters.current_name()) {
            return Ok(Outcome::Skipped);
        }
        at.shard.delete_run(key).await.map_err(status::shard)?;
        Ok(Outcome::Applied)
    }
}

/// The target of an incoming task: the shard and the namespace it is applied to.
pub(crate) struct ApplyTarget {
    source: ClusterName,
    namespace: Arc<Namespace>,
    shard: Shard,
}

/// The local cluster, as the rules see it.
pub(crate) struct LocalCluster {
    name: ClusterName,
    initial_version: i64,
    increment: i64,
}

impl LocalCluster {
    /// Whether a version is one of this cluster's own.
    fn wrote(&self, version: FailoverVersion) -> bool {
        version.get() != 0 && (version.get() - self.initial_version) % self.increment == 0
    }
}

/// How a transaction ended.
enum Round {
    Done,
    More,
    Gap(Missing),
}

fn skipped(why: &str) -> ApplyResponse {
    ApplyResponse {
        outcome: Outcome::Skipped as i32,
        detail: why.to_owned(),
        ..ApplyResponse::default()
    }
}
