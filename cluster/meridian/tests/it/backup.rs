//! `meridian backup` of a server under load, and a start on the copy.

use std::{sync::Arc, time::Duration};

use scenarios_load::{
    client::Client,
    worker::{Worker, WorkerOptions},
};

use crate::{
    ledger::{Ledger, Traffic},
    process::{NAMESPACE, Process, connections, port, run},
};

/// How many orders have to be on their way before the copy is made.
const ORDERS: u64 = 30;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_made_under_load_holds_everything_acknowledged_before_it() {
    let dir = tempfile::tempdir().expect("folder");
    let (data, copy) = (dir.path().join("data"), dir.path().join("copy"));
    let port = port();
    let (server, _) = Process::up(&data, port).await;
    let ledger = Arc::new(Ledger::default());
    let client = Client::new(connections(&[port]), NAMESPACE, "queue");
    let worker = Worker::start(
        connections(&[port]),
        WorkerOptions::new(NAMESPACE, "queue", "worker"),
        ledger.clone(),
    );
    let traffic = Traffic::new(client.clone(), ledger.clone());
    let mut clients = traffic.run(4);
    while traffic.orders() < ORDERS {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    let before = ledger.snapshot();
    let (from, to) = (data.to_string_lossy(), copy.to_string_lossy());
    let (done, output, errors) = run(&["backup", "--data", &from, "--to", &to]).await;
    assert!(done, "{errors}");
    for file in ["west.db", "west.db-visibility"] {
        assert!(output.contains(file), "{output}");
    }
    traffic.stop();
    server.kill().await;
    worker.stop().await;
    clients.abort_all();
    while clients.join_next().await.is_some() {}

    let (restored, _) = Process::up(&copy, port).await;
    let client = Client::new(connections(&[port]), NAMESPACE, "queue");
    before.judge_kept(&client).await;
    // It goes on from there: what was under way comes to its end.
    let script = scenarios_load::script::Script::default();
    let fresh = client.start("after", "after", &script.input(0)).await;
    let fresh = fresh.expect("start");
    let worker = Worker::start(
        connections(&[port]),
        WorkerOptions::new(NAMESPACE, "queue", "worker"),
        Arc::new(Ledger::default()),
    );
    let closed = client.closing_event("after", &fresh, scenarios_load::client::Whose::Any);
    let closed = tokio::time::timeout(Duration::from_secs(20), closed).await;
    closed.expect("closes in time").expect("event");
    worker.stop().await;
    let (status, errors) = restored.interrupt().await;
    assert!(status.success(), "{status}: {errors}");
}
