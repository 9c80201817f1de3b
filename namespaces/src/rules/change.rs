//! The result of a rule: the namespace as it is to be written, and whether other clusters are notified.

use proto_ids::Timestamp;
use proto_messages::temporal::server::api::enums::v1::NamespaceOperation;

use crate::namespace::Namespace;

/// The surroundings of one write.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stamp {
    /// The moment.
    pub now: Timestamp,
    /// The counter's value the write will get.
    pub notification_version: i64,
}

/// A write.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The namespace as it is to be written.
    pub namespace: Namespace,
    /// The message to other clusters; `None` when they are not concerned.
    pub publish: Option<NamespaceOperation>,
}

impl Change {
    /// A change of `before` (`None` for a new namespace) into `after`. Other clusters are notified of it when they
    /// have a copy, or just lost theirs.
    pub(super) fn of(before: Option<&Namespace>, after: Namespace) -> Self {
        let operation = match before {
            None => NamespaceOperation::Create,
            Some(_) => NamespaceOperation::Update,
        };
        let list_changed = before.is_some_and(|b| b.clusters != after.clusters);
        let concerned =
            after.is_global && !after.is_deleted() && (after.clusters.len() > 1 || list_changed);
        Self {
            publish: concerned.then_some(operation),
            namespace: after,
        }
    }
}
