//! Whether a task is for this cluster, by its namespace, and whether its source may say it. A namespace that is
//! not known here, or known in a version below the task's, is fetched from the source first: the namespace
//! queue and the streams are separate, and either may be ahead.
//!
//! A peer's message is a claim. It may write to namespaces of which it has a copy itself, in versions that the
//! namespace has had: never to local ones, and never in a version that is still to come.

use std::sync::Arc;

use cluster_core::{EventBatch, VersionItem};
use namespaces::{Namespace, SYSTEM_NAMESPACE_ID};
use proto_ids::{ClusterName, FailoverVersion, NamespaceId};
use proto_messages::temporal::server::api::replication::v1::{
    ReplicationTask, SyncActivityTaskAttributes,
};
use schema_store::StoreError;
use tonic::Status;

use super::Applier;
use crate::{
    namespaces::Refreshed,
    wire::{IncomingHistory, IncomingTask, Kind, current_items},
};

/// Event ids beyond this are invalid; below it they can be counted with.
const EVENT_ID_MAX: i64 = 1 << 53;

/// The answer.
pub(super) enum Admission {
    /// Apply it.
    Admit(Arc<Namespace>),
    /// Skip it, for this reason.
    Skip(&'static str),
}

/// The versions that a task claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    /// The versions it would write.
    written: Vec<FailoverVersion>,
    /// The highest it names.
    highest: FailoverVersion,
}

impl Claim {
    /// Of a task; fails where a number cannot be one.
    pub(super) fn of(task: &ReplicationTask, incoming: &IncomingTask) -> Result<Self, Status> {
        let mut claim = Self {
            written: Vec::new(),
            highest: FailoverVersion::default(),
        };
        match &incoming.kind {
            Kind::History(history) => claim.history(history)?,
            Kind::Activity(activity) => claim.activity(activity)?,
            Kind::Reach { items } => claim.items(items)?,
            Kind::State { events, activities } => {
                match events {
                    Ok(history) => claim.history(history)?,
                    Err(items) => claim.items(items)?,
                }
                for activity in activities {
                    claim.activity(activity)?;
                }
            }
            Kind::Closed(state) => {
                let info = state.execution_info.as_ref();
                let histories = info.and_then(|info| info.version_histories.as_ref());
                let items = current_items(histories.unwrap_or(&Default::default()));
                claim.items(&items.map_err(|e| Status::invalid_argument(e.to_string()))?)?;
            }
            Kind::Delete | Kind::Nothing | Kind::Unknown(_) => {}
        }
        if claim.written.is_empty() {
            let raw = task.raw_task_info.as_ref().map_or(0, |raw| raw.version);
            claim.write(raw.into())?;
        }
        Ok(claim)
    }

    fn write(&mut self, version: FailoverVersion) -> Result<(), Status> {
        if version.get() < 0 {
            return Err(Status::invalid_argument(format!(
                "{version} is no failover version"
            )));
        }
        self.written.push(version);
        self.highest = self.highest.max(version);
        Ok(())
    }

    fn items(&mut self, items: &[VersionItem]) -> Result<(), Status> {
        for item in items {
            if !(1..EVENT_ID_MAX).contains(&item.event_id.get()) || item.version.get() < 0 {
                return Err(Status::invalid_argument(format!(
                    "{}@{} is no event",
                    item.event_id, item.version
                )));
            }
            self.highest = self.highest.max(item.version);
        }
        Ok(())
    }

    fn batch(&mut self, batch: &EventBatch) -> Result<(), Status> {
        if batch.next_event_id().get() > EVENT_ID_MAX {
            return Err(Status::invalid_argument(format!(
                "{} is no event",
                batch.first_event_id()
            )));
        }
        self.write(batch.version())
    }

    fn history(&mut self, history: &IncomingHistory) -> Result<(), Status> {
        self.items(&history.items)?;
        for batch in &history.batches {
            self.batch(batch)?;
        }
        match &history.new_run {
            Some(run) => self.batch(&run.batch),
            None => Ok(()),
        }
    }

    fn activity(&mut self, activity: &SyncActivityTaskAttributes) -> Result<(), Status> {
        let history = activity.version_history.as_ref();
        let items = history.map(|h| crate::wire::items_from_wire(&h.items));
        self.items(&items.unwrap_or_default())?;
        self.write(activity.version.into())
    }
}

impl Applier {
    /// Looks at the namespace of a task that claims this.
    pub(super) async fn admit(
        &self,
        source: &ClusterName,
        id: &NamespaceId,
        claim: &Claim,
    ) -> Result<Admission, Status> {
        if id.as_str() == SYSTEM_NAMESPACE_ID {
            return Ok(self.refuse(source, id, "the namespace is the cluster's own"));
        }
        let mut known = self.deps().registry.by_id(id);
        if known.as_ref().is_some_and(|n| !n.is_global) {
            return Ok(self.refuse(source, id, "the namespace is local here"));
        }
        let is_enough = |namespace: &Arc<Namespace>| namespace.failover_version >= claim.highest;
        if !known.as_ref().is_some_and(is_enough) {
            let (Refreshed::Known | Refreshed::NotOurs) =
                self.deps().refresher.refresh(source, id).await?;
            // Another host may have merged it before this one was notified of it.
            let registry = &self.deps().registry;
            let unavailable = |e: StoreError| Status::unavailable(e.to_string());
            registry.catch_up().await.map_err(unavailable)?;
            known = registry.resolve_id(id).await.map_err(unavailable)?;
        }
        let Some(namespace) = known else {
            return Ok(Admission::Skip("the namespace is not known here"));
        };
        if !namespace.is_global {
            return Ok(self.refuse(source, id, "the namespace is local here"));
        }
        if namespace.is_deleted() {
            return Ok(Admission::Skip("the namespace is deleted"));
        }
        if !namespace.lives_in(&self.deps().clusters.current_name()) {
            return Ok(Admission::Skip("the namespace does not live here"));
        }
        self.check(source, &namespace, claim)?;
        Ok(Admission::Admit(namespace))
    }

    /// A task that no cluster sends by itself. It leaves a line, and no letter that would fill the store.
    fn refuse(&self, source: &ClusterName, id: &NamespaceId, why: &'static str) -> Admission {
        tracing::warn!(remote_cluster = %source, namespace_id = %id, why,
            "a replication task is refused");
        Admission::Skip(why)
    }

    /// Checks what the source may write to a namespace that lives here. A task that is refused becomes a dead
    /// letter: it can be the rest of a time when it could.
    fn check(
        &self,
        source: &ClusterName,
        namespace: &Namespace,
        claim: &Claim,
    ) -> Result<(), Status> {
        if !namespace.lives_in(source) {
            return Err(Status::permission_denied(format!(
                "cluster {source} has no copy of namespace {}",
                namespace.name
            )));
        }
        if claim.highest > namespace.failover_version {
            return Err(Status::permission_denied(format!(
                "version {} is still to come; namespace {} has got to {}",
                claim.highest, namespace.name, namespace.failover_version
            )));
        }
        let strange = |version: &&FailoverVersion| !self.is_of(namespace, **version);
        match claim.written.iter().find(strange) {
            Some(version) => Err(Status::permission_denied(format!(
                "version {version} is of cluster {}, which has no copy of namespace {}",
                self.deps().clusters.cluster_of(*version),
                namespace.name
            ))),
            None => Ok(()),
        }
    }

    /// Whether a version is one of the namespace's clusters, or of a past of which nothing is known any more.
    fn is_of(&self, namespace: &Namespace, version: FailoverVersion) -> bool {
        let past = &namespace.failover_history;
        version.get() == 0
            || namespace.lives_in(&self.deps().clusters.cluster_of(version))
            || past.iter().any(|(_, known)| *known == version)
            || past.first().is_none_or(|(_, oldest)| version < *oldest)
    }
}
