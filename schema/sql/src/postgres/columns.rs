//! A commit batch turned on its side: one array per column of each statement, as `unnest` takes them.

use std::collections::HashMap;

use proto_ids::RunKey;
use schema_store::execution::{
    CommitBatch, CurrentRecord, Expected, RowWrite, RunUpdate, ShardProgress,
};

use crate::{place::ancestors_encode, pointers::Pointers};

/// Keys of runs.
#[derive(Default)]
pub(super) struct Runs<'a> {
    pub(super) shard: Vec<i64>,
    pub(super) namespace: Vec<&'a str>,
    pub(super) workflow: Vec<&'a str>,
    pub(super) run: Vec<Option<&'a str>>,
}

/// All columns.
#[derive(Default)]
pub(super) struct Columns<'a> {
    pub(super) fence_shard: Vec<i64>,
    pub(super) fence_range: Vec<i64>,
    pub(super) guards: Runs<'a>,
    pub(super) guard_version: Vec<Option<i64>>,
    pub(super) guard_update: Vec<i64>,
    /// The run that a pointer must name.
    pub(super) pointer_guards: Runs<'a>,
    pub(super) pointer_update: Vec<i64>,
    pub(super) cleared: Runs<'a>,
    pub(super) gone: Runs<'a>,
    pub(super) puts: Runs<'a>,
    pub(super) put_version: Vec<i64>,
    pub(super) put_hot: Vec<&'a [u8]>,
    pub(super) put_start: Vec<Option<&'a [u8]>>,
    pub(super) items: Runs<'a>,
    pub(super) item_kind: Vec<i64>,
    pub(super) item_id: Vec<&'a str>,
    pub(super) item_value: Vec<Option<&'a [u8]>>,
    /// The run that a pointer will name.
    pub(super) pointers: Runs<'a>,
    pub(super) pointer_request: Vec<Option<&'a str>>,
    pub(super) pointer_status: Vec<Option<i64>>,
    pub(super) pointer_version: Vec<Option<i64>>,
    pub(super) pointer_start: Vec<Option<i64>>,
    pub(super) pointer_first: Vec<Option<&'a str>>,
    pub(super) branches: Nodes<'a>,
    pub(super) branch_ancestors: Vec<Vec<u8>>,
    pub(super) nodes: Nodes<'a>,
    pub(super) node_id: Vec<i64>,
    pub(super) node_next: Vec<i64>,
    pub(super) node_data: Vec<&'a [u8]>,
    pub(super) outbox: Tasks<'a>,
    pub(super) outbox_first: Vec<i64>,
    pub(super) timers: Tasks<'a>,
    pub(super) timer_at: Vec<i64>,
    pub(super) progress_shard: Vec<i64>,
    pub(super) progress_state: Vec<&'a [u8]>,
    pub(super) progress_outbox: Vec<Option<i64>>,
    pub(super) progress_timer_at: Vec<Option<i64>>,
    pub(super) progress_timer_task: Vec<Option<i64>>,
}

/// Keys within history trees.
#[derive(Default)]
pub(super) struct Nodes<'a> {
    pub(super) shard: Vec<i64>,
    pub(super) tree: Vec<&'a str>,
    pub(super) branch: Vec<&'a str>,
}

/// Tasks of shards.
#[derive(Default)]
pub(super) struct Tasks<'a> {
    pub(super) shard: Vec<i64>,
    pub(super) id: Vec<i64>,
    pub(super) data: Vec<&'a [u8]>,
}

impl<'a> Columns<'a> {
    pub(super) fn of(batch: &'a CommitBatch, pointers: &Pointers<'a>) -> Self {
        let mut columns = Self::default();
        for fence in &batch.fences {
            columns.fence_shard.push(i64::from(fence.shard.get()));
            columns.fence_range.push(fence.range.get());
        }
        for (index, update) in batch.updates.iter().enumerate() {
            columns.update(index, update);
            columns.tasks(update);
        }
        columns.history(&batch.updates);
        for (index, expected) in &pointers.guards {
            let update = &batch.updates[*index];
            columns.pointer_guards.push_pointer(update, *expected);
            columns.pointer_update.push(*index as i64);
        }
        for (index, record) in &pointers.writes {
            columns.pointer(&batch.updates[*index], *record);
        }
        for progress in &batch.progress {
            columns.progress(progress);
        }
        columns
    }

    fn update(&mut self, index: usize, update: &'a RunUpdate) {
        let (shard, key) = (i64::from(update.shard.get()), &update.key);
        let guard = match update.expected {
            Expected::Absent => Some(None),
            Expected::Version(version) => Some(Some(version)),
            Expected::Any => None,
        };
        if let Some(version) = guard {
            self.guards.push(shard, key);
            self.guard_version.push(version);
            self.guard_update.push(index as i64);
        }
        let mut is_gone = false;
        match &update.row {
            RowWrite::Put {
                version,
                hot,
                start,
            } => {
                self.puts.push(shard, key);
                self.put_version.push(*version);
                self.put_hot.push(hot);
                self.put_start.push(start.as_deref());
            }
            RowWrite::Delete => {
                is_gone = true;
                self.gone.push(shard, key);
            }
            RowWrite::Keep => {}
        }
        if update.items_replaced || is_gone {
            self.cleared.push(shard, key);
        }
        for item in &update.items {
            self.items.push(shard, key);
            self.item_kind.push(i64::from(item.key.kind));
            self.item_id.push(&item.key.id);
            self.item_value.push(item.value.as_deref());
        }
    }

    fn tasks(&mut self, update: &'a RunUpdate) {
        let shard = i64::from(update.shard.get());
        for row in &update.outbox {
            self.outbox.push(shard, row.last_task_id.get(), &row.data);
            self.outbox_first.push(row.first_task_id.get());
        }
        for timer in &update.timers {
            self.timers.push(shard, timer.task_id.get(), &timer.data);
            self.timer_at.push(timer.fire_at.nanos());
        }
    }

    /// Updates of one tree may write one node or branch twice; one statement may not, so the last one counts.
    fn history(&mut self, updates: &'a [RunUpdate]) {
        let mut last_node = HashMap::new();
        let mut last_branch = HashMap::new();
        for update in updates {
            for node in &update.history {
                let key = (update.shard, &node.tree_id, &node.branch_id, node.node_id);
                last_node.insert(key, node);
            }
            for branch in &update.branches {
                last_branch.insert((update.shard, &branch.tree_id, &branch.branch_id), branch);
            }
        }
        for ((shard, ..), branch) in last_branch {
            self.branches
                .push(i64::from(shard.get()), &branch.tree_id, &branch.branch_id);
            self.branch_ancestors
                .push(ancestors_encode(&branch.ancestors));
        }
        for ((shard, ..), node) in last_node {
            self.nodes
                .push(i64::from(shard.get()), &node.tree_id, &node.branch_id);
            self.node_id.push(node.node_id);
            self.node_next.push(node.next_node_id);
            self.node_data.push(&node.data);
        }
    }

    fn pointer(&mut self, update: &'a RunUpdate, record: Option<&'a CurrentRecord>) {
        self.pointers
            .push_pointer(update, record.map(|record| record.run_id.as_str()));
        self.pointer_request
            .push(record.map(|record| record.request_id.as_str()));
        self.pointer_status
            .push(record.map(|record| i64::from(record.status)));
        self.pointer_version
            .push(record.map(|record| record.last_write_version));
        self.pointer_start
            .push(record.map(|record| record.start_time.nanos()));
        self.pointer_first
            .push(record.map(|record| record.first_run_id.as_str()));
    }

    fn progress(&mut self, progress: &'a ShardProgress) {
        self.progress_shard.push(i64::from(progress.shard.get()));
        self.progress_state.push(&progress.state);
        self.progress_outbox
            .push(progress.trim_outbox.map(|id| id.get()));
        self.progress_timer_at
            .push(progress.trim_timers.map(|(at, _)| at.nanos()));
        self.progress_timer_task
            .push(progress.trim_timers.map(|(_, id)| id.get()));
    }
}

impl<'a> Runs<'a> {
    fn push(&mut self, shard: i64, key: &'a RunKey) {
        self.shard.push(shard);
        self.namespace.push(key.namespace_id.as_str());
        self.workflow.push(key.workflow_id.as_str());
        self.run.push(Some(key.run_id.as_str()));
    }

    fn push_pointer(&mut self, update: &'a RunUpdate, run: Option<&'a str>) {
        self.shard.push(i64::from(update.shard.get()));
        self.namespace.push(update.key.namespace_id.as_str());
        self.workflow.push(update.key.workflow_id.as_str());
        self.run.push(run);
    }
}

impl<'a> Nodes<'a> {
    fn push(&mut self, shard: i64, tree: &'a str, branch: &'a str) {
        self.shard.push(shard);
        self.tree.push(tree);
        self.branch.push(branch);
    }
}

impl<'a> Tasks<'a> {
    fn push(&mut self, shard: i64, id: i64, data: &'a [u8]) {
        self.shard.push(shard);
        self.id.push(id);
        self.data.push(data);
    }
}
