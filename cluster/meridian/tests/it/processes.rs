//! `meridian up --processes`: one cluster is killed, the other serves on, the killed one comes back by the command that
//! was printed, and Ctrl-C ends all.

use std::net::TcpListener;

use scenarios_load::{client::Client, script::Script};

use crate::process::{NAMESPACE, Process, connections, port, run, wait_for_namespace};

/// Distance between the ports of two clusters, and from a frontend to its port for other clusters.
pub(crate) const STEP: u16 = 100;
pub(crate) const PEER: u16 = 3;

/// A port whose neighbours for two clusters are free, too.
pub(crate) fn ports() -> u16 {
    loop {
        let base = port();
        let free = |p: u16| TcpListener::bind(("127.0.0.1", p)).is_ok();
        if [PEER, STEP, STEP + PEER].iter().all(|d| free(base + d)) {
            return base;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_clusters_can_be_killed_and_started_again() {
    let dir = tempfile::tempdir().expect("folder");
    let base = ports();
    let (west, east) = (base, base + STEP);
    let data = dir.path().join("data");
    let (at, data) = (base.to_string(), data.to_string_lossy().into_owned());
    let (all, table) =
        Process::up_with(&["up", "--processes", "--port-base", &at, "--data", &data]).await;
    for expected in [
        format!("127.0.0.1:{west}"),
        format!("127.0.0.1:{east}"),
        "Web UI".to_owned(),
    ] {
        assert!(table.contains(&expected), "{expected} missing: {table}");
    }
    let line = table
        .lines()
        .find(|l| l.starts_with("east ") && l.contains("kill -9"));
    let line = line.unwrap_or_else(|| panic!("no process of east: {table}"));
    let (kill, again) = line.split_once("again: meridian ").expect("the command");
    let id = kill.split("kill -9 ").nth(1).expect("the process").trim();
    let killed = tokio::process::Command::new("kill")
        .args(["-9", id])
        .status()
        .await;
    assert!(killed.is_ok_and(|s| s.success()));

    let client = Client::new(connections(&[west]), NAMESPACE, "queue");
    let started = client
        .start("alone", "alone", &Script::default().input(0))
        .await;
    started.expect("the other cluster serves on");

    let again: Vec<&str> = again.split(' ').collect();
    let (back, _) = Process::up_with(&again).await;
    wait_for_namespace(&[east]).await;
    let (status, errors) = back.interrupt().await;
    assert!(status.success(), "{status}: {errors}");
    let (status, errors) = all.interrupt().await;
    assert!(status.success(), "{status}: {errors}");
    assert!(errors.contains("east ended (signal: 9"), "{errors}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_of_one_cluster_is_not_started_as_two() {
    let dir = tempfile::tempdir().expect("folder");
    let base = ports();
    let (one, _) = Process::up(dir.path(), base).await;
    let (status, errors) = one.interrupt().await;
    assert!(status.success(), "{status}: {errors}");
    let (at, data) = (base.to_string(), dir.path().to_string_lossy().into_owned());
    let (good, _, errors) = run(&["up", "--port-base", &at, "--data", &data]).await;
    assert!(!good);
    assert!(
        errors.contains("--clusters 1, or name a new folder"),
        "{errors}"
    );
}
