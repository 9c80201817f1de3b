//! Registering a namespace.

use std::{collections::HashMap, time::Duration};

use proto_ids::{ClusterName, FailoverVersion, NamespaceId, NamespaceName};
use proto_messages::temporal::api::enums::v1::NamespaceState;

use crate::{
    error::Refusal,
    namespace::{Archival, Namespace},
    rules::{
        change::{Change, Stamp},
        directory::Topology,
        replicas,
    },
};

/// The namespace to be registered.
#[derive(Clone, Debug, Default)]
pub struct Registration {
    /// Its name.
    pub name: NamespaceName,
    /// Its description.
    pub description: String,
    /// Whom to ask.
    pub owner_email: String,
    /// Free text by key.
    pub data: HashMap<String, String>,
    /// How long closed runs are kept.
    pub retention: Duration,
    /// Archival settings.
    pub archival: Archival,
    /// Whether it can be replicated.
    pub is_global: bool,
    /// Where it may be written; empty means here.
    pub active_cluster: ClusterName,
    /// Where it lives; empty means where it is active.
    pub clusters: Vec<ClusterName>,
}

/// A new namespace. `is_master` tells whether this cluster may register global ones.
pub fn register(
    topology: &Topology,
    is_master: bool,
    wanted: Registration,
    id: NamespaceId,
    stamp: Stamp,
) -> Result<Change, Refusal> {
    if wanted.is_global {
        if !topology.current()?.is_global_namespace_enabled {
            return Err(Refusal::invalid(
                "Cannot register global namespace when not enabled",
            ));
        }
        if !is_master {
            return Err(Refusal::invalid(NOT_MASTER));
        }
    }
    check_retention(wanted.retention, wanted.is_global)?;
    let active_cluster = match wanted.active_cluster.is_empty() {
        true => topology.current.clone(),
        false => wanted.active_cluster,
    };
    let mut clusters = replicas::distinct(wanted.clusters);
    if clusters.is_empty() {
        clusters.push(active_cluster.clone());
    }
    let mut namespace = Namespace {
        id,
        name: wanted.name,
        state: NamespaceState::Registered as i32,
        description: wanted.description,
        owner_email: wanted.owner_email,
        data: wanted.data,
        retention: wanted.retention,
        archival: wanted.archival,
        is_global: wanted.is_global,
        active_cluster,
        clusters,
        notification_version: stamp.notification_version,
        ..Namespace::default()
    };
    replicas::check(topology, &namespace)?;
    if namespace.is_global {
        namespace.failover_version =
            topology.next_version(&namespace.active_cluster, FailoverVersion::new(0))?;
    }
    Ok(Change::of(None, namespace))
}

pub(super) const NOT_MASTER: &str =
    "Cluster is not master cluster, cannot do namespace registration or namespace update.";

/// Least retention of local and of global namespaces.
const MIN_LOCAL: Duration = Duration::from_secs(3_600);
const MIN_GLOBAL: Duration = Duration::from_secs(86_400);

pub(super) fn check_retention(retention: Duration, is_global: bool) -> Result<(), Refusal> {
    let least = if is_global { MIN_GLOBAL } else { MIN_LOCAL };
    if retention < least {
        return Err(Refusal::invalid(
            "A valid retention period is not set on request.",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::samples;

    fn wanted() -> Registration {
        Registration {
            name: "orders".into(),
            retention: Duration::from_secs(86_400),
            is_global: true,
            clusters: vec!["west".into(), "east".into(), "west".into()],
            ..Default::default()
        }
    }

    fn try_it(wanted: Registration) -> Result<Change, Refusal> {
        let stamp = Stamp {
            notification_version: 5,
            ..Default::default()
        };
        register(&samples::topology("west"), true, wanted, "id".into(), stamp)
    }

    #[test]
    fn defaults_and_versions() {
        let change = try_it(wanted()).unwrap();
        assert_eq!(change.namespace.active_cluster.as_str(), "west");
        assert_eq!(change.namespace.clusters, ["west".into(), "east".into()]);
        assert_eq!(change.namespace.failover_version.get(), 1);
        assert_eq!(change.namespace.notification_version, 5);
        assert!(change.publish.is_some());

        let local = Registration {
            is_global: false,
            clusters: vec![],
            ..wanted()
        };
        let change = try_it(local).unwrap();
        assert_eq!(change.namespace.failover_version.get(), 0);
        assert!(change.publish.is_none());

        let elsewhere = Registration {
            active_cluster: "east".into(),
            ..wanted()
        };
        assert_eq!(
            try_it(elsewhere).unwrap().namespace.failover_version.get(),
            2
        );
    }

    #[test]
    fn what_cannot_be_registered() {
        let text = |w: Registration| try_it(w).unwrap_err().to_string();
        let local = || Registration {
            is_global: false,
            clusters: vec![],
            ..wanted()
        };
        let short = Registration {
            retention: Duration::from_secs(86_399),
            ..wanted()
        };
        assert_eq!(
            text(short),
            "A valid retention period is not set on request."
        );
        let short = Registration {
            retention: Duration::from_secs(3_599),
            ..local()
        };
        assert_eq!(
            text(short),
            "A valid retention period is not set on request."
        );
        let unknown = Registration {
            clusters: vec!["west".into(), "mars".into()],
            ..wanted()
        };
        assert_eq!(text(unknown), "Invalid cluster name: mars.");
        let outside = Registration {
            active_cluster: "east".into(),
            clusters: vec!["west".into()],
            ..wanted()
        };
        assert_eq!(
            text(outside),
            "Active cluster is not contained in all clusters."
        );
        let spread = Registration {
            is_global: false,
            ..wanted()
        };
        assert_eq!(text(spread), "Invalid local namespace clusters.");
        let remote = Registration {
            active_cluster: "east".into(),
            ..local()
        };
        assert_eq!(text(remote), "Invalid local namespace active cluster.");
        let refused = register(
            &samples::topology("west"),
            false,
            wanted(),
            "i".into(),
            Stamp::default(),
        );
        assert_eq!(refused.unwrap_err().to_string(), NOT_MASTER);
    }
}
