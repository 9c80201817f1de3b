//! `meridian up --bind`: the frontends listen where they are told to, and what is printed works from there.

use std::{net::TcpStream, path::Path, time::Duration};

use serde_json::Value;

use crate::{
    process::{Process, code_of, run_in},
    processes::{PEER, STEP, ports},
};

/// A loopback address that nothing listens on unless told to.
const ELSEWHERE: &str = "127.0.0.2";
/// Tries of a switchover on a machine that may stand still in the midst of one.
const TRIES: usize = 5;

fn listens(host: &str, port: u16) -> bool {
    let at = format!("{host}:{port}").parse().expect("an address");
    TcpStream::connect_timeout(&at, Duration::from_secs(5)).is_ok()
}

/// Runs a command as it is printed.
async fn run_line(dir: &Path, line: &str) -> (bool, String, String) {
    let words: Vec<&str> = line.split(' ').collect();
    let (program, arguments) = words.split_first().expect("a command");
    assert_eq!(*program, "meridian", "{line}");
    run_in(dir, arguments).await
}

/// The command that moves the namespace, among what was printed.
fn move_it(table: &str) -> &str {
    let line = table.lines().find_map(|l| l.strip_prefix("move it "));
    line.unwrap_or_else(|| panic!("no command: {table}")).trim()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frontends_listen_where_they_are_bound_and_nowhere_else() {
    let base = ports();
    let at = base.to_string();
    let arguments = ["up", "--ephemeral", "--bind", ELSEWHERE, "--port-base", &at];
    let (up, table) = Process::up_with(&arguments).await;
    for port in [base, base + STEP] {
        assert!(table.contains(&format!("{ELSEWHERE}:{port}")), "{table}");
        assert!(listens(ELSEWHERE, port) && !listens("127.0.0.1", port));
        assert!(listens("127.0.0.1", port + PEER) && !listens(ELSEWHERE, port + PEER));
    }
    let (moved, output, errors) = run_line(Path::new("."), move_it(&table)).await;
    assert!(moved, "{output}{errors}");
    a_short_promise_is_kept_or_refused(&format!("{ELSEWHERE}:{base}")).await;
    let (status, errors) = up.interrupt().await;
    assert!(status.success(), "{status}: {errors}");
}

/// Promises 200 ms: either writes pause no longer, or nothing is begun that could not be ended in time.
async fn a_short_promise_is_kept_or_refused(address: &str) {
    let back = ["namespace", "switchover", "--to", "west", "-o", "json"];
    let how = ["--max-pause", "200ms", "--address", address];
    let mut reports = Vec::new();
    for _ in 0..TRIES {
        let (code, output, errors) =
            code_of(Path::new("."), &[], &[&back[..], &how].concat()).await;
        let report: Value = serde_json::from_str(&output).unwrap_or_default();
        let reason = report["reason"].as_str().unwrap_or_default();
        match code {
            Some(0) => {
                let pause = report["pause_ms"].as_u64().expect("a pause");
                assert!(pause <= 200, "{report}");
                return;
            }
            Some(1) if reason.contains("at most 200 ms are promised") => return,
            // It came to a hold, and the machine was too slow for it: nothing is lost, and it may be tried again.
            Some(2) => reports.push(output),
            other => panic!("{other:?}: {output}{errors}"),
        }
    }
    panic!("a promise of 200 ms is never kept: {}", reports.join("\n"));
}

/// On a port that other machines can reach, operators are asked who they are: the printed command goes where they are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bound_to_every_address_the_printed_command_still_works() {
    let dir = tempfile::tempdir().expect("folder");
    let base = ports();
    let (at, data) = (base.to_string(), dir.path().join("data"));
    let data = data.to_string_lossy();
    let to = ["--port-base", &at, "--data", &data];
    let (up, table) = Process::up_with(&[&["up", "--bind", "0.0.0.0"][..], &to].concat()).await;
    assert!(listens(ELSEWHERE, base));
    assert!(!listens(ELSEWHERE, base + PEER), "peers are on loopback");
    let anybody = format!("{ELSEWHERE}:{base}");
    let (good, output, errors) =
        run_in(dir.path(), &["namespace", "list", "--address", &anybody]).await;
    assert!(good && output.contains("default"), "{output}{errors}");
    let (good, _, errors) = run_in(
        dir.path(),
        &["replication", "status", "--address", &anybody],
    )
    .await;
    assert!(!good && errors.contains("peerPort"), "{errors}");
    let (moved, output, errors) = run_line(dir.path(), move_it(&table)).await;
    assert!(moved, "{table}\n{output}{errors}");
    let (status, errors) = up.interrupt().await;
    assert!(status.success(), "{status}: {errors}");
}
