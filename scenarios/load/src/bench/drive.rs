//! Drives the workloads of one cluster: starts workflows in a closed or an open loop, feeds them, and
//! waits for each result.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use proto_messages::temporal::api::{common::v1::Payloads, enums::v1::EventType};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{BenchArgs, Window, Workload, observe::Observer, report::Section};
use crate::{
    client::{Client, Whose},
    measure::{Recorder, Timed},
    worker::{Worker, WorkerOptions},
};

/// Workflows an open loop may have outstanding; past it the server is hopelessly behind and further
/// starts are counted as failed rather than piling up in memory.
const OUTSTANDING_MAX: usize = 20_000;

/// How long workflows in flight may take after the measured part.
const DRAIN: Duration = Duration::from_secs(10);

/// State that all starters share.
struct Drive {
    client: Client,
    observer: Arc<Observer>,
    recorder: Arc<Recorder>,
    input: Payloads,
    signals: u32,
    verify_every: u64,
    prefix: String,
    next: AtomicU64,
    stop: CancellationToken,
}

/// Runs one workload and returns what was measured.
pub(super) async fn drive(
    args: &BenchArgs,
    workload: Workload,
    window: Window,
    client: Client,
    queue: &str,
) -> anyhow::Result<Section> {
    let observer = Arc::new(Observer::new(window.recorder.clone()));
    let options = WorkerOptions {
        workflow_pollers: args.workflow_pollers,
        activity_pollers: args.activity_pollers,
        sticky: (!args.no_sticky).then_some(Duration::from_secs(10)),
        ..WorkerOptions::new(&args.namespace, queue, "meridian-bench-worker")
    };
    let worker = Worker::start(client.connections().clone(), options, observer.clone());
    let drive = Arc::new(Drive {
        client,
        observer,
        recorder: window.recorder.clone(),
        input: workload.script(args).input(args.input_bytes),
        signals: if workload == Workload::Signals {
            args.signals
        } else {
            0
        },
        verify_every: args.verify_every,
        prefix: queue.to_owned(),
        next: AtomicU64::new(0),
        stop: CancellationToken::new(),
    });
    let mut starters = JoinSet::new();
    match args.rate {
        Some(rate) => {
            starters.spawn(drive.clone().open_loop(rate));
        }
        None => {
            for _ in 0..args.in_flight {
                starters.spawn(drive.clone().closed_loop());
            }
        }
    }
    let (before, after) = window.watch(args.workflows).await;
    drive.stop.cancel();
    let drained = async { while starters.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        window
            .progress
            .suspend(|| eprintln!("some workflows were still open {DRAIN:?} after the run"));
    }
    starters.abort_all();
    worker.stop().await;
    window.progress.finish_and_clear();
    Ok(Section::new(args, &window, &before, &after))
}

impl Drive {
    async fn closed_loop(self: Arc<Self>) {
        while !self.stop.is_cancelled() {
            if !self.one(Instant::now()).await {
                // A refused start must not become a tight loop against a server in trouble.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    async fn open_loop(self: Arc<Self>, rate: f64) {
        let begun = Instant::now();
        let mut outstanding = JoinSet::new();
        for n in 0u64.. {
            let due = begun + Duration::from_secs_f64(n as f64 / rate);
            let wait = tokio::time::sleep_until(due.into());
            if self.stop.run_until_cancelled(wait).await.is_none() {
                break;
            }
            while outstanding.try_join_next().is_some() {}
            if outstanding.len() >= OUTSTANDING_MAX {
                self.recorder
                    .failed("not sent", tonic::Code::ResourceExhausted);
                continue;
            }
            let this = self.clone();
            outstanding.spawn(async move { this.one(due).await });
        }
        while outstanding.join_next().await.is_some() {}
    }

    /// One workflow from start to result; false when a call failed.
    async fn one(&self, intended: Instant) -> bool {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        let id = format!("{}-{n}", self.prefix);
        self.observer.starting(&id, intended);
        let started = self.client.start(&id, &id, &self.input).await;
        let run = match started {
            Ok(run) => run,
            Err(status) => {
                self.observer.not_started(&id);
                self.recorder
                    .failed("StartWorkflowExecution", status.code());
                return false;
            }
        };
        self.recorder.time(Timed::StartRpc, intended.elapsed());
        for k in 0..self.signals {
            let begun = Instant::now();
            let request = format!("{id}-{k}");
            match self.client.signal(&id, "load", &request).await {
                Ok(()) => self.recorder.time(Timed::SignalRpc, begun.elapsed()),
                Err(status) => {
                    self.recorder
                        .failed("SignalWorkflowExecution", status.code());
                    return false;
                }
            }
        }
        match self.client.closing_event(&id, &run, Whose::Any).await {
            Ok(event) if event.event_type() == EventType::WorkflowExecutionCompleted => {
                self.recorder.time(Timed::StartToResult, intended.elapsed());
                self.recorder.completed();
                self.verify(n, &id, &run).await;
                true
            }
            Ok(event) => {
                tracing::warn!(workflow_id = id, event = ?event.event_type(), "not completed");
                self.recorder.failed("result", tonic::Code::Aborted);
                false
            }
            Err(status) => {
                self.recorder
                    .failed("GetWorkflowExecutionHistory", status.code());
                false
            }
        }
    }

    async fn verify(&self, n: u64, id: &str, run: &str) {
        if self.verify_every == 0 || !n.is_multiple_of(self.verify_every) {
            return;
        }
        if let Err(error) = self.client.verify_completed(id, run).await {
            tracing::warn!(
                workflow_id = id,
                error = format!("{error:#}"),
                "wrong history"
            );
            self.recorder.failed("verification", tonic::Code::DataLoss);
        }
    }
}
