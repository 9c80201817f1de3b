//! The command line of the benchmark.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use crate::script::{Script, Step};

/// Measures a Temporal-compatible server through its public API.
#[derive(Args, Clone, Debug)]
pub struct BenchArgs {
    /// Frontend to drive, host:port; repeat for several frontends of one cluster.
    #[arg(long, default_value = "127.0.0.1:7233", env = "TEMPORAL_ADDRESS")]
    pub address: Vec<String>,
    /// Namespace to work in; it must exist.
    #[arg(long, short, default_value = "default", env = "TEMPORAL_NAMESPACE")]
    pub namespace: String,
    /// The benchmarks to run, one after the other.
    #[arg(
        long,
        short,
        value_enum,
        value_delimiter = ',',
        default_value = "w1",
        ignore_case = true
    )]
    pub workload: Vec<Workload>,
    /// Closed loop: this many workflows at once.
    #[arg(long, default_value_t = 64)]
    pub in_flight: usize,
    /// Open loop: start this many workflows per second on a fixed schedule; latency counts from the
    /// intended start.
    #[arg(long, conflicts_with = "in_flight")]
    pub rate: Option<f64>,
    /// Length of the measured part.
    #[arg(long, default_value = "20s", value_parser = proto_ids::duration_argument)]
    pub duration: Duration,
    /// Length of the part before it that is not measured.
    #[arg(long, default_value = "5s", value_parser = proto_ids::duration_argument)]
    pub warmup: Duration,
    /// Ends the measured part early once this many workflows ended.
    #[arg(long)]
    pub workflows: Option<u64>,
    /// HTTP/2 connections to open.
    #[arg(long, default_value_t = 4)]
    pub connections: usize,
    /// Polling loops for workflow tasks, half of them on the sticky queue.
    #[arg(long, default_value_t = 32)]
    pub workflow_pollers: usize,
    /// Polling loops for activity tasks.
    #[arg(long, default_value_t = 16)]
    pub activity_pollers: usize,
    /// Lets the server send full histories instead of keeping runs on a sticky queue.
    #[arg(long)]
    pub no_sticky: bool,
    /// Asks for activities to come back with the workflow task's answer.
    #[arg(long)]
    pub eager: bool,
    /// Size of each workflow's input in bytes.
    #[arg(long, default_value_t = 256)]
    pub input_bytes: usize,
    /// Size of each workflow's result in bytes.
    #[arg(long, default_value_t = 64)]
    pub result_bytes: usize,
    /// W3: activities one after the other in each workflow.
    #[arg(long, default_value_t = 10)]
    pub activities: u32,
    /// W5: signals sent to each workflow.
    #[arg(long, default_value_t = 20)]
    pub signals: u32,
    /// W7: timers in each workflow, their lengths spread evenly over --timer-range.
    #[arg(long, default_value_t = 10)]
    pub timers: u32,
    /// W7: shortest and longest timer in milliseconds.
    #[arg(long, num_args = 2, value_names = ["MIN", "MAX"], default_values_t = [10, 100])]
    pub timer_range: Vec<u64>,
    /// R1: a frontend of the cluster that writes are replicated to.
    #[arg(long)]
    pub standby_address: Option<String>,
    /// Check the history of one in this many workflows; 0 for none.
    #[arg(long, default_value_t = 200)]
    pub verify_every: u64,
    /// Process whose CPU and memory to report, with its children; repeat for several.
    #[arg(long, value_delimiter = ',')]
    pub pid: Vec<u32>,
    /// The server's Prometheus endpoint, such as http://127.0.0.1:9090/metrics.
    #[arg(long)]
    pub metrics_url: Option<String>,
    /// Use TLS; implied by the options below.
    #[arg(long)]
    pub tls: bool,
    /// Authorities to trust, a PEM file.
    #[arg(long, env = "TEMPORAL_TLS_SERVER_CA_CERT_PATH")]
    pub tls_ca_path: Option<PathBuf>,
    /// Client certificate, a PEM file.
    #[arg(long, env = "TEMPORAL_TLS_CLIENT_CERT_PATH")]
    pub tls_cert_path: Option<PathBuf>,
    /// Key of the client certificate, a PEM file.
    #[arg(long, env = "TEMPORAL_TLS_CLIENT_KEY_PATH")]
    pub tls_key_path: Option<PathBuf>,
    /// Name expected in the server's certificate.
    #[arg(long, env = "TEMPORAL_TLS_SERVER_NAME")]
    pub tls_server_name: Option<String>,
    /// How to print the result.
    #[arg(long, short, value_enum, default_value = "table")]
    pub output: Output,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Tables as wide as the terminal.
    Table,
    /// One JSON document.
    Json,
}

/// The parameters of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// W1: start, one workflow task, complete.
    #[value(name = "w1", alias = "simple")]
    Simple,
    /// W2: one activity.
    #[value(name = "w2", alias = "activity")]
    OneActivity,
    /// W3: activities one after the other.
    #[value(name = "w3", alias = "sequence")]
    Sequence,
    /// W5: signals to a waiting workflow.
    #[value(name = "w5", alias = "signals")]
    Signals,
    /// W7: timers.
    #[value(name = "w7", alias = "timers")]
    Timers,
    /// R1: how long until a write shows on the standby cluster.
    #[value(name = "r1", alias = "replication")]
    ReplicationLag,
}

impl Workload {
    /// Its name in reports.
    pub fn title(self) -> &'static str {
        match self {
            Self::Simple => "W1 simple",
            Self::OneActivity => "W2 one activity",
            Self::Sequence => "W3 sequence",
            Self::Signals => "W5 signals",
            Self::Timers => "W7 timers",
            Self::ReplicationLag => "R1 replication lag",
        }
    }

    /// The script of its workflows.
    pub(super) fn script(self, args: &BenchArgs) -> Script {
        let steps = match self {
            Self::Simple => vec![],
            Self::OneActivity => vec![Step::Activities(1)],
            Self::Sequence => vec![Step::Activities(args.activities)],
            Self::Signals => vec![Step::Signals(args.signals)],
            Self::Timers => vec![Step::Timers(args.timer_lengths())],
            // Never reached: nobody polls its queue, so that only the signals are replicated.
            Self::ReplicationLag => vec![Step::Signals(u32::MAX)],
        };
        Script {
            steps,
            eager: args.eager,
            result_bytes: args.result_bytes,
            ..Default::default()
        }
    }
}

impl BenchArgs {
    /// Refuses combinations that clap's own rules cannot name.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(self.in_flight > 0, "--in-flight must be at least 1");
        anyhow::ensure!(
            self.rate.is_none_or(|r| r.is_finite() && r > 0.0),
            "--rate must be above 0"
        );
        anyhow::ensure!(
            self.timer_range[0] <= self.timer_range[1],
            "--timer-range needs the shorter length first"
        );
        anyhow::ensure!(!self.duration.is_zero(), "--duration must be above 0");
        Ok(())
    }

    fn timer_lengths(&self) -> Vec<u64> {
        let (min, max) = (self.timer_range[0], self.timer_range[1]);
        let gaps = u64::from(self.timers.max(2) - 1);
        (0..u64::from(self.timers))
            .map(|i| min + (max - min) * i / gaps)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        bench: BenchArgs,
    }

    #[test]
    fn a_command_line_reads() {
        let cli = Cli::try_parse_from([
            "bench",
            "--address",
            "a:1",
            "--address",
            "b:2",
            "-w",
            "W1,w7",
            "--rate",
            "100",
            "--duration",
            "500ms",
            "--timer-range",
            "10",
            "20",
            "--timers",
            "3",
            "--pid",
            "1,2",
        ]);
        let args = cli.expect("reads").bench;
        args.check().expect("consistent");
        assert_eq!(args.address, ["a:1", "b:2"]);
        assert_eq!(args.workload, [Workload::Simple, Workload::Timers]);
        assert_eq!(args.duration, Duration::from_millis(500));
        assert_eq!(
            Workload::Timers.script(&args).steps,
            [Step::Timers(vec![10, 15, 20])]
        );
    }
}
