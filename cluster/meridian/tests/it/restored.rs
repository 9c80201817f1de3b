//! The database of one of two clusters is put back from a backup: what was written after the copy is in the other one,
//! and the restored one must not write a second history under the same version.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use proto_messages::temporal::api::{
    enums::v1::ReplicationState,
    workflowservice::v1::{DescribeNamespaceRequest, DescribeNamespaceResponse},
};
use scenarios_load::{
    client::{Client, Whose},
    connect::local,
    script::{Script, Step},
};

use crate::{
    process::{NAMESPACE, Process, connections, run},
    processes::{STEP, ports},
};

/// How long one thing may take that is waited for, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn client(port: u16) -> Client {
    Client::new(connections(&[port]), NAMESPACE, "queue")
}

/// What a cluster says of the namespace.
async fn described(port: u16) -> DescribeNamespaceResponse {
    let request = DescribeNamespaceRequest {
        namespace: NAMESPACE.to_owned(),
        ..Default::default()
    };
    let mut api = connections(&[port]).api();
    let asked = api.describe_namespace(local(request, Duration::from_secs(10)));
    asked.await.expect("describe").into_inner()
}

async fn until_active(port: u16, cluster: &str) -> DescribeNamespaceResponse {
    let begun = Instant::now();
    loop {
        let said = described(port).await;
        let replication = said.replication_config.clone().unwrap_or_default();
        let is_held = replication.state() == ReplicationState::Handover;
        if replication.active_cluster_name == cluster && !is_held {
            return said;
        }
        assert!(begun.elapsed() < PATIENCE, "{said:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn until_has(port: u16, workflow: &str, run: &str) {
    let begun = Instant::now();
    while client(port)
        .history(workflow, run, Whose::Own)
        .await
        .is_err()
    {
        assert!(begun.elapsed() < PATIENCE, "{workflow} does not arrive");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// As docs/operating.md says: the cluster's files and what lies beside them go, the copies take their place.
fn put_back(data: &Path, backup: &Path) {
    for entry in std::fs::read_dir(data).expect("list") {
        let path = entry.expect("entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("west.db") {
            std::fs::remove_file(&path).expect("remove");
        }
    }
    for file in ["west.db", "west.db-visibility"] {
        std::fs::copy(backup.join(file), data.join(file)).expect("copy");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_cluster_writes_nothing_until_a_failover_has_raised_the_version() {
    let dir = tempfile::tempdir().expect("folder");
    let (data, backup) = (dir.path().join("data"), dir.path().join("backup"));
    let base = ports();
    let (west, east) = (base, base + STEP);
    let (at, folder) = (base.to_string(), data.to_string_lossy().into_owned());
    let up = ["up", "--no-tls", "--port-base", &at, "--data", &folder];
    let waits = Script {
        steps: vec![Step::Signals(1)],
        ..Default::default()
    }
    .input(0);

    let (both, _) = Process::up_with(&up).await;
    client(west)
        .start("before", "1", &waits)
        .await
        .expect("start");
    let to = backup.to_string_lossy();
    let (done, _, errors) = run(&["backup", "--data", &folder, "--to", &to]).await;
    assert!(done, "{errors}");
    let after = client(west)
        .start("after", "2", &waits)
        .await
        .expect("start");
    until_has(east, "after", &after).await;
    both.interrupt().await;
    put_back(&data, &backup);

    // It knows that it was put back, and holds what east has, too.
    let (both, _) = Process::up_with(&up).await;
    let said = described(west).await;
    let version = said.failover_version;
    let replication = said.replication_config.unwrap_or_default();
    assert_eq!(replication.active_cluster_name, "west");
    assert_eq!(replication.state(), ReplicationState::Handover);
    let refused = client(west).start("new", "3", &waits).await;
    assert!(refused.is_err(), "{refused:?}");
    let at_west = format!("127.0.0.1:{west}");
    let refused = [
        "namespace",
        "switchover",
        "--to",
        "east",
        "--address",
        &at_west,
    ];
    let (done, output, errors) = run(&refused).await;
    let said = format!("{output}{errors}");
    assert!(!done && said.contains("put back from a copy"), "{said}");
    let refused = [
        "namespace",
        "failover",
        "--to",
        "west",
        "--address",
        &at_west,
    ];
    let (done, _, errors) = run(&refused).await;
    assert!(!done && errors.contains("put back from a copy"), "{errors}");

    let at_east = format!("127.0.0.1:{east}");
    let over = [
        "namespace",
        "failover",
        "--to",
        "east",
        "--address",
        &at_east,
    ];
    let (done, output, errors) = run(&over).await;
    assert!(done, "{output}{errors}");
    let now = until_active(west, "east").await;
    assert!(now.failover_version > version);
    let new = client(west).start("new", "3", &waits).await.expect("start");
    let history = client(east).history("new", &new, Whose::Own).await;
    let history = history.expect("read");
    assert!(history.iter().all(|e| e.version == now.failover_version));
    until_has(east, "after", &after).await;
    until_has(west, "new", &new).await;

    // Put back once more, it has forgotten the failover; the other cluster tells, and nobody has to do anything.
    both.interrupt().await;
    put_back(&data, &backup);
    let (both, _) = Process::up_with(&up).await;
    let told = until_active(west, "east").await;
    assert_eq!(told.failover_version, now.failover_version);
    both.interrupt().await;
}
