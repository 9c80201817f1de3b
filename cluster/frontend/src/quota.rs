//! Rates and numbers of calls, per host and per namespace, and their priorities. A rate of zero means no
//! limit, which is the default: limits are for clusters that are shared.
//!
//! All calls of a bucket share its rate, and each [`Priority`] may drain it to a depth of its own only: while
//! calls of little weight come faster than the rate, the bucket stays at their depth, and what lies below
//! serves the others.

use std::{collections::HashMap, sync::Arc};

use cluster_rpc::status;
use cluster_runtime::{
    AnyKey, Key, Settings, SharedClock,
    overload::Class,
    rate::{Bucket, Rate},
};
use namespaces::Namespace;
use parking_lot::{Mutex, RwLock};
use proto_ids::NamespaceId;
use proto_messages::temporal::api::enums::v1::{ResourceExhaustedCause, ResourceExhaustedScope};
use tonic::Status;

static HOST: Key<f64> = Key::new(
    "frontend.rps",
    0.0,
    "Calls per second of one host; 0 means no limit.",
);
static HOST_GLOBAL: Key<f64> = Key::new(
    "frontend.globalRPS",
    0.0,
    "Calls per second of all hosts, in equal parts; goes before frontend.rps when set.",
);
static NAMESPACE: Key<f64> = Key::new(
    "frontend.namespaceRPS",
    0.0,
    "Calls per second of one namespace on one host; 0 means no limit.",
);
static NAMESPACE_GLOBAL: Key<f64> = Key::new(
    "frontend.globalNamespaceRPS",
    0.0,
    "Calls per second of one namespace on all hosts, in equal parts; goes before frontend.namespaceRPS when set.",
);
static NAMESPACE_BURST: Key<f64> = Key::new(
    "frontend.namespaceBurstRatio",
    2.0,
    "Seconds' worth of calls that a namespace may make at once.",
);
static VISIBILITY: Key<f64> = Key::new(
    "frontend.namespaceRPS.visibility",
    0.0,
    "List and count calls per second of one namespace on one host; 0 means no limit.",
);
static VISIBILITY_GLOBAL: Key<f64> = Key::new(
    "frontend.globalNamespaceRPS.visibility",
    0.0,
    "List and count calls per second of one namespace on all hosts, in equal parts; goes before \
     frontend.namespaceRPS.visibility when set.",
);
static VISIBILITY_BURST: Key<f64> = Key::new(
    "frontend.namespaceBurstRatio.visibility",
    1.0,
    "Seconds' worth of list and count calls that a namespace may make at once.",
);
static CONCURRENT: Key<i64> = Key::new(
    "frontend.namespaceCount",
    1_200,
    "Long calls of one kind that one namespace may have open on one host.",
);

/// All settings of this file.
pub(crate) static KEYS: &[&dyn AnyKey] = &[
    &HOST,
    &HOST_GLOBAL,
    &NAMESPACE,
    &NAMESPACE_GLOBAL,
    &NAMESPACE_BURST,
    &VISIBILITY,
    &VISIBILITY_GLOBAL,
    &VISIBILITY_BURST,
    &CONCURRENT,
];

/// The quota that counts a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Counts {
    /// Counted as a call.
    Call,
    /// Counted as a list or count.
    Visibility,
    /// Counted as a long poll.
    Long,
}

/// Which calls go before which, in the order of Temporal's API priorities, with one difference: there starts
/// go with completions and before polls, so that enough of them leave workers nothing. Here they come after
/// whatever brings work that exists to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Priority {
    /// Completions, heartbeats, and the polls that lead to them.
    Progress,
    /// Events from outside, other changes, and histories for replay.
    Event,
    /// New workflows.
    Start,
    /// Reads of states, and failures that workers report: those tasks are tried again anyway.
    Status,
    /// Calls that can wait, such as a long poll on a history.
    Low,
}

impl Priority {
    /// The part of a bucket that calls of this priority may drain.
    fn depth(self) -> f64 {
        match self {
            Self::Progress => 1.0,
            Self::Event => 0.9,
            Self::Start => 0.75,
            Self::Status => 0.6,
            Self::Low => 0.5,
        }
    }

    /// The class of the call under overload.
    pub(crate) fn class(self) -> Class {
        match self {
            Self::Progress => Class::Progress,
            Self::Event => Class::Event,
            Self::Start => Class::Start,
            Self::Status | Self::Low => Class::Read,
        }
    }
}

pub(crate) struct Quota {
    settings: Settings,
    clock: SharedClock,
    host: Bucket,
    rates: RwLock<HashMap<(NamespaceId, bool), Arc<Bucket>>>,
    open: Arc<Mutex<Open>>,
}

type Open = HashMap<(NamespaceId, &'static str), i64>;

/// The permit of a long call; dropping it returns it.
pub(crate) struct Permit {
    open: Arc<Mutex<Open>>,
    key: (NamespaceId, &'static str),
}

impl Quota {
    pub(crate) fn new(settings: Settings, clock: SharedClock) -> Self {
        Self {
            host: Bucket::new(clock.clone()),
            settings,
            clock,
            rates: RwLock::default(),
            open: Arc::default(),
        }
    }

    /// Lets a call in, or says why not. What is returned is held while the call runs. `hosts` is how many
    /// share the rates of all hosts.
    pub(crate) fn admit(
        &self,
        namespace: &Namespace,
        operation: &'static str,
        counts: Counts,
        priority: Priority,
        hosts: &dyn Fn() -> usize,
    ) -> Result<Option<Permit>, Status> {
        let permit = match counts {
            Counts::Long => Some(self.permit(namespace, operation)?),
            _ => None,
        };
        let name = namespace.name.as_str();
        if counts == Counts::Visibility {
            let rate = self.rate(&VISIBILITY, &VISIBILITY_GLOBAL, name, hosts);
            let burst = self.settings.get_for_namespace(&VISIBILITY_BURST, name);
            // All of these are alike.
            self.take(namespace, true, rate, burst)?;
        }
        let rate = self.rate(&NAMESPACE, &NAMESPACE_GLOBAL, name, hosts);
        if rate > 0.0 {
            let burst = self.settings.get_for_namespace(&NAMESPACE_BURST, name);
            self.take(namespace, false, rate, burst * priority.depth())?;
        }
        let rate = self.rate(&HOST, &HOST_GLOBAL, name, hosts);
        let rate = Rate::per_second(rate).burst_ratio(priority.depth());
        if rate.per_second > 0.0 && self.host.try_take(rate, 1).is_err() {
            return Err(status::resource_exhausted(
                ResourceExhaustedCause::RpsLimit,
                ResourceExhaustedScope::System,
                "service rate limit exceeded",
            ));
        }
        Ok(permit)
    }

    /// The rate of this host: its part of the rate of all, when there is one, else its own.
    fn rate(
        &self,
        own: &'static Key<f64>,
        global: &'static Key<f64>,
        namespace: &str,
        hosts: &dyn Fn() -> usize,
    ) -> f64 {
        let of_all = self.settings.get_for_namespace(global, namespace);
        match of_all > 0.0 {
            true => of_all / hosts().max(1) as f64,
            false => self.settings.get_for_namespace(own, namespace),
        }
    }

    fn take(
        &self,
        namespace: &Namespace,
        visibility: bool,
        rate: f64,
        burst_ratio: f64,
    ) -> Result<(), Status> {
        if rate <= 0.0 {
            return Ok(());
        }
        let key = (namespace.id.clone(), visibility);
        let known = self.rates.read().get(&key).cloned();
        let bucket = known.unwrap_or_else(|| {
            let mut rates = self.rates.write();
            let made = || Arc::new(Bucket::new(self.clock.clone()));
            rates.entry(key).or_insert_with(made).clone()
        });
        let rate = Rate::per_second(rate).burst_ratio(burst_ratio);
        bucket.try_take(rate, 1).map_err(|_| {
            status::resource_exhausted(
                ResourceExhaustedCause::RpsLimit,
                ResourceExhaustedScope::Namespace,
                "namespace rate limit exceeded",
            )
        })
    }

    fn permit(&self, namespace: &Namespace, operation: &'static str) -> Result<Permit, Status> {
        let limit = self
            .settings
            .get_for_namespace(&CONCURRENT, namespace.name.as_str());
        let key = (namespace.id.clone(), operation);
        let mut open = self.open.lock();
        let count = open.entry(key.clone()).or_default();
        if *count >= limit {
            return Err(status::resource_exhausted(
                ResourceExhaustedCause::ConcurrentLimit,
                ResourceExhaustedScope::Namespace,
                "namespace concurrent poller limit exceeded",
            ));
        }
        *count += 1;
        drop(open);
        Ok(Permit {
            open: self.open.clone(),
            key,
        })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut open = self.open.lock();
        if let Some(count) = open.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use cluster_runtime::ManualClock;

    use super::*;

    fn namespace() -> Namespace {
        Namespace {
            id: "id".into(),
            name: "orders".into(),
            ..Default::default()
        }
    }

    #[test]
    fn places_come_back() {
        let settings = Settings::of([("frontend.namespaceCount", 2)]);
        let quota = Quota::new(settings, ManualClock::new(0));
        let admit = || {
            quota.admit(
                &namespace(),
                "Poll",
                Counts::Long,
                Priority::Progress,
                &|| 1,
            )
        };
        let (first, _second) = (admit().unwrap(), admit().unwrap());
        let refused = admit().err().unwrap();
        assert_eq!(
            refused.message(),
            "namespace concurrent poller limit exceeded"
        );
        let other = quota.admit(
            &namespace(),
            "Other",
            Counts::Long,
            Priority::Progress,
            &|| 1,
        );
        assert!(other.is_ok());
        drop(first);
        assert!(admit().is_ok());
    }

    #[test]
    fn rates_hold_when_set() {
        let clock = ManualClock::new(1_000_000_000);
        let quota = Quota::new(
            Settings::of([("frontend.namespaceRPS", 1.0)]),
            clock.clone(),
        );
        let call = |quota: &Quota, hosts: usize| {
            let namespace = namespace();
            let admitted = quota.admit(
                &namespace,
                "Call",
                Counts::Call,
                Priority::Progress,
                &|| hosts,
            );
            admitted.map(drop)
        };
        assert!(call(&quota, 1).is_ok() && call(&quota, 1).is_ok());
        assert_eq!(
            call(&quota, 1).unwrap_err().message(),
            "namespace rate limit exceeded"
        );
        clock.advance(std::time::Duration::from_secs(1));
        assert!(call(&quota, 1).is_ok());
        let free = Quota::new(Settings::new(), clock.clone());
        for _ in 0..10_000 {
            call(&free, 1).unwrap();
        }
        let shared = Settings::of([("frontend.globalNamespaceRPS", 10.0)]);
        let shared = Quota::new(shared, clock);
        let passed = (0..100).filter(|_| call(&shared, 5).is_ok()).count();
        assert_eq!(passed, 4, "a fifth of ten, two seconds' worth");
    }

    #[test]
    fn starts_beyond_the_rate_leave_polls_and_completions_theirs() {
        let clock = ManualClock::new(1_000_000_000);
        let quota = Quota::new(
            Settings::of([("frontend.namespaceRPS", 200.0)]),
            clock.clone(),
        );
        let call = |priority| {
            let namespace = namespace();
            let admitted = quota.admit(&namespace, "Call", Counts::Call, priority, &|| 1);
            admitted.is_ok()
        };
        let (mut starts, mut done) = (0, 0);
        // Ten seconds; in each hundredth of one thirty starts come, and then one completion.
        for _ in 0..1_000 {
            starts += (0..30).filter(|_| call(Priority::Start)).count();
            done += usize::from(call(Priority::Progress));
            clock.advance(std::time::Duration::from_millis(10));
        }
        assert_eq!(done, 1_000);
        // What the bucket held, and what completions leave of two hundred a second.
        assert!((1_000..=1_400).contains(&starts), "{starts}");
    }
}
