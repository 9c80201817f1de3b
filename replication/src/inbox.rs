//! Order where it matters, none where it does not: items of one key come out one after another, items of
//! different keys side by side. The key of a replication task is its workflow id, so that all runs of a
//! workflow id are applied in the order in which their source wrote them. Pure: whoever owns an inbox takes
//! what is ready, works on it elsewhere, and says when it is finished.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
};

/// Items waiting or being worked on.
#[derive(Debug)]
pub struct Inbox<K, T> {
    /// Keys with an item being worked on, and what waits behind it.
    busy: HashMap<K, VecDeque<T>>,
    ready: VecDeque<(K, T)>,
    len: usize,
}

impl<K, T> Default for Inbox<K, T> {
    fn default() -> Self {
        Self {
            busy: HashMap::new(),
            ready: VecDeque::new(),
            len: 0,
        }
    }
}

impl<K: Clone + Eq + Hash, T> Inbox<K, T> {
    /// Adds an item behind all others of its key.
    pub fn push(&mut self, key: K, item: T) {
        self.len += 1;
        match self.busy.get_mut(&key) {
            Some(waiting) => waiting.push_back(item),
            None => {
                self.busy.insert(key.clone(), VecDeque::new());
                self.ready.push_back((key, item));
            }
        }
    }

    /// The next item that may be worked on; its key stays busy until [`Inbox::finish`].
    pub fn take(&mut self) -> Option<(K, T)> {
        self.ready.pop_front()
    }

    /// The item taken for this key is finished; the next one of the key becomes ready.
    pub fn finish(&mut self, key: &K) {
        let Some(waiting) = self.busy.get_mut(key) else {
            return;
        };
        self.len -= 1;
        match waiting.pop_front() {
            Some(item) => self.ready.push_back((key.clone(), item)),
            None => {
                self.busy.remove(key);
            }
        }
    }

    /// Items waiting, ready or being worked on.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_in_order_many_keys_at_once() {
        let mut inbox = Inbox::default();
        for (key, item) in [("a", 1), ("b", 2), ("a", 3), ("a", 4)] {
            inbox.push(key, item);
        }
        assert_eq!(
            (inbox.take(), inbox.take()),
            (Some(("a", 1)), Some(("b", 2)))
        );
        assert_eq!(inbox.take(), None);
        inbox.finish(&"b");
        assert_eq!((inbox.take(), inbox.len()), (None, 3));
        inbox.finish(&"a");
        assert_eq!((inbox.take(), inbox.take()), (Some(("a", 3)), None));
        inbox.push("b", 5);
        assert_eq!(inbox.take(), Some(("b", 5)));
        inbox.finish(&"a");
        assert_eq!(inbox.take(), Some(("a", 4)));
        inbox.finish(&"a");
        inbox.finish(&"b");
        inbox.finish(&"b");
        assert!(inbox.is_empty() && inbox.busy.is_empty());
    }
}
