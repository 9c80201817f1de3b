//! R1: how long an acknowledged write takes to show on the other cluster. Workflows that nobody works
//! on receive signals on one cluster while a long poll follows their history on the other, which must
//! answer from its own data.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use bytes::Bytes;
use parking_lot::Mutex;
use proto_messages::temporal::api::{common::v1::Payloads, history::v1::history_event::Attributes};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::{BenchArgs, Window, Workload, report::Section};
use crate::{
    client::{Client, Whose},
    measure::{Recorder, Timed},
};

/// Signals a workflow gets before a fresh one takes over, far below any limit on signals per run.
const SIGNALS_PER_WORKFLOW: u32 = 500;

/// Writes per second when the command line does not say.
const RATE_DEFAULT: f64 = 100.0;

struct Lag {
    active: Client,
    standby: Client,
    recorder: Arc<Recorder>,
    input: Payloads,
    prefix: String,
    next: AtomicU64,
    /// When a signal, by its name, was acknowledged or seen, whichever came first.
    half: Mutex<HashMap<String, (Side, Instant)>>,
    stop: CancellationToken,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Acknowledged,
    Seen,
}

/// Runs the workload and returns what was measured.
pub(super) async fn drive(
    args: &BenchArgs,
    window: Window,
    active: Client,
    standby: Client,
) -> anyhow::Result<Section> {
    let lag = Arc::new(Lag {
        active,
        standby,
        recorder: window.recorder.clone(),
        input: Workload::ReplicationLag.script(args).input(64),
        prefix: format!("lag-{}", uuid::Uuid::new_v4().simple()),
        next: AtomicU64::new(0),
        half: Mutex::default(),
        stop: CancellationToken::new(),
    });
    let writers = args.in_flight.min(16);
    let gap = Duration::from_secs_f64(writers as f64 / args.rate.unwrap_or(RATE_DEFAULT));
    let mut loops = JoinSet::new();
    for n in 0..writers {
        let delay = gap.mul_f64(n as f64 / writers as f64);
        loops.spawn(lag.clone().write_forever(gap, delay));
    }
    let (before, after) = window.watch(args.workflows).await;
    lag.stop.cancel();
    while let Some(ended) = loops.join_next().await {
        if let Err(error) = ended.context("run a writer")? {
            window.progress.suspend(|| eprintln!("{error:#}"));
        }
    }
    window.progress.finish_and_clear();
    Ok(Section::new(args, &window, &before, &after))
}

impl Lag {
    /// Workflow after workflow, each with a follower on the other side.
    async fn write_forever(self: Arc<Self>, gap: Duration, delay: Duration) -> anyhow::Result<()> {
        tokio::time::sleep(delay).await;
        while !self.stop.is_cancelled() {
            let n = self.next.fetch_add(1, Ordering::Relaxed);
            let id = format!("{}-{n}", self.prefix);
            let run = match self.active.start(&id, &id, &self.input).await {
                Ok(run) => run,
                Err(status) => {
                    self.recorder
                        .failed("StartWorkflowExecution", status.code());
                    tokio::time::sleep(gap).await;
                    continue;
                }
            };
            let follower = self.clone().follow(id.clone(), run);
            let mut follower = JoinSet::from_iter([follower]);
            self.signal_in_turn(&id, gap).await;
            // Let the last writes arrive; what never arrives is reported as missing, not waited for.
            let arrived = tokio::time::timeout(Duration::from_secs(5), self.all_seen(&id)).await;
            if arrived.is_err() {
                self.recorder
                    .failed("not replicated in 5 s", Code::DeadlineExceeded);
            }
            follower.abort_all();
            while follower.join_next().await.is_some() {}
        }
        Ok(())
    }

    async fn signal_in_turn(&self, id: &str, gap: Duration) {
        let mut every = tokio::time::interval(gap);
        for k in 0..SIGNALS_PER_WORKFLOW {
            if self.stop.run_until_cancelled(every.tick()).await.is_none() {
                return;
            }
            let name = format!("{id}-{k}");
            let begun = Instant::now();
            match self.active.signal(id, &name, &name).await {
                Ok(()) => {
                    self.recorder.time(Timed::SignalRpc, begun.elapsed());
                    self.note(&name, Side::Acknowledged);
                }
                Err(status) => self
                    .recorder
                    .failed("SignalWorkflowExecution", status.code()),
            }
        }
    }

    /// Follows a run's history on the standby cluster.
    async fn follow(self: Arc<Self>, id: String, run: String) {
        let mut token = Bytes::new();
        loop {
            let page = self
                .standby
                .next_events(&id, &run, token.clone(), Whose::Own)
                .await;
            match page {
                Ok((events, next)) => {
                    for event in events {
                        if let Some(Attributes::WorkflowExecutionSignaledEventAttributes(a)) =
                            event.attributes
                        {
                            self.note(&a.signal_name, Side::Seen);
                        }
                    }
                    if next.is_empty() {
                        return;
                    }
                    token = next;
                }
                // The start has not been replicated yet.
                Err(status) if status.code() == Code::NotFound => {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                Err(status) => {
                    self.recorder
                        .failed("GetWorkflowExecutionHistory", status.code());
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }

    /// Joins the two halves of one write. A write seen before its acknowledgement arrived took no time.
    fn note(&self, name: &str, side: Side) {
        let now = Instant::now();
        let mut half = self.half.lock();
        match half.remove(name) {
            None => {
                half.insert(name.to_owned(), (side, now));
            }
            Some((first, at)) if first != side => {
                let lag = if side == Side::Seen {
                    now - at
                } else {
                    Duration::ZERO
                };
                self.recorder.time(Timed::ReplicationLag, lag);
                self.recorder.completed();
            }
            Some(again) => {
                half.insert(name.to_owned(), again);
            }
        }
    }

    async fn all_seen(&self, id: &str) {
        let prefix = format!("{id}-");
        while self.half.lock().keys().any(|k| k.starts_with(&prefix)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
