//! Merges a message from another cluster into the copy here. Settings and the active cluster are two
//! halves, each with a version of its own, and the higher version wins: whatever order messages come in,
//! all clusters end with the same namespace.

use proto_ids::{ClusterName, FailoverVersion, NamespaceId, Timestamp};
use proto_messages::{
    temporal::{
        api::{
            enums::v1::{NamespaceState, ReplicationState},
            namespace::v1::{NamespaceConfig, NamespaceInfo},
            replication::v1::NamespaceReplicationConfig,
        },
        server::api::{enums::v1::NamespaceOperation, replication::v1::NamespaceTaskAttributes},
    },
    time,
};

use crate::{
    error::Refusal,
    namespace::Namespace,
    rules::{Topology, VERSION_MAX, change::Stamp, replicas},
    {SYSTEM_NAMESPACE, SYSTEM_NAMESPACE_ID},
};

/// The operation of a message.
#[derive(Clone, Debug, PartialEq)]
pub enum Merge {
    /// A namespace this cluster has not.
    Create(Namespace),
    /// A newer state of one it has.
    Update(Namespace),
    /// Nothing: known already, or not for this cluster.
    Ignored,
}

/// The parts a message must have.
struct Message<'a> {
    id: NamespaceId,
    info: &'a NamespaceInfo,
    config: &'a NamespaceConfig,
    replication: &'a NamespaceReplicationConfig,
    task: &'a NamespaceTaskAttributes,
}

/// Decides about a message that `source` told; without one an operator vouches for it. `by_id` and `by_name` are
/// the namespaces that have its id and its name here. A cluster tells of namespaces that it shares, never of the server's own or of local ones.
pub fn merge(
    topology: &Topology,
    source: Option<&ClusterName>,
    by_id: Option<&Namespace>,
    by_name: Option<&Namespace>,
    task: &NamespaceTaskAttributes,
    stamp: Stamp,
) -> Result<Merge, Refusal> {
    let message = Message::read(task)?;
    let collides = by_id.is_some_and(|n| n.name.as_str() != message.info.name)
        || by_name.is_some_and(|n| n.id != message.id);
    if collides {
        return Err(Refusal::Collision {
            name: message.info.name.clone(),
            id: message.id.to_string(),
        });
    }
    message.check(topology)?;
    if by_id.is_some_and(|known| !known.is_global) {
        return Err(Refusal::Precondition(format!(
            "namespace {} is local here; what another cluster tells about it is not taken",
            message.info.name
        )));
    }
    let is_shared_with = |cluster: &ClusterName| match by_id {
        Some(known) => known.lives_in(cluster),
        None => message.clusters().contains(cluster),
    };
    if let Some(stranger) = source.filter(|s| !is_shared_with(s)) {
        return Err(Refusal::NotShared {
            namespace: message.info.name.clone(),
            cluster: stranger.to_string(),
        });
    }
    let current = &topology.current;
    match (by_id, task.namespace_operation()) {
        (_, NamespaceOperation::Unspecified) => Err(Refusal::invalid(
            "Invalid namespace operation in replication task.",
        )),
        (None, _) => Ok(message.create(current, stamp)),
        (Some(_), NamespaceOperation::Create) => Ok(Merge::Ignored),
        (Some(known), NamespaceOperation::Update) => Ok(message.update(known, stamp)),
    }
}

impl<'a> Message<'a> {
    fn read(task: &'a NamespaceTaskAttributes) -> Result<Self, Refusal> {
        let missing =
            |what| Refusal::Invalid(format!("{what} is not set on namespace replication task"));
        let info = task.info.as_ref().ok_or_else(|| missing("info"))?;
        if task.id.is_empty() {
            return Err(missing("id"));
        }
        if info.name.is_empty() {
            return Err(missing("name"));
        }
        let state = NamespaceState::try_from(info.state).unwrap_or_default();
        if !matches!(
            state,
            NamespaceState::Registered | NamespaceState::Deprecated
        ) {
            return Err(Refusal::invalid("Invalid namespace state attribute."));
        }
        Ok(Self {
            id: task.id.as_str().into(),
            info,
            config: task.config.as_ref().ok_or_else(|| missing("config"))?,
            replication: task
                .replication_config
                .as_ref()
                .ok_or_else(|| missing("replication config"))?,
            task,
        })
    }

    /// Whether it can be true at all, from any source.
    fn check(&self, topology: &Topology) -> Result<(), Refusal> {
        if self.info.name == SYSTEM_NAMESPACE || self.id.as_str() == SYSTEM_NAMESPACE_ID {
            return Err(Refusal::invalid(
                "the namespace of the server itself is not replicated",
            ));
        }
        for (what, version) in [
            ("failover version", self.task.failover_version),
            ("config version", self.task.config_version),
        ] {
            if !(0..=VERSION_MAX).contains(&version) {
                return Err(Refusal::Invalid(format!(
                    "{what} {version} of namespace {} is out of range",
                    self.info.name
                )));
            }
        }
        let active = ClusterName::from(self.replication.active_cluster_name.as_str());
        let owner = topology.cluster_of(FailoverVersion::new(self.task.failover_version));
        if topology.clusters.contains_key(&active) && owner != active {
            return Err(Refusal::Invalid(format!(
                "failover version {} of namespace {} belongs to {owner}, not to {active}, which is told to be active",
                self.task.failover_version, self.info.name
            )));
        }
        Ok(())
    }

    fn clusters(&self) -> Vec<ClusterName> {
        let names = self.replication.clusters.iter();
        replicas::distinct(names.map(|c| ClusterName::from(c.cluster_name.as_str())))
    }

    fn create(&self, current: &ClusterName, stamp: Stamp) -> Merge {
        if !self.clusters().contains(current) {
            return Merge::Ignored;
        }
        let mut namespace = Namespace {
            id: self.id.clone(),
            ..Namespace::default()
        };
        self.apply_settings(&mut namespace);
        // A namespace begins without bad binaries here, as it did where it was made.
        namespace.bad_binaries.clear();
        self.apply_failover(&mut namespace);
        namespace.notification_version = stamp.notification_version;
        Merge::Create(namespace)
    }

    fn update(&self, known: &Namespace, stamp: Stamp) -> Merge {
        let mut namespace = known.clone();
        if known.config_version < self.task.config_version {
            self.apply_settings(&mut namespace);
        }
        if known.failover_version.get() < self.task.failover_version {
            self.apply_failover(&mut namespace);
            namespace.failover_notification_version = stamp.notification_version;
        }
        if namespace == *known {
            return Merge::Ignored;
        }
        namespace.notification_version = stamp.notification_version;
        Merge::Update(namespace)
    }

    fn apply_settings(&self, namespace: &mut Namespace) {
        namespace.set_info(self.info.clone());
        namespace.id = self.id.clone();
        namespace.set_config(self.config.clone());
        namespace.clusters = self.clusters();
        namespace.config_version = self.task.config_version;
        namespace.is_global = true;
    }

    fn apply_failover(&self, namespace: &mut Namespace) {
        namespace.active_cluster = self.replication.active_cluster_name.as_str().into();
        namespace.handover = self.replication.state() == ReplicationState::Handover;
        if !namespace.handover {
            namespace.handover_until = Timestamp::ZERO;
        }
        namespace.failover_version = FailoverVersion::new(self.task.failover_version);
        namespace.failover_history = self
            .task
            .failover_history
            .iter()
            .map(|f| {
                let at = f
                    .failover_time
                    .as_ref()
                    .map(time::from_proto)
                    .unwrap_or_default();
                (at, FailoverVersion::new(f.failover_version))
            })
            .collect();
    }
}

#[cfg(test)]
mod tests;
