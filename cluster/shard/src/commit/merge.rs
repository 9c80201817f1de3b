//! Makes one batch of many writes. Several writes of one run become one [`RunUpdate`]: the guard of the
//! first, the state of the last, the union of the items, all the history, all the tasks.

use cluster_core::Task;
use hashbrown::HashMap;
use proto_ids::{RunKey, ShardId, Timestamp};
use schema_store::execution::{Expected, HistoryNode, ItemWrite, RowWrite, RunUpdate};

use super::{RunWrite, Write};
use crate::{load::WorkflowKey, queue::Rescheduled, shard::Shard};

/// One run's part of a batch.
pub(super) struct Merged {
    pub(super) shard: Shard,
    pub(super) update: RunUpdate,
    /// Tasks without ids yet.
    pub(super) tasks: Vec<(Task, Timestamp)>,
    pub(super) rescheduled: Vec<Rescheduled>,
}

/// Merges as many writes as one batch can express, from the front. Returns the parts and how many writes
/// they hold; at least one.
pub(super) fn merge(writes: &[Write]) -> (Vec<Merged>, usize) {
    let mut batch = Batch::default();
    for (n, write) in writes.iter().enumerate() {
        if !batch.takes(write) {
            return (batch.merged, n.max(1));
        }
        for run in &write.runs {
            batch.add(&write.shard, &write.entry.key, run.clone());
        }
    }
    (batch.merged, writes.len())
}

#[derive(Default)]
struct Batch {
    merged: Vec<Merged>,
    by_run: HashMap<(ShardId, RunKey), usize>,
    /// Which part holds the current pointer of a workflow id.
    pointers: HashMap<(ShardId, WorkflowKey), usize>,
}

impl Batch {
    /// A run that was deleted in this batch cannot come back in it, and one that was made in it cannot be
    /// deleted in it: there is no single guard for either.
    fn takes(&self, write: &Write) -> bool {
        write.runs.iter().all(|run| {
            let Some(&at) = self.by_run.get(&(write.shard.id(), run.key.clone())) else {
                return true;
            };
            let before = &self.merged[at].update;
            let deleted = matches!(before.row, RowWrite::Delete);
            let undone = matches!(run.row, RowWrite::Delete) && before.expected == Expected::Absent;
            !deleted && !undone
        })
    }

    fn add(&mut self, shard: &Shard, workflow: &WorkflowKey, run: RunWrite) {
        let key = (shard.id(), run.key.clone());
        let tasks = run.tasks.into_iter().map(|t| (t, run.at));
        let (at, current) = match self.by_run.get(&key) {
            None => {
                let at = self.merged.len();
                self.by_run.insert(key, at);
                self.merged.push(Merged {
                    shard: shard.clone(),
                    update: RunUpdate {
                        shard: shard.id(),
                        key: run.key,
                        expected: run.expected,
                        row: run.row,
                        items: run.items,
                        items_replaced: run.items_replaced,
                        current: None,
                        branches: run.branches,
                        history: run.history,
                        outbox: Vec::new(),
                        timers: Vec::new(),
                    },
                    tasks: tasks.collect(),
                    rescheduled: run.rescheduled,
                });
                (at, run.current)
            }
            Some(&at) => {
                let merged = &mut self.merged[at];
                let update = &mut merged.update;
                if update.expected == Expected::Any {
                    update.expected = run.expected;
                }
                merge_items(update, run.items, run.items_replaced);
                merge_row(&mut update.row, run.row);
                if matches!(update.row, RowWrite::Delete) {
                    update.items.clear();
                    update.items_replaced = false;
                }
                update.branches.extend(run.branches);
                merge_history(&mut update.history, run.history);
                merged.tasks.extend(tasks);
                merged.rescheduled.extend(run.rescheduled);
                (at, run.current)
            }
        };
        let Some(current) = current else { return };
        match self.pointers.get(&(shard.id(), workflow.clone())) {
            Some(&holder) => {
                if let Some(held) = &mut self.merged[holder].update.current {
                    held.record = current.record;
                }
            }
            None => {
                self.pointers.insert((shard.id(), workflow.clone()), at);
                self.merged[at].update.current = Some(current);
            }
        }
    }
}

fn merge_row(row: &mut RowWrite, later: RowWrite) {
    match (row, later) {
        (_, RowWrite::Keep) => {}
        (
            RowWrite::Put {
                version,
                hot,
                start,
            },
            RowWrite::Put {
                version: v,
                hot: h,
                start: s,
            },
        ) => {
            (*version, *hot) = (v, h);
            if s.is_some() {
                *start = s;
            }
        }
        (row, later) => *row = later,
    }
}

fn merge_items(update: &mut RunUpdate, later: Vec<ItemWrite>, replaced: bool) {
    if replaced {
        update.items.clear();
        update.items_replaced = true;
    }
    if update.items.is_empty() {
        update.items = later;
        return;
    }
    let mut places: HashMap<_, _> = update
        .items
        .iter()
        .enumerate()
        .map(|(n, i)| (i.key.clone(), n))
        .collect();
    for item in later {
        match places.get(&item.key) {
            Some(&n) => update.items[n] = item,
            None => {
                places.insert(item.key.clone(), update.items.len());
                update.items.push(item);
            }
        }
    }
}

/// A node that is written twice counts once, as it was written last.
fn merge_history(history: &mut Vec<HistoryNode>, later: Vec<HistoryNode>) {
    for node in later {
        let follows = |last: &HistoryNode| {
            last.branch_id == node.branch_id && last.next_node_id <= node.node_id
        };
        if history.last().is_none_or(follows) {
            history.push(node);
            continue;
        }
        let same = |n: &HistoryNode| {
            n.node_id == node.node_id && n.branch_id == node.branch_id && n.tree_id == node.tree_id
        };
        match history.iter_mut().rev().find(|n| same(n)) {
            Some(found) => *found = node,
            None => history.push(node),
        }
    }
}
