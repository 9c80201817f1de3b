//! `meridian bench`: drives any Temporal-compatible frontend and reports throughput, latency of each
//! step, CPU, memory and, where the server tells, commits, fsyncs and log bytes per workflow.
//!
//! Closed loop keeps a number of workflows in flight; open loop starts them on a fixed schedule and
//! counts latency from the *intended* start, so that a slow server cannot hide by slowing its client.

mod args;
mod drive;
mod metrics;
mod observe;
mod process;
mod replication;
mod report;

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context;

pub use args::{BenchArgs, Output, Workload};
use report::Section;

use crate::{
    client::Client,
    connect::{Connections, Target, Tls},
    measure::Recorder,
};

/// Runs the workloads asked for, one after the other, and prints what was measured.
pub async fn run(args: BenchArgs) -> anyhow::Result<ExitCode> {
    args.check()?;
    let connections = Connections::open(target(&args, &args.address))?;
    let mut sections = Vec::with_capacity(args.workload.len());
    for workload in &args.workload {
        let queue = format!("bench-{}", uuid::Uuid::new_v4().simple());
        let client = Client::new(connections.clone(), &args.namespace, &queue);
        client.namespace_required().await?;
        sections.push(measured(&args, *workload, client, &queue).await?);
    }
    let failed = sections.iter().any(|s| s.workflows == 0);
    report::print(&args, &sections)?;
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn target(args: &BenchArgs, addresses: &[String]) -> Target {
    let tls = args.tls || args.tls_ca_path.is_some() || args.tls_cert_path.is_some();
    Target {
        addresses: addresses.to_vec(),
        tls: tls.then(|| Tls {
            ca: args.tls_ca_path.clone(),
            cert: args.tls_cert_path.clone(),
            key: args.tls_key_path.clone(),
            server_name: args.tls_server_name.clone(),
        }),
        connections: args.connections,
    }
}

/// One workload: warm up, measure, drain.
async fn measured(
    args: &BenchArgs,
    workload: Workload,
    client: Client,
    queue: &str,
) -> anyhow::Result<Section> {
    let recorder = Arc::new(Recorder::new()?);
    let window = Window::new(args, workload, recorder.clone());
    if workload == Workload::ReplicationLag {
        let standby = args
            .standby_address
            .clone()
            .context("workload R1 needs --standby-address, a frontend of the other cluster")?;
        let standby = Connections::open(target(args, &[standby]))?;
        let observed = Client::new(standby, &args.namespace, queue);
        let described = observed
            .namespace_required()
            .await
            .context("ask the standby cluster")?;
        let active = described.replication_config.unwrap_or_default();
        let answers = observed.cluster_name().await?;
        // The active side has its own writes at once, which is no lag.
        anyhow::ensure!(
            answers != active.active_cluster_name,
            "namespace {} is active in {answers}, which --standby-address names: name a cluster that it is replicated to",
            args.namespace
        );
        replication::drive(args, window, client, observed).await
    } else {
        drive::drive(args, workload, window, client, queue).await
    }
}

/// The measured part of a run: what is sampled at its two ends.
struct Window {
    recorder: Arc<Recorder>,
    progress: indicatif::ProgressBar,
    warmup: Duration,
    duration: Duration,
    workload: Workload,
    pids: Vec<u32>,
    metrics_url: Option<String>,
}

/// Counters at one end of the window.
struct Sample {
    at: std::time::Instant,
    processes: Vec<process::Usage>,
    own_cpu_seconds: f64,
    server: metrics::Counters,
}

impl Window {
    fn new(args: &BenchArgs, workload: Workload, recorder: Arc<Recorder>) -> Self {
        let progress = report::progress_bar(workload, args);
        Self {
            recorder,
            progress,
            warmup: args.warmup,
            duration: args.duration,
            workload,
            pids: args.pid.clone(),
            metrics_url: args.metrics_url.clone(),
        }
    }

    async fn sample(&self) -> Sample {
        let server = match &self.metrics_url {
            Some(url) => metrics::scrape(url).await.unwrap_or_else(|error| {
                self.progress
                    .suspend(|| eprintln!("metrics not read: {error:#}"));
                metrics::Counters::default()
            }),
            None => metrics::Counters::default(),
        };
        Sample {
            at: std::time::Instant::now(),
            processes: self.pids.iter().map(|pid| process::usage(*pid)).collect(),
            own_cpu_seconds: process::own_cpu_seconds(),
            server,
        }
    }

    /// Lets the warm-up pass, then records until the time is over or `enough` workflows ended.
    async fn watch(&self, enough: Option<u64>) -> (Sample, Sample) {
        self.tick_until(self.warmup, None, "warming up").await;
        let before = self.sample().await;
        self.recorder.begin();
        self.tick_until(self.duration, enough, "measuring").await;
        self.recorder.end();
        (before, self.sample().await)
    }

    async fn tick_until(&self, length: Duration, enough: Option<u64>, what: &str) {
        let begun = std::time::Instant::now();
        self.progress.set_length(length.as_millis() as u64);
        let mut every = tokio::time::interval(Duration::from_millis(50));
        while begun.elapsed() < length {
            every.tick().await;
            let done = self.recorder.completed_count();
            self.progress
                .set_position(begun.elapsed().as_millis() as u64);
            let rate = done as f64 / begun.elapsed().as_secs_f64();
            self.progress
                .set_message(format!("{what}: {done} done, {rate:.0}/s"));
            if enough.is_some_and(|enough| done >= enough) {
                return;
            }
        }
    }
}
