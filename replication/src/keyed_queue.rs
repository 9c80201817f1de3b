//! A queue with an order per key: items of one key come out one after another, items of different keys side by
//! side. The key of a replication task is its workflow id, so that all runs of a workflow id are applied in the
//! order in which their source wrote them. Pure: the owner of the queue takes what is ready, works on it
//! elsewhere, and reports when it is finished.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
};

/// The items that wait or are being worked on.
#[derive(Debug)]
pub struct KeyedQueue<K, T> {
    /// Keys with an item being worked on, and what waits behind it.
    busy: HashMap<K, VecDeque<T>>,
    ready: VecDeque<(K, T)>,
    len: usize,
}

impl<K, T> Default for KeyedQueue<K, T> {
    fn default() -> Self {
        Self {
            busy: HashMap::new(),
            ready: VecDeque::new(),
            len: 0,
        }
    }
}

impl<K: Clone + Eq + Hash, T> KeyedQueue<K, T> {
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

    /// The next item that may be worked on; its key stays busy until [`KeyedQueue::finish`].
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
        let mut keyed_queue = KeyedQueue::default();
        for (key, item) in [("a", 1), ("b", 2), ("a", 3), ("a", 4)] {
            keyed_queue.push(key, item);
        }
        assert_eq!(
            (keyed_queue.take(), keyed_queue.take()),
            (Some(("a", 1)), Some(("b", 2)))
        );
        assert_eq!(keyed_queue.take(), None);
        keyed_queue.finish(&"b");
        assert_eq!((keyed_queue.take(), keyed_queue.len()), (None, 3));
        keyed_queue.finish(&"a");
        assert_eq!(
            (keyed_queue.take(), keyed_queue.take()),
            (Some(("a", 3)), None)
        );
        keyed_queue.push("b", 5);
        assert_eq!(keyed_queue.take(), Some(("b", 5)));
        keyed_queue.finish(&"a");
        assert_eq!(keyed_queue.take(), Some(("a", 4)));
        keyed_queue.finish(&"a");
        keyed_queue.finish(&"b");
        keyed_queue.finish(&"b");
        assert!(keyed_queue.is_empty() && keyed_queue.busy.is_empty());
    }
}
