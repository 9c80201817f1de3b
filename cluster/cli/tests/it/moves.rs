//! Exit codes of the two ways to move a namespace: a program that runs them decides by nothing else.

use std::process::ExitCode;

use clap::Parser;
use cluster_cli::Command;
use proto_messages::meridian::replication::v1::{
    Completeness, SwitchoverProgress, SwitchoverResult, switchover_progress::Step,
};

use crate::server::{Answers, Server};

const DONE: ExitCode = ExitCode::SUCCESS;

#[derive(Debug, Parser)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

async fn run(server: &Server, verb: &str, options: &[&str]) -> anyhow::Result<ExitCode> {
    let fixed = [
        "meridian",
        "namespace",
        verb,
        "-n",
        "orders",
        "--to",
        "east",
    ];
    let at = ["--address", &server.address];
    let line = Line::try_parse_from([&fixed[..], &at, options].concat())?;
    cluster_cli::run(line.command).await
}

fn lacking(runs: i64) -> Completeness {
    Completeness {
        checked_runs: 5,
        lacking_runs: runs,
        ..Default::default()
    }
}

/// What a forced failover with these answers and options ends with, and whether anything was changed.
async fn failover(answers: Answers, options: &[&str]) -> (ExitCode, bool) {
    let server = Server::start(answers).await;
    let code = run(&server, "failover", options).await.expect("a code");
    (code, server.moved_to().is_some())
}

#[tokio::test]
async fn a_forced_failover_keeps_to_the_loss_that_was_accepted() {
    let known = |tail, runs| Answers {
        tail: Some(tail),
        found: Some(lacking(runs)),
        ..Default::default()
    };
    let dead = Answers::default();
    let tail_only = Answers {
        tail: Some(2),
        ..Default::default()
    };
    let letters = Answers {
        found: Some(Completeness {
            dead_letters: 1,
            ..lacking(0)
        }),
        ..known(0, 0)
    };
    let (refused, unknown) = (ExitCode::from(1), ExitCode::from(3));
    let cases: [(&str, Answers, &[&str], ExitCode); 12] = [
        ("nothing lacks", known(0, 0), &["--accept-loss", "0"], DONE),
        ("one lacks", known(0, 1), &["--accept-loss", "0"], refused),
        ("as many", known(0, 1), &["--accept-loss", "1"], DONE),
        // What the target merely did not acknowledge yet may have arrived: the comparison decides.
        ("arrived", known(3, 0), &["--accept-loss", "0"], DONE),
        ("letters", letters, &["--accept-loss", "0"], refused),
        ("dead", dead.clone(), &["--accept-loss", "0"], unknown),
        (
            "dead, many",
            dead.clone(),
            &["--accept-loss", "99"],
            unknown,
        ),
        (
            "dead, only asked",
            dead.clone(),
            &["--accept-loss", "0", "--dry-run"],
            unknown,
        ),
        (
            "dead, accepted",
            dead.clone(),
            &["--accept-loss", "0", "--accept-unknown"],
            DONE,
        ),
        // At least two are known to lack, whatever is accepted beside.
        (
            "tail",
            tail_only.clone(),
            &["--accept-loss", "1", "--accept-unknown"],
            refused,
        ),
        ("tail fits", tail_only, &["--accept-loss", "2"], unknown),
        // Without a limit it is the operator who reads the forecast.
        ("no limit", dead, &[], DONE),
    ];
    for (what, answers, options, expected) in cases {
        let (code, changed) = failover(answers, options).await;
        assert_eq!(code, expected, "{what}");
        assert_eq!(changed, expected == DONE, "{what}");
    }
}

fn step(step: Step) -> SwitchoverProgress {
    SwitchoverProgress {
        step: step as i32,
        ..Default::default()
    }
}

fn end(result: SwitchoverResult) -> SwitchoverProgress {
    SwitchoverProgress {
        result: Some(result),
        ..step(Step::Done)
    }
}

async fn switchover(
    progress: Vec<SwitchoverProgress>,
    options: &[&str],
) -> anyhow::Result<ExitCode> {
    let answers = Answers {
        switchover: progress,
        ..Default::default()
    };
    run(&Server::start(answers).await, "switchover", options).await
}

#[tokio::test]
async fn a_switchover_ends_with_a_code_for_each_way_it_can_end() {
    let no = |reason: &str| SwitchoverResult {
        reason: reason.into(),
        ..Default::default()
    };
    let switched = SwitchoverResult {
        switched: true,
        completeness: Some(lacking(0)),
        ..Default::default()
    };
    let unknown = SwitchoverResult {
        unknown: true,
        ..no("it is unknown what east lacks")
    };
    let broken_promise = no("writes would pause for about 900 ms, and at most 200 ms are promised");
    let cases: [(&str, Vec<_>, &[&str], u8); 7] = [
        ("done", vec![step(Step::Forecast), end(switched)], &[], 0),
        ("go", vec![end(no(""))], &["--dry-run"], 0),
        (
            "a promise that cannot be kept",
            vec![step(Step::Forecast), end(broken_promise.clone())],
            &["--max-pause", "200ms"],
            1,
        ),
        (
            "the same, asked",
            vec![end(broken_promise)],
            &["--dry-run"],
            1,
        ),
        ("unknown", vec![end(unknown.clone())], &[], 3),
        ("unknown, asked", vec![end(unknown)], &["--dry-run"], 3),
        (
            "rolled back",
            vec![step(Step::Hold), step(Step::Rollback), end(no("late"))],
            &[],
            2,
        ),
    ];
    for (what, progress, options, expected) in cases {
        let code = switchover(progress, options).await.expect(what);
        assert_eq!(code, ExitCode::from(expected), "{what}");
    }
    // The server died in the midst of it: nobody knows, and it is not told as an end.
    let silent = switchover(vec![step(Step::Hold)], &[]).await;
    let told = silent.expect_err("no result").to_string();
    assert!(told.contains("meridian namespace describe"), "{told}");
}

#[tokio::test]
async fn what_the_operator_promises_and_accepts_reaches_the_server() {
    let server = Server::start(Answers {
        switchover: vec![end(SwitchoverResult::default())],
        ..Default::default()
    })
    .await;
    let options = ["--max-pause", "200ms", "--accept-unknown", "--dry-run"];
    run(&server, "switchover", &options).await.expect("a code");
    let asked = server.asked().expect("asked");
    let pause = asked.max_pause.unwrap_or_default();
    assert_eq!((pause.seconds, pause.nanos), (0, 200_000_000));
    assert!(asked.accept_unknown && asked.dry_run);
}
