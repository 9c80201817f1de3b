//! Changing a namespace: its description, settings, clusters and active cluster.

use std::{collections::HashMap, time::Duration};

use proto_ids::{ClusterName, Timestamp};
use proto_messages::{
    temporal::api::{
        enums::v1::NamespaceState,
        namespace::v1::{BadBinaryInfo, NamespaceConfig},
    },
    time,
};

use crate::{
    error::Refusal,
    namespace::Namespace,
    rules::{
        change::{Change, Stamp},
        directory::Topology,
        failover, handover,
        register::{NOT_MASTER, check_retention},
        replicas,
    },
};

/// Most bad binaries of a namespace.
const MAX_BAD_BINARIES: usize = 10;

/// The changes to a namespace. A field that is empty or `None` stays.
#[derive(Clone, Debug, Default)]
pub struct Update {
    /// Its description.
    pub description: String,
    /// Whom to ask.
    pub owner_email: String,
    /// Merged by key.
    pub data: HashMap<String, String>,
    /// The state, unless unspecified.
    pub state: NamespaceState,
    /// Settings; fields that are not set stay, bad binaries and aliases are merged by key.
    pub config: Option<NamespaceConfig>,
    /// A bad binary's checksum to forget.
    pub delete_bad_binary: String,
    /// Clusters, active cluster, handover.
    pub replication: ReplicationChange,
    /// Whether a local namespace becomes global.
    pub promote: bool,
}

/// The changes to its clusters.
#[derive(Clone, Debug, Default)]
pub struct ReplicationChange {
    /// The active cluster; empty leaves it.
    pub active_cluster: ClusterName,
    /// All clusters; empty leaves them.
    pub clusters: Vec<ClusterName>,
    /// Whether writes are held back; `None` leaves it.
    pub handover: Option<bool>,
    /// How long they are held back at most; by default [`HANDOVER_MAX`].
    pub hold_for: Option<Duration>,
    /// Refuse when the row was written since it had this `notification_version`.
    pub expected_version: Option<i64>,
}

/// How long a hand-over may last when its caller names nothing shorter, as Temporal's own does.
pub const HANDOVER_MAX: Duration = Duration::from_secs(30);

/// The namespace after the update; `None` when nothing would change.
pub fn update(
    topology: &Topology,
    before: &Namespace,
    wanted: Update,
    stamp: Stamp,
) -> Result<Option<Change>, Refusal> {
    if let Some(expected) = wanted.replication.expected_version
        && expected != before.notification_version
    {
        return Err(Refusal::Precondition(format!(
            "namespace {} was changed meanwhile",
            before.name
        )));
    }
    if wanted.replication.handover.is_some()
        && wanted.replication.active_cluster.is_empty()
        && before.is_held_since_restore()
    {
        return Err(Refusal::Precondition(format!(
            "namespace {} is held because this cluster's database was put back from a copy; a failover ends that \
             (`meridian namespace failover`)",
            before.name
        )));
    }
    let mut after = before.clone();
    let fails_over = !wanted.replication.active_cluster.is_empty();
    let promotes = wanted.promote && !before.is_global;
    describe(&mut after, &wanted, fails_over)?;
    if let Some(config) = wanted.config {
        configure(&mut after, config, stamp)?;
    }
    if !wanted.delete_bad_binary.is_empty()
        && after
            .bad_binaries
            .remove(&wanted.delete_bad_binary)
            .is_none()
    {
        return Err(Refusal::Invalid(format!(
            "Bad binary checksum {} doesn't exists.",
            wanted.delete_bad_binary
        )));
    }
    let clusters = replicas::distinct(wanted.replication.clusters);
    if !clusters.is_empty() {
        after.clusters = clusters;
    }
    if promotes {
        failover::promote(topology, &mut after, stamp)?;
    }
    if let Some(hold) = wanted.replication.handover
        && !fails_over
        && hold != after.handover
    {
        if hold {
            handover::check(&after)?;
        }
        after.handover = hold;
        let hold_for = wanted.replication.hold_for.unwrap_or(HANDOVER_MAX);
        after.handover_until = match hold {
            true => stamp.now.plus(hold_for.min(HANDOVER_MAX)),
            false => Timestamp::ZERO,
        };
    }
    if before.is_global && fails_over && differs(before, &after) {
        return Err(Refusal::invalid(
            "Cannot set active cluster to current cluster when other parameters are set.",
        ));
    }
    if differs(before, &after) {
        after.config_version += 1;
    }
    if fails_over {
        let to = &wanted.replication.active_cluster;
        match after.is_global {
            true => failover::fail_over(topology, &mut after, to, stamp)?,
            false => after.active_cluster = to.clone(),
        }
    }
    replicas::check(topology, &after)?;
    if after == *before {
        return Ok(None);
    }
    after.notification_version = stamp.notification_version;
    Ok(Some(Change::of(Some(before), after)))
}

/// The namespace, closed to new workflows.
pub fn deprecate(
    before: &Namespace,
    is_master: bool,
    stamp: Stamp,
) -> Result<Option<Change>, Refusal> {
    if before.is_global && !is_master {
        return Err(Refusal::invalid(NOT_MASTER));
    }
    let mut after = before.clone();
    set_state(&mut after, NamespaceState::Deprecated)?;
    if after == *before {
        return Ok(None);
    }
    after.config_version += 1;
    after.notification_version = stamp.notification_version;
    Ok(Some(Change::of(Some(before), after)))
}

/// Whether settings, description or clusters differ: everything that `config_version` counts.
fn differs(before: &Namespace, after: &Namespace) -> bool {
    let neutral = Namespace {
        is_global: before.is_global,
        active_cluster: before.active_cluster.clone(),
        failover_version: before.failover_version,
        failover_notification_version: before.failover_notification_version,
        failover_history: before.failover_history.clone(),
        ..after.clone()
    };
    neutral != *before
}

fn describe(after: &mut Namespace, wanted: &Update, fails_over: bool) -> Result<(), Refusal> {
    if !wanted.description.is_empty() {
        after.description.clone_from(&wanted.description);
    }
    if !wanted.owner_email.is_empty() {
        after.owner_email.clone_from(&wanted.owner_email);
    }
    after.data.extend(wanted.data.clone());
    if wanted.state != NamespaceState::Unspecified && wanted.state as i32 != after.state {
        if after.handover && !fails_over {
            return Err(Refusal::invalid(
                "cannot update namespace state while its replication state in handover",
            ));
        }
        set_state(after, wanted.state)?;
    }
    Ok(())
}

fn set_state(namespace: &mut Namespace, to: NamespaceState) -> Result<(), Refusal> {
    use NamespaceState::{Deleted, Deprecated, Registered};
    let from = namespace.api_state();
    let allowed = from == to
        || matches!(
            (from, to),
            (Registered, Deprecated | Deleted) | (Deprecated, Deleted)
        );
    if !allowed {
        return Err(Refusal::invalid("Invalid namespace state update."));
    }
    namespace.state = to as i32;
    Ok(())
}

fn configure(after: &mut Namespace, config: NamespaceConfig, stamp: Stamp) -> Result<(), Refusal> {
    if let Some(mut retention) = config.workflow_execution_retention_ttl {
        time::cap_duration(Some(&mut retention));
        let retention = time::duration_from_proto(Some(&retention));
        check_retention(retention, after.is_global)?;
        after.retention = retention;
    }
    if config.history_archival_state != 0 {
        after.archival.history_state = config.history_archival_state;
    }
    if !config.history_archival_uri.is_empty() {
        after.archival.history_uri = config.history_archival_uri;
    }
    if config.visibility_archival_state != 0 {
        after.archival.visibility_state = config.visibility_archival_state;
    }
    if !config.visibility_archival_uri.is_empty() {
        after.archival.visibility_uri = config.visibility_archival_uri;
    }
    for (checksum, info) in config.bad_binaries.unwrap_or_default().binaries {
        let create_time = Some(time::to_proto(stamp.now));
        after.bad_binaries.insert(
            checksum,
            BadBinaryInfo {
                create_time,
                ..info
            },
        );
    }
    if after.bad_binaries.len() > MAX_BAD_BINARIES {
        return Err(Refusal::Invalid(format!(
            "Total resetBinaries cannot exceed the max limit: {MAX_BAD_BINARIES}"
        )));
    }
    alias(after, config.custom_search_attribute_aliases)
}

/// Adds aliases and, where the alias is empty, removes them. A field keeps its alias until then.
fn alias(after: &mut Namespace, aliases: HashMap<String, String>) -> Result<(), Refusal> {
    for (field, alias) in aliases {
        if alias.is_empty() {
            after.custom_search_attribute_aliases.remove(&field);
            continue;
        }
        let known = after.custom_search_attribute_aliases.get(&field);
        if known.is_some_and(|k| *k != alias) {
            return Err(Refusal::invalid(
                "Custom search attribute field name already allocated.",
            ));
        }
        after.custom_search_attribute_aliases.insert(field, alias);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
