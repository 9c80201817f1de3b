//! A namespace as the running server sees it.

use std::{collections::HashMap, time::Duration};

use proto_ids::{ClusterName, FailoverVersion, NamespaceId, NamespaceName, Timestamp};
use proto_messages::temporal::api::{enums::v1::NamespaceState, namespace::v1::BadBinaryInfo};

/// A namespace. Its version numbers order changes: `config_version` rises with settings,
/// `failover_version` with the active cluster, `notification_version` with every write of the row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Namespace {
    /// Its id, for ever.
    pub id: NamespaceId,
    /// Its name.
    pub name: NamespaceName,
    /// The public `NamespaceState`'s number.
    pub state: i32,
    /// Its description.
    pub description: String,
    /// Whom to ask.
    pub owner_email: String,
    /// Free text by key.
    pub data: HashMap<String, String>,
    /// How long closed runs are kept.
    pub retention: Duration,
    /// Archival settings, kept as given and not acted on.
    pub archival: Archival,
    /// Worker binaries whose workflow tasks are refused, by checksum.
    pub bad_binaries: HashMap<String, BadBinaryInfo>,
    /// Field name to alias of custom search attributes.
    pub custom_search_attribute_aliases: HashMap<String, String>,
    /// Whether it can be replicated; local ones stay at failover version 0.
    pub is_global: bool,
    /// Where it may be written.
    pub active_cluster: ClusterName,
    /// Where it lives.
    pub clusters: Vec<ClusterName>,
    /// The version of events written now.
    pub failover_version: FailoverVersion,
    /// Rises with settings and the cluster list.
    pub config_version: i64,
    /// The `notification_version` of the last failover.
    pub failover_notification_version: i64,
    /// The counter's value when the row was written last.
    pub notification_version: i64,
    /// Whether writes are held back for a planned failover.
    pub handover: bool,
    /// When a hand-over that was not finished is undone; unset while there is none. Ending it takes a write,
    /// so that of finishing and undoing exactly one happens.
    pub handover_until: Timestamp,
    /// The last failovers, oldest first.
    pub failover_history: Vec<(Timestamp, FailoverVersion)>,
}

/// Archival settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Archival {
    /// The public `ArchivalState`'s number, for histories.
    pub history_state: i32,
    /// Where histories go.
    pub history_uri: String,
    /// The public `ArchivalState`'s number, for visibility.
    pub visibility_state: i32,
    /// Where visibility goes.
    pub visibility_uri: String,
}

impl Namespace {
    /// Whether the cluster may write to it. A local namespace is active wherever it is.
    pub fn is_active_in(&self, cluster: &ClusterName) -> bool {
        !self.is_global || self.active_cluster == *cluster
    }

    /// Whether other clusters have a copy.
    pub fn is_replicated(&self) -> bool {
        self.is_global && self.clusters.len() > 1
    }

    /// Whether the cluster is one of its clusters.
    pub fn lives_in(&self, cluster: &ClusterName) -> bool {
        self.clusters.contains(cluster)
    }

    /// Whether it is held because this cluster's database was put back from a copy: until a failover has raised its
    /// version, nothing is written here.
    pub fn is_held_since_restore(&self) -> bool {
        self.handover && self.handover_until == Timestamp::MAX
    }

    /// Whether it has been deleted.
    pub fn is_deleted(&self) -> bool {
        self.state == NamespaceState::Deleted as i32
    }

    /// Its state, as the public API names it.
    pub fn api_state(&self) -> NamespaceState {
        NamespaceState::try_from(self.state).unwrap_or_default()
    }
}
