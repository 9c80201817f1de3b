//! Newtypes for ids, versions and moments, and the text of durations. Every id and sequence number of the system has a type of
//! its own here, so that two bare integers or strings side by side cannot be swapped. No dependency,
//! no wire format, no rule.

mod duration;

pub use duration::{
    duration_argument, parse_duration, parse_go_duration, parse_go_duration_or_days,
};

use std::{fmt, sync::Arc, time::Duration};

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Wraps the text; cloning the result does not copy it.
            pub fn new(text: impl AsRef<str>) -> Self {
                Self(Arc::from(text.as_ref()))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Whether the text is empty, which the wire uses for "not set".
            pub fn is_empty(&self) -> bool {
                self.0.is_empty()
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self(Arc::from(""))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self::new(text)
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(Arc::from(text))
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.as_ref().to_owned()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident($int:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name($int);

        impl $name {
            /// Wraps the number.
            pub const fn new(value: $int) -> Self {
                Self(value)
            }

            /// The number.
            pub const fn get(self) -> $int {
                self.0
            }

            /// The number after this one.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<$int> for $name {
            fn from(value: $int) -> Self {
                Self(value)
            }
        }
    };
}

text_id!(
    /// A namespace's immutable id, a UUID in text form.
    NamespaceId
);
text_id!(
    /// A namespace's name.
    NamespaceName
);
text_id!(
    /// A workflow id, chosen by the client; unique among open runs of a namespace.
    WorkflowId
);
text_id!(
    /// One run of a workflow, a UUID in text form.
    RunId
);
text_id!(
    /// A cluster's name in the cluster directory.
    ClusterName
);

number_id!(
    /// A history shard, 1 to the cluster's shard count.
    ShardId(i32)
);
number_id!(
    /// A shard's ownership generation: each acquisition raises it by one, and every write names it.
    RangeId(i64)
);
number_id!(
    /// The position of an event in one run's history; the first is 1, 0 means none.
    EventId(i64)
);
number_id!(
    /// A queue task's position; strictly rising within a shard, across owners.
    TaskId(i64)
);
number_id!(
    /// A namespace's failover version: its residue modulo the increment names the cluster that may
    /// write. 0 for local namespaces.
    FailoverVersion(i64)
);

impl ShardId {
    /// The shards of a cluster with `target` shards that hold what this shard of one with `source` holds. One
    /// of the counts divides the other.
    pub fn mapped(self, source: i32, target: i32) -> Vec<Self> {
        if target < 1 {
            return Vec::new();
        }
        if source >= target {
            return vec![Self((self.0 - 1) % target + 1)];
        }
        (self.0..=target)
            .step_by(usize::try_from(source.max(1)).unwrap_or(1))
            .map(Self)
            .collect()
    }

    /// The shard of a workflow in a cluster of `count` shards. The hash is on the wire between clusters:
    /// FarmHash Fingerprint32 of `namespace_id + "_" + workflow_id`, modulo the count, plus one.
    pub fn for_workflow(namespace_id: &NamespaceId, workflow_id: &WorkflowId, count: i32) -> Self {
        let text = format!("{namespace_id}_{workflow_id}");
        let hash = farmhash::fingerprint32(text.as_bytes());
        Self::new((hash % count.max(1) as u32) as i32 + 1)
    }
}

/// A moment, in nanoseconds since the Unix epoch. 0 means "not set", as on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The unset moment.
    pub const ZERO: Self = Self(0);

    /// The latest timestamp.
    pub const MAX: Self = Self(i64::MAX);

    /// A moment from nanoseconds since the Unix epoch.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// A moment from milliseconds since the Unix epoch; saturates.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// Nanoseconds since the Unix epoch.
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// Milliseconds since the Unix epoch, rounded down.
    pub const fn millis(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Whether this is the unset moment.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The moment `d` later; saturates.
    #[must_use]
    pub fn plus(self, d: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(d.as_nanos()).unwrap_or(i64::MAX)),
        )
    }

    /// The moment `d` earlier; saturates.
    #[must_use]
    pub fn minus(self, d: Duration) -> Self {
        Self(
            self.0
                .saturating_sub(i64::try_from(d.as_nanos()).unwrap_or(i64::MAX)),
        )
    }

    /// How long after `earlier` this moment is; zero when it is not after.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.{:09}",
            self.0.div_euclid(1_000_000_000),
            self.0.rem_euclid(1_000_000_000)
        )
    }
}

/// One run: namespace, workflow id and run id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunKey {
    /// The namespace.
    pub namespace_id: NamespaceId,
    /// The workflow id.
    pub workflow_id: WorkflowId,
    /// The run.
    pub run_id: RunId,
}

impl RunKey {
    /// The key of a run.
    pub fn new(
        namespace_id: impl Into<NamespaceId>,
        workflow_id: impl Into<WorkflowId>,
        run_id: impl Into<RunId>,
    ) -> Self {
        Self {
            namespace_id: namespace_id.into(),
            workflow_id: workflow_id.into(),
            run_id: run_id.into(),
        }
    }
}

impl fmt::Display for RunKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{}/{}",
            self.namespace_id, self.workflow_id, self.run_id
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_agree_with_other_implementations() {
        let ns = NamespaceId::new("32049b68-7872-4094-8e63-d0dd59896a83");
        for (workflow, shards) in [("wf", [1, 5, 333]), ("order-42", [4, 4, 380])] {
            for (count, shard) in [4, 8, 512].into_iter().zip(shards) {
                let found = ShardId::for_workflow(&ns, &WorkflowId::new(workflow), count);
                assert_eq!(found, ShardId::new(shard), "{workflow} of {count}");
            }
        }
    }
}
