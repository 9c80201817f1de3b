//! How fast the store commits: batches of updates in the shape of workflow tasks (a run updated, a node of
//! history, a row of tasks, an item), one lane, one batch after the other.
//!
//! `cargo run --profile release -p schema-sql --example commit_rate -- [sqlite:FILE | postgres://...] [SECONDS]`

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use bytes::Bytes;
use proto_ids::{RunKey, ShardId, TaskId, Timestamp};
use schema_sql::Options;
use schema_store::{
    Store,
    execution::{
        CommitBatch, CurrentExpected, CurrentRecord, CurrentWrite, Expected, Fence, HistoryNode,
        ItemRowKey, ItemWrite, OutboxRow, RowWrite, RunUpdate,
    },
};

const SHARDS: i32 = 4;
const RUNS: usize = 16_384;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = tempfile::tempdir().expect("folder");
    let target = arguments
        .next()
        .unwrap_or_else(|| format!("sqlite:{}/rate.db", folder.path().display()));
    let seconds = arguments
        .next()
        .and_then(|text| text.parse().ok())
        .unwrap_or(3.0);
    let mut options = match target.strip_prefix("sqlite:") {
        Some(file) => Options::sqlite(file),
        None => Options::postgres(&target),
    };
    options.auto_setup = true;
    let stats = options.stats.clone();
    let store = schema_sql::open(options).await.expect("open");
    let mut fences = Vec::new();
    for shard in 1..=SHARDS {
        let record = store
            .shard
            .shard_acquire(ShardId::new(shard), "bench", Timestamp::from_millis(1))
            .await;
        let record = record.expect("acquire");
        fences.push(Fence {
            shard: record.shard,
            range: record.range,
        });
    }
    println!(
        "{:>6} {:>10} {:>10} {:>9} {:>9}",
        "batch", "commits/s", "updates/s", "p50", "p99"
    );
    let mut bench = Bench {
        store,
        fences,
        seq: 0,
        versions: Vec::new(),
        epoch: 0,
    };
    for size in [1, 8, 64, 256] {
        bench.measure(size, Duration::from_secs_f64(seconds)).await;
    }
    println!(
        "transactions {}",
        stats.transactions.load(Ordering::Relaxed)
    );
}

struct Bench {
    store: Store,
    fences: Vec<Fence>,
    seq: i64,
    versions: Vec<i64>,
    epoch: usize,
}

impl Bench {
    async fn measure(&mut self, size: usize, limit: Duration) {
        self.epoch += 1;
        self.versions = vec![0; RUNS];
        let mut times = Vec::new();
        let mut built = Duration::ZERO;
        let start = Instant::now();
        let mut next = 0;
        while start.elapsed() < limit {
            let before = Instant::now();
            let updates = (0..size)
                .map(|offset| self.update((next + offset) % RUNS))
                .collect();
            next = (next + size) % RUNS;
            self.seq += 1;
            let batch = CommitBatch {
                lane: "bench".to_owned(),
                seq: self.seq,
                fences: self.fences.clone(),
                updates,
                progress: Vec::new(),
            };
            built += before.elapsed();
            let before = Instant::now();
            self.store.execution.commit(batch).await.expect("commit");
            times.push(before.elapsed());
        }
        let seconds = (start.elapsed() - built).as_secs_f64();
        let commits = times.len() as f64 / seconds;
        times.sort();
        let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
        println!(
            "{size:>6} {commits:>10.0} {:>10.0} {p50:>9.0?} {p99:>9.0?}",
            commits * size as f64
        );
    }

    fn update(&mut self, index: usize) -> RunUpdate {
        let shard = self.fences[index % self.fences.len()].shard;
        // Workflow ids are random in real life, run ids begin with the time.
        let id = (self.epoch * RUNS + index) as u64;
        let random = id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let run = format!("{id:08x}-0000-7000-8000-{:012x}", random >> 16);
        let version = self.versions[index];
        self.versions[index] += 1;
        let data = |len| Bytes::from(vec![index as u8; len]);
        let task = TaskId::new(self.seq * 1_000 + index as i64);
        let current = (version == 0).then(|| CurrentWrite {
            expected: CurrentExpected::Absent,
            record: Some(CurrentRecord {
                run_id: run.as_str().into(),
                request_id: run.clone(),
                status: 1,
                last_write_version: 0,
                start_time: Timestamp::from_millis(1),
                first_run_id: run.as_str().into(),
            }),
        });
        RunUpdate {
            shard,
            key: RunKey::new(
                "32049b68-7872-4094-8e63-d0dd59896a83",
                format!("workflow-{random:016x}"),
                run.as_str(),
            ),
            expected: if version == 0 {
                Expected::Absent
            } else {
                Expected::Version(version)
            },
            row: RowWrite::Put {
                version: version + 1,
                hot: data(300),
                start: (version == 0).then(|| data(400)),
            },
            items: vec![ItemWrite {
                key: ItemRowKey {
                    kind: 1,
                    id: "activity".to_owned(),
                },
                value: (version % 2 == 0).then(|| data(150)),
            }],
            items_replaced: false,
            current,
            branches: Vec::new(),
            history: vec![HistoryNode {
                tree_id: run.clone(),
                branch_id: run,
                node_id: version * 3 + 1,
                next_node_id: version * 3 + 4,
                data: data(600),
            }],
            outbox: vec![OutboxRow {
                first_task_id: task,
                last_task_id: task,
                data: data(200),
            }],
            timers: Vec::new(),
        }
    }
}
