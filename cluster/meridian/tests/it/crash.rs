//! kill -9 in a tight loop, under load, on one SQLite file: what was acknowledged is there afterwards.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rand::Rng;
use scenarios_load::{
    client::Client,
    worker::{Worker, WorkerOptions},
};

use crate::{
    ledger::{Ledger, Traffic},
    process::{NAMESPACE, Process, connections, port},
};

/// How often the server is killed.
const KILLS: usize = 15;

/// How long it may serve before the next kill, in milliseconds.
const SERVES: std::ops::Range<u64> = 20..900;

/// How long it may be starting, in those rounds in which it is killed before it serves.
const STARTS: std::ops::Range<u64> = 5..300;

/// One round of so many does that.
const EARLY_EVERY: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_to_kill_9() {
    let dir = tempfile::tempdir().expect("folder");
    let port = port();
    let (mut server, _) = Process::up(dir.path(), port).await;
    let ledger = Arc::new(Ledger::default());
    let client = Client::new(connections(&[port]), NAMESPACE, "queue");
    let options = WorkerOptions {
        workflow_pollers: 6,
        activity_pollers: 3,
        ..WorkerOptions::new(NAMESPACE, "queue", "worker")
    };
    let worker = Worker::start(connections(&[port]), options, ledger.clone());
    let traffic = Traffic::new(client.clone(), ledger.clone());
    let mut clients = traffic.run(6);

    let begun = Instant::now();
    let mut ready = Duration::ZERO;
    for round in 0..KILLS {
        let pause = Duration::from_millis(rand::rng().random_range(SERVES));
        tokio::time::sleep(pause).await;
        assert!(
            server.running(),
            "it ended by itself: {}",
            server.kill().await
        );
        server.kill().await;
        if round % EARLY_EVERY == 0 {
            let early = Process::begin_up(dir.path(), port);
            let pause = Duration::from_millis(rand::rng().random_range(STARTS));
            tokio::time::sleep(pause).await;
            early.kill().await;
        }
        let restarted = Instant::now();
        (server, _) = Process::up(dir.path(), port).await;
        ready = ready.max(restarted.elapsed());
    }
    eprintln!(
        "{KILLS} kills in {:?}, slowest start {ready:?}: {}",
        begun.elapsed(),
        ledger.counts()
    );
    traffic.stop();
    while let Some(client) = clients.join_next().await {
        client.expect("a client found the server gone for good");
    }
    // Longer than the timeouts of tasks whose answers were lost with a server.
    ledger.judge(&client, Duration::from_secs(30)).await;
    worker.stop().await;
    let (status, errors) = server.interrupt().await;
    assert!(status.success(), "{status}: {errors}");
}
