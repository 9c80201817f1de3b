//! `kill -9` while SQLite commits: what was acknowledged is there, and every batch is there whole or not at all.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use proto_ids::RunKey;
use schema_sql::Options;
use schema_store::Store;

use crate::{acquire, creation};

/// Names the database to the process that gets killed.
const DATABASE: &str = "MERIDIAN_CRASH_DATABASE";

/// Runs in each batch.
const RUNS: usize = 5;

/// Not a test by itself: the process that gets killed. It tells each batch that was acknowledged.
#[tokio::test]
#[ignore = "started by another test"]
async fn writer() {
    let Ok(path) = std::env::var(DATABASE) else {
        return;
    };
    let store = schema_sql::open(Options::sqlite(path)).await.expect("open");
    let fence = acquire(&store).await;
    for seq in 1.. {
        let mut batch = creation(fence, seq, "");
        let update = batch.updates.remove(0);
        for run in 0..RUNS {
            let mut update = update.clone();
            update.key = key(fence.range.get(), seq, run);
            update.current = None;
            batch.updates.push(update);
        }
        store.execution.commit(batch).await.expect("commit");
        println!("acknowledged {seq}");
    }
}

fn key(range: i64, seq: i64, run: usize) -> RunKey {
    RunKey::new("ns", format!("w-{range}-{seq:06}"), format!("run-{run}"))
}

#[tokio::test]
async fn acknowledged_batches_survive_whole() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("crash.db");
    let mut expected = Vec::new();
    // Each round is killed somewhere else, and goes on with what the last one left.
    for (round, kill_after) in [1, 2, 7, 40, 90].into_iter().enumerate() {
        let acknowledged = write_and_kill(&path, kill_after);
        assert!(acknowledged >= kill_after);
        expected.push((round as i64 * 2 + 1, acknowledged));
        let store = schema_sql::open(Options::sqlite(&path))
            .await
            .expect("open after a kill");
        let shard = acquire(&store).await.shard;
        let runs = store
            .execution
            .run_list(shard, None, usize::MAX)
            .await
            .expect("list");
        assert_eq!(runs.len() % RUNS, 0, "a batch is there in part");
        for (range, last) in &expected {
            assert!(
                holds(&store, *range, *last).await,
                "batch {last} of range {range} is lost"
            );
        }
    }
}

/// The last acknowledged batch; those before it are in it, since one lane commits one after the other.
async fn holds(store: &Store, range: i64, seq: i64) -> bool {
    for run in 0..RUNS {
        let shard = proto_ids::ShardId::new(1);
        let stored = store
            .execution
            .run_load(shard, &key(range, seq, run))
            .await
            .expect("load");
        if stored.is_none() {
            return false;
        }
    }
    true
}

/// Starts the writer, kills it after so many acknowledgements, and returns how many there were in the end.
fn write_and_kill(path: &Path, kill_after: i64) -> i64 {
    let program = std::env::current_exe().expect("own path");
    let mut command = Command::new(program);
    command.args(["crash::writer", "--exact", "--ignored", "--nocapture"]);
    let mut child = command
        .env(DATABASE, path)
        .stdout(Stdio::piped())
        .spawn()
        .expect("writer");
    let mut last = 0;
    let stdout = child.stdout.take().expect("stdout");
    for line in BufReader::new(stdout).lines() {
        let Ok(line) = line else { break };
        // The test harness writes its own words before the first one, on the same line.
        let Some((_, seq)) = line.rsplit_once("acknowledged ") else {
            continue;
        };
        // A line may be cut by the kill; a shorter number is an earlier batch.
        last = seq.parse::<i64>().unwrap_or(0).max(last);
        if last == kill_after {
            child.kill().expect("kill");
        }
    }
    child.wait().expect("wait");
    last
}
