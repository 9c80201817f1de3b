//! Rates and numbers of calls, per host and per namespace. A rate of zero means no limit, which is the
//! default: limits are for clusters that are shared.

use std::{collections::HashMap, sync::Arc};

use cluster_rpc::status;
use cluster_runtime::{
    AnyKey, Key, Settings, SharedClock,
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
static NAMESPACE: Key<f64> = Key::new(
    "frontend.namespaceRPS",
    0.0,
    "Calls per second of one namespace on one host; 0 means no limit.",
);
static VISIBILITY: Key<f64> = Key::new(
    "frontend.namespaceRPS.visibility",
    0.0,
    "List and count calls per second of one namespace on one host; 0 means no limit.",
);
static CONCURRENT: Key<i64> = Key::new(
    "frontend.namespaceCount",
    1_200,
    "Long calls of one kind that one namespace may have open on one host.",
);

/// All settings of this file.
pub(crate) static KEYS: &[&dyn AnyKey] = &[&HOST, &NAMESPACE, &VISIBILITY, &CONCURRENT];

/// Seconds' worth of calls that a namespace may make at once.
const BURST_RATIO: f64 = 2.0;

/// What a call counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Counts {
    /// As a call.
    Call,
    /// As a list or count.
    Visibility,
    /// As one that stays open long.
    Long,
}

pub(crate) struct Quota {
    settings: Settings,
    clock: SharedClock,
    host: Bucket,
    rates: RwLock<HashMap<(NamespaceId, bool), Arc<Bucket>>>,
    open: Arc<Mutex<Open>>,
}

type Open = HashMap<(NamespaceId, &'static str), i64>;

/// A long call's place; dropping it gives the place back.
pub(crate) struct Place {
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

    /// Lets a call in, or says why not. What is returned is held while the call runs.
    pub(crate) fn admit(
        &self,
        namespace: &Namespace,
        operation: &'static str,
        counts: Counts,
    ) -> Result<Option<Place>, Status> {
        let place = match counts {
            Counts::Long => Some(self.place(namespace, operation)?),
            _ => None,
        };
        let name = namespace.name.as_str();
        if counts == Counts::Visibility {
            let rate = self.settings.get_for_namespace(&VISIBILITY, name);
            self.take(namespace, true, rate)?;
        }
        self.take(
            namespace,
            false,
            self.settings.get_for_namespace(&NAMESPACE, name),
        )?;
        let rate = self.settings.get(&HOST);
        if rate > 0.0 && self.host.try_take(Rate::per_second(rate), 1).is_err() {
            return Err(status::resource_exhausted(
                ResourceExhaustedCause::RpsLimit,
                ResourceExhaustedScope::System,
                "service rate limit exceeded",
            ));
        }
        Ok(place)
    }

    fn take(&self, namespace: &Namespace, visibility: bool, rate: f64) -> Result<(), Status> {
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
        let rate = Rate::per_second(rate).burst_ratio(BURST_RATIO);
        bucket.try_take(rate, 1).map_err(|_| {
            status::resource_exhausted(
                ResourceExhaustedCause::RpsLimit,
                ResourceExhaustedScope::Namespace,
                "namespace rate limit exceeded",
            )
        })
    }

    fn place(&self, namespace: &Namespace, operation: &'static str) -> Result<Place, Status> {
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
        Ok(Place {
            open: self.open.clone(),
            key,
        })
    }
}

impl Drop for Place {
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
        let admit = || quota.admit(&namespace(), "Poll", Counts::Long);
        let (first, _second) = (admit().unwrap(), admit().unwrap());
        let refused = admit().err().unwrap();
        assert_eq!(
            refused.message(),
            "namespace concurrent poller limit exceeded"
        );
        assert!(quota.admit(&namespace(), "Other", Counts::Long).is_ok());
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
        let admit = || quota.admit(&namespace(), "Start", Counts::Call).map(drop);
        assert!(admit().is_ok() && admit().is_ok());
        assert_eq!(
            admit().unwrap_err().message(),
            "namespace rate limit exceeded"
        );
        clock.advance(std::time::Duration::from_secs(1));
        assert!(admit().is_ok());
        let free = Quota::new(Settings::new(), clock);
        for _ in 0..10_000 {
            free.admit(&namespace(), "Start", Counts::Call).unwrap();
        }
    }
}
