//! Where a call is served: here, or in the cluster where its namespace is active.

use std::{fmt, str::FromStr};

use cluster_runtime::{AnyKey, Key, Settings};
use namespaces::Namespace;
use proto_ids::ClusterName;
use tonic::metadata::{MetadataMap, MetadataValue};

/// "false" from a client: do not pass this call on.
const REDIRECTION: &str = "xdc-redirection";
/// "true": passed on by another cluster; served here whatever happens.
const REDIRECTION_API: &str = "xdc-redirection-api";
/// The cluster that forwarded the call.
const SOURCE_CELL: &str = "xdc-redirection-source-cell";

static AUTO_FORWARDING: Key<bool> = Key::new(
    "system.enableNamespaceNotActiveAutoForwarding",
    true,
    "Whether calls on a namespace that is active elsewhere are passed on.",
);
static FORCE_SELECTED: Key<bool> = Key::new(
    "system.forceNamespaceSelectedAPIAutoForwarding",
    false,
    "Whether only the selected APIs of a namespace are passed on, whatever the policy.",
);

/// All settings of this file.
pub(crate) static KEYS: &[&dyn AnyKey] = &[&AUTO_FORWARDING, &FORCE_SELECTED];

/// Which calls are passed on to the active cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardingPolicy {
    /// None.
    Noop,
    /// Those that clients start, signal, query and end workflows with.
    Selected,
    /// All that name a namespace.
    #[default]
    All,
}

/// Under which policy an RPC is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forwarded {
    /// Under both.
    Selected,
    /// Only when all are.
    All,
    /// Never.
    Never,
}

/// The redirection headers of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RedirectionHeaders {
    /// The client wants it served here.
    pub(crate) declined: bool,
    /// Another cluster passed it on.
    pub(crate) came_over: bool,
}

/// The text names no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a redirection policy; policies are noop, selected-apis-forwarding and \
     all-apis-forwarding"
)]
pub struct UnknownForwardingPolicy(String);

impl RedirectionHeaders {
    pub(crate) fn read(headers: &MetadataMap) -> Self {
        let text = |name| headers.get(name).and_then(|v| v.to_str().ok());
        Self {
            declined: text(REDIRECTION).is_some_and(|v| v.eq_ignore_ascii_case("false")),
            came_over: text(REDIRECTION_API).is_some_and(|v| v.eq_ignore_ascii_case("true")),
        }
    }

    /// Whether the call stays here.
    pub(crate) fn stays(self) -> bool {
        self.declined || self.came_over
    }
}

impl ForwardingPolicy {
    /// Whether an RPC on this namespace may be passed on at all.
    pub(crate) fn allows(self, kind: Forwarded, settings: &Settings, namespace: &str) -> bool {
        if kind == Forwarded::Never
            || self == Self::Noop
            || !settings.get_for_namespace(&AUTO_FORWARDING, namespace)
        {
            return false;
        }
        let all = self == Self::All && !settings.get_for_namespace(&FORCE_SELECTED, namespace);
        all || kind == Forwarded::Selected
    }
}

/// The cluster to pass a call on to; `None` when the namespace is active here or knows no other place.
pub(crate) fn elsewhere<'a>(
    namespace: &'a Namespace,
    current: &ClusterName,
) -> Option<&'a ClusterName> {
    let away = namespace.is_replicated() && !namespace.is_active_in(current);
    away.then_some(&namespace.active_cluster)
}

/// The headers of a call that is passed on: the caller's own, without those that belong to the
/// connection it came by, and the marks that keep it from being passed on again.
pub(crate) fn headers(from: &MetadataMap, current: &ClusterName) -> MetadataMap {
    let mut headers = from.clone().into_headers();
    let hop: Vec<_> = headers
        .keys()
        .filter(|k| {
            let name = k.as_str();
            name.starts_with("grpc-")
                || matches!(
                    name,
                    "te" | "content-type" | "user-agent" | "host" | "content-length"
                )
        })
        .cloned()
        .collect();
    for name in hop {
        headers.remove(name);
    }
    let mut headers = MetadataMap::from_headers(headers);
    headers.insert(REDIRECTION_API, MetadataValue::from_static("true"));
    if let Ok(name) = MetadataValue::try_from(current.as_str()) {
        headers.insert(SOURCE_CELL, name);
    }
    headers
}

impl FromStr for ForwardingPolicy {
    type Err = UnknownForwardingPolicy;

    fn from_str(text: &str) -> Result<Self, UnknownForwardingPolicy> {
        match text {
            "" | "noop" => Ok(Self::Noop),
            "selected-apis-forwarding" => Ok(Self::Selected),
            "all-apis-forwarding" => Ok(Self::All),
            other => Err(UnknownForwardingPolicy(other.to_owned())),
        }
    }
}

impl fmt::Display for ForwardingPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Noop => "noop",
            Self::Selected => "selected-apis-forwarding",
            Self::All => "all-apis-forwarding",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_choose_by_kind() {
        let settings = Settings::new();
        let allowed = |policy: ForwardingPolicy| {
            [Forwarded::Selected, Forwarded::All, Forwarded::Never]
                .map(|kind| policy.allows(kind, &settings, "orders"))
        };
        assert_eq!(allowed(ForwardingPolicy::Noop), [false; 3]);
        assert_eq!(allowed(ForwardingPolicy::Selected), [true, false, false]);
        assert_eq!(allowed(ForwardingPolicy::All), [true, true, false]);
        let off = Settings::of([("system.enableNamespaceNotActiveAutoForwarding", false)]);
        assert!(!ForwardingPolicy::All.allows(Forwarded::Selected, &off, "orders"));
        let narrow = Settings::of([("system.forceNamespaceSelectedAPIAutoForwarding", true)]);
        assert!(!ForwardingPolicy::All.allows(Forwarded::All, &narrow, "orders"));
        assert!(ForwardingPolicy::All.allows(Forwarded::Selected, &narrow, "orders"));
        assert_eq!("".parse(), Ok(ForwardingPolicy::Noop));
        assert!("some".parse::<ForwardingPolicy>().is_err());
    }

    #[test]
    fn a_call_that_is_passed_on_carries_its_marks_and_nothing_of_the_hop() {
        let mut from = MetadataMap::new();
        from.insert("client-name", "temporal-go".parse().unwrap());
        from.insert("grpc-timeout", "70S".parse().unwrap());
        from.insert("grpc-encoding", "gzip".parse().unwrap());
        assert!(!RedirectionHeaders::read(&from).stays());
        let onward = headers(&from, &"west".into());
        assert!(RedirectionHeaders::read(&onward).came_over);
        assert_eq!(onward.get(SOURCE_CELL).unwrap(), "west");
        assert!(onward.get("client-name").is_some());
        assert!(onward.get("grpc-timeout").is_none() && onward.get("grpc-encoding").is_none());
        from.insert(REDIRECTION, "false".parse().unwrap());
        assert!(RedirectionHeaders::read(&from).declined);
    }
}
