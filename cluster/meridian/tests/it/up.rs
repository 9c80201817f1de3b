//! `meridian up`: a first start from nothing, a stop by Ctrl-C, and a second start that goes on.

use std::{sync::Arc, time::Duration};

use proto_messages::temporal::api::enums::v1::EventType;
use scenarios_load::{
    client::{Client, Whose},
    script::{Script, Step},
    worker::{Worker, WorkerOptions},
};

use crate::{
    ledger::Ledger,
    process::{NAMESPACE, Process, connections, port},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_start_goes_on_where_the_first_ended() {
    let dir = tempfile::tempdir().expect("folder");
    let port = port();
    let (first, table) = Process::up(&dir.path().join("data"), port).await;
    assert!(table.starts_with("CLUSTER"), "{table}");
    for expected in ["west", &format!("127.0.0.1:{port}"), "active", "serving"] {
        assert!(table.contains(expected), "{expected} missing: {table}");
    }

    let client = Client::new(connections(&[port]), NAMESPACE, "queue");
    let script = Script {
        steps: vec![
            Step::Activities(1),
            Step::Timers(vec![50]),
            Step::Signals(1),
        ],
        ..Default::default()
    };
    let run = client.start("kept", "once", &script.input(0)).await;
    let run = run.expect("start");
    client
        .signal("kept", "paid", "signal")
        .await
        .expect("signal");
    let (status, errors) = first.interrupt().await;
    assert!(status.success(), "{status}: {errors}");
    assert_eq!(errors, "stopping: calls drain, state is stored\n");

    // Only the main files are carried over: after a clean stop nothing is in the logs beside them.
    let carried = dir.path().join("carried");
    std::fs::create_dir(&carried).expect("folder");
    for file in ["west.db", "west.db-visibility"] {
        let from = dir.path().join("data").join(file);
        std::fs::copy(from, carried.join(file)).expect("copy");
    }
    let (second, _) = Process::up(&carried, port).await;
    let client = Client::new(connections(&[port]), NAMESPACE, "queue");
    let again = client.start("kept", "once", &script.input(0)).await;
    assert_eq!(again.expect("the same request again"), run);
    let worker = Worker::start(
        client.connections().clone(),
        WorkerOptions::new(NAMESPACE, "queue", "worker"),
        Arc::new(Ledger::default()),
    );
    let closed = client.closing_event("kept", &run, Whose::Any);
    let closed = tokio::time::timeout(Duration::from_secs(20), closed).await;
    let closed = closed.expect("closes in time").expect("event");
    assert_eq!(closed.event_type(), EventType::WorkflowExecutionCompleted);
    client
        .verify_completed("kept", &run)
        .await
        .expect("whole history");
    // With polls open, and somebody who waits for an end that does not come: they have to be let go.
    let waits = Script {
        steps: vec![Step::Signals(1)],
        ..Default::default()
    };
    let open = client.start("waits", "twice", &waits.input(0)).await;
    let open = open.expect("start");
    let waiter = tokio::spawn(async move {
        let closed = client.closing_event("waits", &open, Whose::Any);
        closed.await.map(|e| e.event_type())
    });
    let (status, errors) = second.interrupt().await;
    assert!(status.success(), "{status}: {errors}");
    let waited = waiter.await.expect("waits");
    assert!(waited.is_err(), "{waited:?}");
    worker.stop().await;
}
