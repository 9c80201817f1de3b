//! What the binary says about itself, and how its failures are told to programs.

use crate::process::{port, run, run_in};

#[tokio::test]
async fn completions_and_manual_pages_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let (good, script, errors) = run(&["completions", shell]).await;
        assert!(good, "{errors}");
        for command in ["switchover", "replication", "backup", "completions"] {
            assert!(script.contains(command), "{shell} does not know {command}");
        }
    }
    let dir = tempfile::tempdir().expect("folder");
    let (good, _, errors) = run_in(dir.path(), &["man", "--dir", "man"]).await;
    assert!(good, "{errors}");
    for page in ["meridian.1", "meridian-namespace-switchover.1"] {
        let page = std::fs::read_to_string(dir.path().join("man").join(page));
        assert!(page.expect("a page").contains("meridian"));
    }
}

#[tokio::test]
async fn a_server_out_of_reach_is_told_in_the_format_that_was_asked_for() {
    let at = format!("127.0.0.1:{}", port());
    let list = ["namespace", "list", "--address", &at];
    let (good, _, text) = run(&list).await;
    assert!(!good);
    assert_eq!(
        text,
        format!(
            "error: nothing listens on {at}: start the server, or name another one with --address\n"
        )
    );
    let (_, _, json) = run(&[&list[..], &["-o", "json"]].concat()).await;
    let told: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(told["exit_code"], 4, "{json}");
    assert!(
        told["error"].as_str().is_some_and(|e| e.contains(&at)),
        "{json}"
    );
    let (_, _, json) = run(&["namespace", "list", "-o", "json", "--nonsense"]).await;
    let told: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(told["exit_code"], 64, "{json}");

    let bench = ["bench", "--address", &at, "-w", "w1", "-o", "json"];
    let (_, _, json) = run(&bench).await;
    let told: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(told["exit_code"], 4, "{json}");
}
