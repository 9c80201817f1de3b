//! The stores on real databases: SQLite in a folder of its own, PostgreSQL in a server of its own.

mod crash;
mod cutter;
mod postgres;
mod server;
mod sqlite;

use proto_ids::{RunKey, ShardId, Timestamp};
use schema_store::{
    Store,
    execution::{CommitBatch, Expected, Fence, RowWrite, RunUpdate},
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

/// A batch that creates one run.
fn creation(fence: Fence, seq: i64, workflow: &str) -> CommitBatch {
    let update = RunUpdate {
        shard: fence.shard,
        key: RunKey::new("ns", workflow, "run"),
        expected: Expected::Absent,
        row: RowWrite::Put {
            version: 1,
            hot: "hot".into(),
            start: Some("start".into()),
        },
        items: Vec::new(),
        items_replaced: false,
        current: None,
        branches: Vec::new(),
        history: Vec::new(),
        outbox: Vec::new(),
        timers: Vec::new(),
    };
    CommitBatch {
        lane: "lane".to_owned(),
        seq,
        fences: vec![fence],
        updates: vec![update],
        progress: Vec::new(),
    }
}
