//! The event cache: encoded event batches of live branches, so that a worker without a sticky cache, a long
//! poll or a stream is served without a read. Filled only by commits, without gaps: what is cached of a branch
//! is its end.

use std::{collections::VecDeque, sync::atomic::Ordering};

use hashbrown::HashMap;
use parking_lot::Mutex;
use proto_ids::EventId;
use schema_store::execution::HistoryNode;

use crate::{history::HistoryBatch, host::Host};

/// The events of one shard's branches.
#[derive(Default)]
pub(crate) struct EventCache(Mutex<Branches>);

#[derive(Default)]
struct Branches {
    by_id: HashMap<String, Branch>,
    /// Eviction order; second chance.
    clock: VecDeque<String>,
}

#[derive(Default)]
struct Branch {
    batches: VecDeque<HistoryBatch>,
    bytes: usize,
    used: bool,
}

impl EventCache {
    /// The part of a write that [`Self::extend`] needs.
    pub(crate) fn wants(&self, history: &[HistoryNode]) -> Vec<HistoryNode> {
        history.to_vec()
    }

    /// Adds committed nodes. A node that does not follow what is cached makes that void.
    pub(crate) fn extend(&self, host: &Host, nodes: Vec<HistoryNode>, deleted: bool) {
        if nodes.is_empty() {
            return;
        }
        let mut branches = self.0.lock();
        for node in nodes {
            let size = 120 + node.data.len();
            let batch = HistoryBatch {
                first: EventId::new(node.node_id),
                next: EventId::new(node.next_node_id),
                data: node.data,
            };
            if deleted || size > host.options.event_cache_bytes / 4 {
                branches.remove(host, &node.branch_id);
                continue;
            }
            let Branches { by_id, clock } = &mut *branches;
            let branch = by_id.entry_ref(node.branch_id.as_str()).or_insert_with(|| {
                clock.push_back(node.branch_id.clone());
                Branch::default()
            });
            if branch
                .batches
                .back()
                .is_some_and(|last| last.next != batch.first)
            {
                Host::recount(&host.event_cache_bytes, branch.bytes, 0);
                branch.bytes = 0;
                branch.batches.clear();
            }
            branch.batches.push_back(batch);
            branch.bytes += size;
            branch.used = true;
            Host::recount(&host.event_cache_bytes, 0, size);
        }
        branches.evict(host);
    }

    /// Batches that overlap `from..until`, when the cache has all of them up to the branch's end.
    pub(crate) fn read(
        &self,
        branch_id: &str,
        from: EventId,
        until: EventId,
        limit: usize,
    ) -> Option<Vec<HistoryBatch>> {
        let mut branches = self.0.lock();
        let branch = branches.by_id.get_mut(branch_id)?;
        if branch.batches.front()?.first > from {
            return None;
        }
        branch.used = true;
        let begin = branch.batches.partition_point(|b| b.next <= from);
        let wanted = branch
            .batches
            .range(begin..)
            .take_while(|b| b.first < until)
            .take(limit);
        Some(wanted.cloned().collect())
    }

    pub(crate) fn forget(&self, host: &Host, branch_id: &str) {
        self.0.lock().remove(host, branch_id);
    }

    /// Evicts while the process holds too many bytes.
    pub(crate) fn trim(&self, host: &Host) {
        self.0.lock().evict(host);
    }

    pub(crate) fn clear(&self, host: &Host) {
        let mut branches = self.0.lock();
        for branch in branches.by_id.values() {
            Host::recount(&host.event_cache_bytes, branch.bytes, 0);
        }
        *branches = Branches::default();
    }
}

impl Branches {
    fn remove(&mut self, host: &Host, branch_id: &str) {
        if let Some(branch) = self.by_id.remove(branch_id) {
            Host::recount(&host.event_cache_bytes, branch.bytes, 0);
        }
    }

    fn evict(&mut self, host: &Host) {
        let mut looks = 2 * self.clock.len();
        while looks > 0
            && host.event_cache_bytes.load(Ordering::Relaxed) > host.options.event_cache_bytes
        {
            looks -= 1;
            let Some(id) = self.clock.pop_front() else {
                return;
            };
            match self.by_id.get_mut(&id) {
                Some(branch) if branch.used => {
                    branch.used = false;
                    self.clock.push_back(id);
                }
                _ => self.remove(host, &id),
            }
        }
    }
}
