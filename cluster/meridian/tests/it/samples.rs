//! The sample configurations of `docs/samples`: as they are they are good, and with ports of this machine they run, with
//! the commands printed beside them.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tokio::process::Command;

use crate::{
    postgres::Postgres,
    process::{Process, port, run_in, run_with},
};

/// How long a server may take until its first answer.
const SERVES: Duration = Duration::from_secs(30);

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/samples")
}

/// Every port of the samples, and one of this machine for each.
fn ports() -> Vec<(String, String)> {
    [
        6933, 6934, 6935, 6939, 7033, 7233, 7234, 7235, 7239, 7333, 9090, 9190,
    ]
    .map(|sample: u16| (sample.to_string(), port().to_string()))
    .into()
}

/// A copy of a sample with these ports.
fn copy(name: &str, to: &Path, ports: &[(String, String)]) {
    let sample = std::fs::read_to_string(samples().join(name)).expect("read the sample");
    let mut text = String::new();
    // Number by number, since a port of this machine may hold the digits of another one of the sample.
    let mut rest = sample.as_str();
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, digits) = rest.split_at(at);
        let end = digits
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(digits.len());
        let (number, after) = digits.split_at(end);
        let here = ports.iter().find(|(sample, _)| sample == number);
        text.push_str(before);
        text.push_str(here.map_or(number, |(_, here)| here));
        rest = after;
    }
    text.push_str(rest);
    let file = Path::new(name).file_name().expect("a file");
    std::fs::write(to.join(file), text).expect("write");
}

fn port_for(ports: &[(String, String)], sample: &str) -> String {
    let found = ports.iter().find(|(s, _)| s == sample);
    found.map(|(_, here)| here.clone()).expect("a port")
}

/// Waits until the command succeeds.
async fn succeeds(dir: &Path, arguments: &[&str]) {
    let begun = Instant::now();
    loop {
        let (good, _, errors) = run_in(dir, arguments).await;
        if good {
            return;
        }
        assert!(
            begun.elapsed() < SERVES,
            "{}: {errors}",
            arguments.join(" ")
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn every_sample_is_good_as_it_is() {
    let dir = tempfile::tempdir().expect("folder");
    let issued = run_in(
        dir.path(),
        &[
            "certs",
            "issue",
            "--dir",
            "certs",
            "--clusters",
            "west,east",
        ],
    );
    let (good, _, errors) = issued.await;
    assert!(good, "{errors}");
    for name in [
        "one-node.yaml",
        "several-processes.yaml",
        "two-clusters/west.yaml",
        "two-clusters/east.yaml",
        "container/node.yaml",
    ] {
        copy(name, dir.path(), &[]);
        let file = name.rsplit('/').next().expect("a name");
        let check = ["server", "--config", file, "--check"];
        let (good, output, errors) = run_in(dir.path(), &check).await;
        assert!(
            good && output.contains(": good"),
            "{name}: {output}{errors}"
        );
        assert!(
            !output.contains("note:"),
            "{name} holds what has no effect: {output}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sample_of_one_node_serves() {
    let dir = tempfile::tempdir().expect("folder");
    let ports = ports();
    copy("one-node.yaml", dir.path(), &ports);
    let server = Process::start_in(dir.path(), &[], &["server", "--config", "one-node.yaml"]);
    let at = format!("127.0.0.1:{}", port_for(&ports, "7233"));
    let register = [
        "namespace",
        "register",
        "--namespace",
        "orders",
        "--address",
        &at,
    ];
    succeeds(dir.path(), &register).await;
    let (status, errors) = server.interrupt().await;
    assert!(status.success(), "{status}: {errors}");
    assert!(
        !errors.contains('\u{1b}'),
        "a log in a file holds codes for terminals: {errors}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sample_of_several_processes_serves() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let dir = tempfile::tempdir().expect("folder");
    let ports = ports();
    copy("several-processes.yaml", dir.path(), &ports);
    let config = ["--config", "several-processes.yaml"];
    let database = ("PGPORT", postgres.port().to_string());
    let setup = [&["schema", "setup"][..], &config].concat();
    let (good, _, errors) = run_with(dir.path(), std::slice::from_ref(&database), &setup).await;
    assert!(good, "{errors}");
    let mut processes = Vec::new();
    for services in ["frontend,worker", "history", "matching"] {
        let environment = [database.clone(), ("METRICS_PORT", port().to_string())];
        let arguments = [&["server"][..], &config, &["--services", services]].concat();
        processes.push(Process::start_in(dir.path(), &environment, &arguments));
    }
    let at = format!("127.0.0.1:{}", port_for(&ports, "7233"));
    let register = [
        "namespace",
        "register",
        "--namespace",
        "orders",
        "--address",
        &at,
    ];
    succeeds(dir.path(), &register).await;
    for process in processes {
        let (status, errors) = process.interrupt().await;
        assert!(status.success(), "{status}: {errors}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sample_of_two_clusters_serves_and_its_commands_move_a_namespace() {
    let dir = tempfile::tempdir().expect("folder");
    let ports = ports();
    for name in ["west.yaml", "east.yaml", "commands.sh"] {
        copy(&format!("two-clusters/{name}"), dir.path(), &ports);
    }
    let issue = [
        "certs",
        "issue",
        "--dir",
        "certs",
        "--clusters",
        "west,east",
    ];
    let (good, _, errors) = run_in(dir.path(), &issue).await;
    assert!(good, "{errors}");
    let servers = ["west.yaml", "east.yaml"]
        .map(|file| Process::start_in(dir.path(), &[], &["server", "--config", file]));
    let tls = [
        "--tls-ca-path",
        "certs/ca.pem",
        "--tls-cert-path",
        "certs/west.pem",
        "--tls-key-path",
        "certs/west.key",
    ];
    for sample in ["7233", "7333"] {
        let at = format!("127.0.0.1:{}", port_for(&ports, sample));
        let list = [&["cluster", "list", "--address", &at][..], &tls].concat();
        succeeds(dir.path(), &list).await;
    }
    let binary = Path::new(env!("CARGO_BIN_EXE_meridian"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = [binary.parent().expect("folder").to_owned()];
    let path = std::env::join_paths(folders.into_iter().chain(std::env::split_paths(&path)));
    let output = Command::new("sh")
        .args(["-e", "commands.sh"])
        .env("PATH", path.expect("a path"))
        .current_dir(dir.path())
        .output();
    let output = tokio::time::timeout(SERVES, output).await;
    let output = output.expect("ends in time").expect("run");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}{errors}");
    assert!(
        told.contains("DONE  orders is active in east"),
        "{told}{errors}"
    );
    for server in servers {
        let (status, errors) = server.interrupt().await;
        assert!(status.success(), "{status}: {errors}");
    }
}

/// As systemd reads it, with this program in the place of the installed one.
#[tokio::test]
async fn the_unit_for_systemd_is_one() {
    let dir = tempfile::tempdir().expect("folder");
    let unit = std::fs::read_to_string(samples().join("systemd/meridian.service")).expect("read");
    let program = env!("CARGO_BIN_EXE_meridian");
    let installed = unit.replace("/usr/local/bin/meridian", program);
    assert!(installed != unit && !installed.contains("Type=notify"));
    let path = dir.path().join("meridian.service");
    std::fs::write(&path, &installed).expect("write");
    let verified = Command::new("systemd-analyze")
        .arg("verify")
        .arg(&path)
        .output();
    let Ok(verified) = verified.await else {
        eprintln!("skipped: no systemd-analyze");
        return;
    };
    let told = String::from_utf8_lossy(&verified.stderr).into_owned();
    let about_it: Vec<_> = told.lines().filter(|l| l.contains("meridian")).collect();
    assert!(verified.status.success() && about_it.is_empty(), "{told}");
}
