//! The runs of a namespace that were written since the last look. A comparison of a namespace with another
//! cluster goes through all runs once and afterwards only through these, so that the last look, while writes
//! are held back, is short however many runs there are. Kept in memory by the owner of the shard: a new owner
//! knows nothing of what changed before, and says so.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use hashbrown::HashMap;
use parking_lot::Mutex;
use proto_ids::{NamespaceId, RunKey};
use tokio::time::Instant;

use crate::shard::Shard;

/// A watch that was not read for so long is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(600);

/// Changed runs that one watch keeps; with more it is forgotten and begins anew.
const CHANGED_MAX: usize = 500_000;

/// Watches at once on one shard; further ones do not begin.
const WATCHES_MAX: usize = 64;

/// The watchers of changes. Commits pay for them only while there are any.
#[derive(Default)]
pub(crate) struct Changes {
    any: AtomicBool,
    watches: Mutex<HashMap<String, Watch>>,
}

struct Watch {
    namespace_id: NamespaceId,
    began: Instant,
    asked: Instant,
    /// Number of the last change.
    last: u64,
    /// Runs by the number of their last change.
    runs: BTreeMap<u64, RunKey>,
    numbers: HashMap<RunKey, u64>,
}

/// The changed runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangedRuns {
    /// The watch begins only now: what changed before is not known.
    pub began: bool,
    /// The position up to which changes were looked at, for the next call.
    pub through: u64,
    /// Each run once.
    pub runs: Vec<RunKey>,
    /// There are more runs.
    pub more: bool,
}

impl Changes {
    /// A commit of the run is durable.
    pub(crate) fn note(&self, key: &RunKey) {
        if !self.any.load(Ordering::Acquire) {
            return;
        }
        let mut watches = self.watches.lock();
        let now = Instant::now();
        watches.retain(|_, watch| {
            now < watch.asked + FORGET_AFTER && watch.numbers.len() < CHANGED_MAX
        });
        for watch in watches.values_mut() {
            if watch.namespace_id == key.namespace_id {
                watch.note(key);
            }
        }
        self.any.store(!watches.is_empty(), Ordering::Release);
    }

    fn end(&self, name: &str) -> Option<Instant> {
        let mut watches = self.watches.lock();
        let ended = watches.remove(name);
        self.any.store(!watches.is_empty(), Ordering::Release);
        ended.map(|watch| watch.began)
    }

    fn since(&self, id: &NamespaceId, name: &str, after: u64, limit: usize) -> ChangedRuns {
        let mut watches = self.watches.lock();
        let Some(watch) = watches.get_mut(name).filter(|w| w.namespace_id == *id) else {
            if watches.len() < WATCHES_MAX {
                watches.insert(name.to_owned(), Watch::new(id.clone()));
                self.any.store(true, Ordering::Release);
            }
            return ChangedRuns {
                began: true,
                ..ChangedRuns::default()
            };
        };
        watch.asked = Instant::now();
        let mut found = watch.runs.range(after.saturating_add(1)..);
        let page: Vec<_> = found.by_ref().take(limit).collect();
        let more = found.next().is_some();
        ChangedRuns {
            began: false,
            through: match page.last() {
                Some((number, _)) if more => **number,
                _ => watch.last,
            },
            runs: page.into_iter().map(|(_, key)| key.clone()).collect(),
            more,
        }
    }
}

impl Watch {
    fn new(namespace_id: NamespaceId) -> Self {
        Self {
            namespace_id,
            began: Instant::now(),
            asked: Instant::now(),
            last: 0,
            runs: BTreeMap::new(),
            numbers: HashMap::new(),
        }
    }

    fn note(&mut self, key: &RunKey) {
        self.last += 1;
        if let Some(before) = self.numbers.insert(key.clone(), self.last) {
            self.runs.remove(&before);
        }
        self.runs.insert(self.last, key.clone());
    }
}

impl Shard {
    /// Runs of the namespace whose commits became durable after the look numbered `after`. The first call of a
    /// watch only begins it.
    pub fn changed_runs(
        &self,
        namespace_id: &NamespaceId,
        watch: &str,
        after: u64,
        limit: usize,
    ) -> ChangedRuns {
        self.0
            .changes
            .since(namespace_id, watch, after, limit.max(1))
    }

    /// No watcher asks for these changes any more. When the watch began, if it lasted until now.
    pub fn changed_runs_end(&self, watch: &str) -> Option<Instant> {
        self.0.changes.end(watch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(changed: &ChangedRuns) -> Vec<&str> {
        changed.runs.iter().map(|k| k.run_id.as_str()).collect()
    }

    #[test]
    fn a_watch_tells_each_changed_run_once_per_look() {
        let (changes, ns) = (Changes::default(), NamespaceId::new("ns"));
        let note = |ns: &str, run: &str| changes.note(&RunKey::new(ns, "w", run));
        note("ns", "before");
        assert!(changes.since(&ns, "me", 0, 10).began);
        for (n, run) in [("ns", "a"), ("ns", "b"), ("other", "x"), ("ns", "a")] {
            note(n, run);
        }
        let first = changes.since(&ns, "me", 0, 10);
        assert_eq!((names(&first), first.began), (vec!["b", "a"], false));
        // An answer that was lost is asked for again.
        assert_eq!(changes.since(&ns, "me", 0, 10), first);
        note("ns", "b");
        let second = changes.since(&ns, "me", first.through, 10);
        assert_eq!(names(&second), ["b"]);
        let page = changes.since(&ns, "me", 0, 1);
        assert_eq!((names(&page), page.more), (vec!["a"], true));
        let rest = changes.since(&ns, "me", page.through, 1);
        assert_eq!((names(&rest), rest.more), (vec!["b"], false));
        assert!(changes.since(&ns, "another", 0, 10).began);
    }
}
