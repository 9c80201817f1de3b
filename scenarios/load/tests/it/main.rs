//! The worker and the benchmark against a frontend that lives in the test: it keeps histories in
//! memory, sends short pages and partial histories, and forgets nothing. What is tested is the client's
//! side of the wire; servers have tests of their own.

mod frontend;

use std::{sync::Arc, time::Duration};

use clap::Parser;
use frontend::Frontend;
use proto_messages::temporal::api::enums::v1::EventType;
use scenarios_load::{
    bench::{self, BenchArgs},
    client::{Client, Whose},
    connect::{Connections, Target},
    script::{Script, Step},
    worker::{Worker, WorkerEvent, WorkerObserver, WorkerOptions},
};

struct Nothing;

impl WorkerObserver for Nothing {
    fn observe(&self, _: WorkerEvent<'_>) {}
}

/// Plays one script to its end and returns the kinds of its events.
async fn play(steps: Vec<Step>, sticky: bool, forget: bool) -> Vec<EventType> {
    let frontend = Frontend::start(forget).await;
    let connections = Connections::open(Target::plain(&frontend.address)).expect("open");
    let client = Client::new(connections.clone(), "default", "q");
    let options = WorkerOptions {
        workflow_pollers: 2,
        activity_pollers: 1,
        sticky: sticky.then_some(Duration::from_secs(5)),
        ..WorkerOptions::new("default", "q", "test")
    };
    let worker = Worker::start(connections, options, Arc::new(Nothing));
    let script = Script {
        steps,
        ..Default::default()
    };
    let run = client
        .start("w", "r", &script.input(256))
        .await
        .expect("start");
    client.signal("w", "go", "s").await.expect("signal");
    let ended = client.closing_event("w", &run, Whose::Any);
    let ended = tokio::time::timeout(Duration::from_secs(20), ended).await;
    let ended = ended.expect("in time").expect("event");
    assert_eq!(ended.event_type(), EventType::WorkflowExecutionCompleted);
    client.verify_completed("w", &run).await.expect("gapless");
    worker.stop().await;
    let history = client.history("w", &run, Whose::Own).await.expect("read");
    history.iter().map(|e| e.event_type()).collect()
}

fn order() -> Vec<Step> {
    vec![
        Step::Activities(2),
        Step::Timers(vec![5, 20]),
        Step::Signals(1),
        Step::Until("go".into()),
    ]
}

fn count(kinds: &[EventType], kind: EventType) -> usize {
    kinds.iter().filter(|k| **k == kind).count()
}

#[tokio::test]
async fn scripts_are_played_with_full_partial_and_unexpected_histories() {
    // Full histories; a sticky queue; and partial histories that reach a worker which does not hold the
    // run and has to read it whole.
    for (sticky, forget) in [(false, false), (true, false), (false, true)] {
        let kinds = play(order(), sticky, forget).await;
        let counts = [
            count(&kinds, EventType::ActivityTaskScheduled),
            count(&kinds, EventType::TimerStarted),
            count(&kinds, EventType::TimerFired),
            count(&kinds, EventType::WorkflowExecutionCompleted),
        ];
        assert_eq!(
            counts,
            [2, 2, 2, 1],
            "sticky {sticky}, forget {forget}: {kinds:?}"
        );
    }
}

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    bench: BenchArgs,
}

#[tokio::test]
async fn every_workload_of_one_cluster_completes() {
    let frontend = Frontend::start(false).await;
    for load in ["--in-flight=4", "--rate=50"] {
        let cli = Cli::parse_from([
            "bench",
            "--address",
            &frontend.address,
            "--workload",
            "w1,w2,w3,w5,w7",
            load,
            "--warmup=50ms",
            "--duration=1s",
            "--activities=3",
            "--signals=3",
            "--output=json",
            "--verify-every=1",
        ]);
        let code = bench::run(cli.bench).await.expect("runs");
        assert_eq!(
            format!("{code:?}"),
            format!("{:?}", std::process::ExitCode::SUCCESS)
        );
    }
}

#[tokio::test]
async fn a_missing_namespace_is_named_and_not_created() {
    let frontend = Frontend::start(false).await;
    let cli = Cli::parse_from(["bench", "--address", &frontend.address, "-n", "absent"]);
    let error = bench::run(cli.bench).await.expect_err("refused");
    assert!(
        error.to_string().contains("\"absent\" does not exist"),
        "{error}"
    );
}
