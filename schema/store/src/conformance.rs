//! The conformance suite: a backend is whatever passes these cases. Each takes an empty store and panics where
//! the store breaks the contract of a trait. They run on every backend; what only one backend can show (a
//! connection that breaks, a transaction held open) is tested beside that backend.

use std::future::Future;

use bytes::Bytes;
use futures::future::BoxFuture;
use proto_ids::{RangeId, RunKey, ShardId, TaskId, Timestamp};

use crate::{
    Store,
    execution::{
        CommitBatch, CurrentExpected, CurrentRecord, CurrentWrite, Expected, Fence, OutboxRow,
        RowWrite, RunUpdate,
    },
};

mod batch;
mod cluster;
mod fence;
mod guard;
mod history;
mod namespace;
mod queue;
mod task_queue;
mod visibility;

/// One case.
pub struct Case {
    /// Its name.
    pub name: &'static str,
    run: fn(Store) -> BoxFuture<'static, ()>,
}

macro_rules! cases {
    ($($module:ident :: $case:ident),* $(,)?) => {
        /// All cases.
        pub const CASES: &[Case] = &[$(Case {
            name: concat!(stringify!($module), "::", stringify!($case)),
            run: |store| Box::pin($module::$case(store)),
        }),*];
    };
}

cases! {
    fence::ranges_rise,
    fence::an_old_owner_never_commits,
    fence::an_acquisition_splits_the_writers,
    guard::run_versions,
    guard::current_pointers,
    guard::current_pointers_within_a_batch,
    guard::lookups_at_once_get_their_own,
    guard::conflicts_are_named_and_nothing_is_written,
    guard::one_of_many_wins,
    batch::everything_is_written_and_read,
    batch::items_change_one_by_one_or_all,
    batch::parts_are_kept,
    batch::bad_batches_are_refused,
    batch::outcomes_can_be_asked,
    batch::outbox_and_timers_are_read_and_trimmed,
    batch::runs_are_listed_once_each,
    batch::odd_texts_and_bytes_come_back,
    history::branches_share_nodes,
    history::pages_go_both_ways,
    history::deleting_keeps_what_others_read,
    task_queue::backlog,
    task_queue::ranges_fence,
    namespace::counter_orders_writes,
    namespace::names_and_ids_are_unique,
    cluster::rows_are_compared_and_set,
    cluster::members_expire,
    queue::messages,
    queue::acknowledgements,
    visibility::newer_versions_win,
    visibility::pages_follow_the_order,
    visibility::every_operator,
    visibility::counts,
}

/// Runs all cases, each on a fresh store, and tells which one is running.
pub async fn run<F, Fut>(mut fresh: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Store>,
{
    for case in CASES {
        tracing::info!(case = case.name, "conformance");
        let store = fresh().await;
        let outcome =
            futures::FutureExt::catch_unwind(std::panic::AssertUnwindSafe((case.run)(store))).await;
        assert!(outcome.is_ok(), "conformance case {} failed", case.name);
    }
}

const SHARD: ShardId = ShardId::new(1);

fn blob(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn key(workflow: &str, run: &str) -> RunKey {
    RunKey::new("ns", workflow, run)
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// Takes the shard and returns the fence.
async fn acquire(store: &Store, shard: ShardId) -> Fence {
    let record = store
        .shard
        .shard_acquire(shard, "me", at(1))
        .await
        .expect("acquire");
    Fence {
        shard,
        range: record.range,
    }
}

/// An update that touches nothing yet.
fn update(shard: ShardId, key: RunKey) -> RunUpdate {
    RunUpdate {
        shard,
        key,
        expected: Expected::Any,
        row: RowWrite::Keep,
        items: Vec::new(),
        items_replaced: false,
        current: None,
        branches: Vec::new(),
        history: Vec::new(),
        outbox: Vec::new(),
        timers: Vec::new(),
    }
}

/// A new run with version 1.
fn creation(key: RunKey) -> RunUpdate {
    RunUpdate {
        expected: Expected::Absent,
        row: put(1),
        ..update(SHARD, key)
    }
}

fn put(version: i64) -> RowWrite {
    RowWrite::Put {
        version,
        hot: blob(&format!("hot {version}")),
        start: Some(blob("start")),
    }
}

fn current(expected: CurrentExpected, run: &str) -> Option<CurrentWrite> {
    Some(CurrentWrite {
        expected,
        record: Some(CurrentRecord {
            run_id: run.into(),
            request_id: format!("request of {run}"),
            status: 1,
            last_write_version: 7,
            start_time: at(5),
            first_run_id: "first".into(),
        }),
    })
}

fn outbox(first: i64, last: i64) -> OutboxRow {
    OutboxRow {
        first_task_id: TaskId::new(first),
        last_task_id: TaskId::new(last),
        data: blob(&format!("tasks {first} to {last}")),
    }
}

fn batch(fence: Fence, seq: i64, updates: Vec<RunUpdate>) -> CommitBatch {
    CommitBatch {
        lane: "lane".to_owned(),
        seq,
        fences: vec![fence],
        updates,
        progress: Vec::new(),
    }
}

fn old(fence: Fence) -> Fence {
    Fence {
        range: RangeId::new(fence.range.get() - 1),
        ..fence
    }
}
