//! The stores on real databases: SQLite in a folder of its own, PostgreSQL in a server of its own.

mod crash;
mod cutter;
mod postgres;
mod server;
mod sqlite;
mod tls;

use proto_ids::{RunKey, ShardId, TaskId, Timestamp};
use schema_store::{
    Store,
    execution::{
        BranchRecord, CommitBatch, CurrentExpected, CurrentRecord, CurrentWrite, Expected, Fence,
        HistoryNode, ItemRowKey, ItemWrite, OutboxRow, RowWrite, RunUpdate, ShardProgress,
        TimerRow,
    },
};

/// Takes shard 1.
async fn acquire(store: &Store) -> Fence {
    let now = Timestamp::from_millis(1);
    let record = store
        .shard
        .shard_acquire(ShardId::new(1), "me", now)
        .await
        .expect("acquire");
    Fence {
        shard: record.shard,
        range: record.range,
    }
}

/// A batch that creates one run with one of everything.
fn creation(fence: Fence, seq: i64, workflow: &str) -> CommitBatch {
    let task_id = TaskId::new(seq);
    let update = RunUpdate {
        shard: fence.shard,
        key: RunKey::new("ns", workflow, "run"),
        expected: Expected::Absent,
        row: RowWrite::Put {
            version: 1,
            hot: "hot".into(),
            start: Some("start".into()),
        },
        items: vec![ItemWrite {
            key: ItemRowKey {
                kind: 1,
                id: "item".to_owned(),
            },
            value: Some("value".into()),
        }],
        items_replaced: true,
        current: Some(CurrentWrite {
            expected: CurrentExpected::Absent,
            record: Some(CurrentRecord {
                run_id: "run".into(),
                request_id: "request".to_owned(),
                status: 1,
                last_write_version: 0,
                start_time: Timestamp::from_millis(1),
                first_run_id: "run".into(),
            }),
        }),
        branches: vec![BranchRecord {
            shard: fence.shard,
            tree_id: workflow.to_owned(),
            branch_id: "branch".to_owned(),
            ancestors: Vec::new(),
        }],
        history: vec![HistoryNode {
            tree_id: workflow.to_owned(),
            branch_id: "branch".to_owned(),
            node_id: 1,
            next_node_id: 4,
            data: "events".into(),
        }],
        outbox: vec![OutboxRow {
            first_task_id: task_id,
            last_task_id: task_id,
            data: "tasks".into(),
        }],
        timers: vec![TimerRow {
            fire_at: Timestamp::from_millis(seq),
            task_id,
            data: "timer".into(),
        }],
    };
    CommitBatch {
        lane: "lane".to_owned(),
        seq,
        fences: vec![fence],
        updates: vec![update],
        progress: Vec::new(),
    }
}

/// A batch that takes the run away again, and trims.
fn deletion(fence: Fence, seq: i64, workflow: &str) -> CommitBatch {
    let mut batch = creation(fence, seq, workflow);
    let update = &mut batch.updates[0];
    update.expected = Expected::Version(1);
    update.row = RowWrite::Delete;
    update.items = Vec::new();
    update.items_replaced = false;
    update.current = Some(CurrentWrite {
        expected: CurrentExpected::Run("run".into()),
        record: None,
    });
    batch.progress.push(ShardProgress {
        shard: fence.shard,
        state: "state".into(),
        trim_outbox: Some(TaskId::new(seq)),
        trim_timers: Some((Timestamp::from_millis(seq), TaskId::new(seq))),
    });
    batch
}
