//! Settings that may change while the process runs. A [`Key`] is a static with a name, a default and a
//! line of documentation, declared by the crate that obeys it; a [`Settings`] handle answers with the
//! value of the moment. The server crate reads and parses files and calls
//! [`Settings::publish`]; all values change at once.
//!
//! Names compare without regard to case. A value may be confined to a namespace or a task queue; the
//! narrowest that fits wins. A value of the wrong type counts as absent and is logged once.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, OnceLock},
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::watch;

mod value;

pub use value::{Setting, Value};

/// A setting: `static RPS: Key<f64> = Key::new("frontend.rps", 2400.0, "Requests per second per host.");`
#[derive(Debug)]
pub struct Key<T> {
    name: &'static str,
    default: T,
    doc: &'static str,
    /// The name in lower case, as the published map has it; made at first use.
    folded: OnceLock<String>,
}

/// Where a value counts. Everything `None` means everywhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Only for this namespace, by name.
    pub namespace: Option<String>,
    /// Only for this task queue.
    pub task_queue: Option<String>,
}

/// A value and where it counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Scoped {
    /// Where it counts.
    pub scope: Scope,
    /// The value.
    pub value: Value,
}

/// All published values by name.
pub type Published = HashMap<String, Vec<Scoped>>;

/// A handle on the values of the moment. Clones see the same values.
#[derive(Clone, Debug)]
pub struct Settings(Arc<SettingsInner>);

#[derive(Debug)]
struct SettingsInner {
    current: ArcSwap<Snapshot>,
    version: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Snapshot {
    values: Published,
    /// Names already complained about since this snapshot was published.
    refused: Mutex<HashSet<&'static str>>,
}

impl<T> Key<T> {
    /// A key. `doc` is one sentence for the reference page.
    pub const fn new(name: &'static str, default: T, doc: &'static str) -> Self {
        Self {
            name,
            default,
            doc,
            folded: OnceLock::new(),
        }
    }

    /// The name.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Its description.
    pub const fn doc(&self) -> &'static str {
        self.doc
    }

    /// The value when nothing is published.
    pub const fn default(&self) -> &T {
        &self.default
    }

    fn folded(&self) -> &str {
        self.folded.get_or_init(|| self.name.to_lowercase())
    }
}

/// A key whatever its type, for the list of all that a process obeys: each crate has one, so that a key in a
/// file that no crate reads can be refused.
pub trait AnyKey: Sync {
    /// The name.
    fn name(&self) -> &'static str;
    /// Its description.
    fn doc(&self) -> &'static str;
    /// The value when nothing is published.
    fn default_text(&self) -> String;
    /// The type of its values, such as `a whole number`.
    fn kind(&self) -> &'static str;
    /// Whether the value is one of these.
    fn accepts(&self, value: &Value) -> bool;
}

impl<T: Setting + std::fmt::Debug> AnyKey for Key<T> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn doc(&self) -> &'static str {
        self.doc
    }

    fn default_text(&self) -> String {
        format!("{:?}", self.default)
    }

    fn kind(&self) -> &'static str {
        T::KIND
    }

    fn accepts(&self, value: &Value) -> bool {
        T::read(value).is_some()
    }
}

impl Scoped {
    /// A value that counts everywhere.
    pub fn everywhere(value: impl Into<Value>) -> Self {
        Self {
            scope: Scope::default(),
            value: value.into(),
        }
    }

    /// A value for one namespace.
    pub fn in_namespace(namespace: &str, value: impl Into<Value>) -> Self {
        let scope = Scope {
            namespace: Some(namespace.to_owned()),
            task_queue: None,
        };
        Self {
            scope,
            value: value.into(),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self(Arc::new(SettingsInner {
            current: ArcSwap::default(),
            version: watch::Sender::new(0),
        }))
    }
}

impl Settings {
    /// Nothing but defaults, until something is published.
    pub fn new() -> Self {
        Self::default()
    }

    /// Values that count everywhere, for tests and command lines.
    pub fn of<V: Into<Value>>(values: impl IntoIterator<Item = (&'static str, V)>) -> Self {
        let settings = Self::new();
        settings.publish(
            values
                .into_iter()
                .map(|(name, v)| (name.to_owned(), vec![Scoped::everywhere(v)]))
                .collect(),
        );
        settings
    }

    /// Replaces all values at once and wakes watchers.
    pub fn publish(&self, values: Published) {
        let values = values
            .into_iter()
            .map(|(name, v)| (name.to_lowercase(), v))
            .collect();
        self.0.current.store(Arc::new(Snapshot {
            values,
            refused: Mutex::default(),
        }));
        self.0.version.send_modify(|v| *v += 1);
    }

    /// All published values, names in lower case.
    pub fn published(&self) -> Published {
        self.0.current.load().values.clone()
    }

    /// Changes whenever something is published.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.0.version.subscribe()
    }

    /// The value of the moment.
    pub fn get<T: Setting>(&self, key: &'static Key<T>) -> T {
        self.find(key, None, None)
    }

    /// The value of the moment for a namespace, by name.
    pub fn get_for_namespace<T: Setting>(&self, key: &'static Key<T>, namespace: &str) -> T {
        self.find(key, Some(namespace), None)
    }

    /// The value of the moment for a task queue of a namespace, both by name.
    pub fn get_for_task_queue<T: Setting>(
        &self,
        key: &'static Key<T>,
        namespace: &str,
        queue: &str,
    ) -> T {
        self.find(key, Some(namespace), Some(queue))
    }

    fn find<T: Setting>(
        &self,
        key: &'static Key<T>,
        namespace: Option<&str>,
        queue: Option<&str>,
    ) -> T {
        let snapshot = self.0.current.load();
        if snapshot.values.is_empty() {
            return key.default.clone();
        }
        let best = snapshot
            .values
            .get(key.folded())
            .into_iter()
            .flatten()
            .filter_map(|s| Some((s.scope.narrowness(namespace, queue)?, s)))
            // Of equals, the first in the file wins.
            .reduce(|best, other| if other.0 > best.0 { other } else { best });
        let Some((_, scoped)) = best else {
            return key.default.clone();
        };
        T::read(&scoped.value).unwrap_or_else(|| {
            if snapshot.refused.lock().insert(key.name) {
                tracing::warn!(setting = key.name, value = ?scoped.value,
                    "setting has a value of the wrong type; its default counts");
            }
            key.default.clone()
        })
    }
}

impl Scope {
    /// How closely this scope fits; `None` when it does not.
    fn narrowness(&self, namespace: Option<&str>, queue: Option<&str>) -> Option<u8> {
        let fits = |wanted: &Option<String>, given: Option<&str>, weight| match wanted {
            None => Some(0),
            Some(wanted) => (given == Some(wanted)).then_some(weight),
        };
        Some(fits(&self.namespace, namespace, 1)? + fits(&self.task_queue, queue, 2)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    static RPS: Key<f64> = Key::new("frontend.rps", 2400.0, "Requests per second per host.");
    static WAIT: Key<Duration> = Key::new(
        "matching.longPoll",
        Duration::from_secs(60),
        "Longest poll.",
    );

    #[test]
    fn the_narrowest_value_wins_and_names_ignore_case() {
        let settings = Settings::new();
        assert_eq!(settings.get(&RPS), 2400.0);
        let queue = Scope {
            namespace: Some("a".into()),
            task_queue: Some("q".into()),
        };
        settings.publish(HashMap::from([(
            "Frontend.RPS".to_owned(),
            vec![
                Scoped::everywhere(10),
                Scoped::in_namespace("a", 20.5),
                Scoped {
                    scope: queue,
                    value: Value::Int(30),
                },
            ],
        )]));
        assert_eq!(settings.get(&RPS), 10.0);
        assert_eq!(settings.get_for_namespace(&RPS, "a"), 20.5);
        assert_eq!(settings.get_for_namespace(&RPS, "b"), 10.0);
        assert_eq!(settings.get_for_task_queue(&RPS, "a", "q"), 30.0);
        assert_eq!(settings.get_for_task_queue(&RPS, "a", "other"), 20.5);
    }

    #[tokio::test]
    async fn publishing_wakes_watchers_and_a_wrong_type_is_the_default() {
        let settings = Settings::new();
        let mut watch = settings.watch();
        settings.publish(HashMap::from([(
            "matching.longpoll".into(),
            vec![Scoped::everywhere("1m5s")],
        )]));
        watch.changed().await.unwrap();
        assert_eq!(settings.get(&WAIT), Duration::from_secs(65));
        settings.publish(HashMap::from([(
            "matching.longpoll".into(),
            vec![Scoped::everywhere(true)],
        )]));
        assert_eq!(settings.get(&WAIT), Duration::from_secs(60));
    }
}
