//! The measurements of a run, as tables for people and as one JSON document for programs. Values nobody
//! could know are dashes and nulls, never zeros.

use std::io::{IsTerminal, Write};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::{BenchArgs, Output, Sample, Window, Workload};
use crate::measure::{Failures, Summary};

/// One workload's results.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Section {
    pub(super) workload: &'static str,
    pub(super) load: String,
    pub(super) seconds: f64,
    /// Workflows that ended in the measured part; for R1, writes seen on the other cluster.
    pub(super) workflows: u64,
    pub(super) per_second: f64,
    pub(super) steps: Vec<Summary>,
    pub(super) errors: Vec<Failures>,
    pub(super) processes: Vec<Process>,
    pub(super) generator_cpu_seconds_per_1000: Option<f64>,
    pub(super) commits_per_workflow: Option<f64>,
    pub(super) updates_per_commit: Option<f64>,
    pub(super) fsyncs_per_workflow: Option<f64>,
    pub(super) wal_bytes_per_workflow: Option<f64>,
}

/// One measured process tree.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) name: String,
    pub(super) cpu_seconds_per_1000: Option<f64>,
    pub(super) memory_bytes: Option<u64>,
}

impl Section {
    pub(super) fn new(args: &BenchArgs, window: &Window, before: &Sample, after: &Sample) -> Self {
        let workflows = window.recorder.completed_count();
        let seconds = (after.at - before.at).as_secs_f64();
        let each = |used: f64| (workflows > 0).then(|| used / workflows as f64);
        let thousand = |used: f64| each(used).map(|u| u * 1000.0);
        let grown = |pick: fn(&super::metrics::Counters) -> Option<f64>| {
            Some(pick(&after.server)? - pick(&before.server)?)
        };
        let processes = before
            .processes
            .iter()
            .zip(&after.processes)
            .map(|(b, a)| Process {
                pid: a.pid,
                name: a.name.clone(),
                cpu_seconds_per_1000: a
                    .cpu_seconds
                    .zip(b.cpu_seconds)
                    .and_then(|(a, b)| thousand(a - b)),
                memory_bytes: a.memory_bytes,
            })
            .collect();
        let commits = grown(|c| c.commits);
        let updates = grown(|c| c.updates);
        Self {
            workload: window.workload.title(),
            load: match args.rate {
                Some(rate) => format!("open loop, {rate}/s"),
                None => format!("closed loop, {} in flight", args.in_flight),
            },
            seconds,
            workflows,
            per_second: workflows as f64 / seconds,
            steps: window.recorder.summaries(),
            errors: window.recorder.errors(),
            processes,
            generator_cpu_seconds_per_1000: thousand(
                after.own_cpu_seconds - before.own_cpu_seconds,
            ),
            commits_per_workflow: commits.and_then(each),
            updates_per_commit: updates
                .zip(commits)
                .filter(|(_, c)| *c > 0.0)
                .map(|(u, c)| u / c),
            fsyncs_per_workflow: grown(|c| c.fsyncs).and_then(each),
            // A store that cannot tell leaves the counter at rest; one that commits never does.
            wal_bytes_per_workflow: grown(|c| c.wal_bytes).filter(|b| *b > 0.0).and_then(each),
        }
    }
}

/// A bar on standard error, hidden when that is not a terminal.
pub(super) fn progress_bar(workload: Workload, args: &BenchArgs) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(
        Some(args.duration.as_millis() as u64),
        ProgressDrawTarget::stderr(),
    );
    if let Ok(style) = ProgressStyle::with_template("{prefix} [{bar:30}] {elapsed} {msg}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_prefix(workload.title());
    bar
}

/// Writes the results to standard output.
pub(super) fn print(args: &BenchArgs, sections: &[Section]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if args.output == Output::Json {
        let document = serde_json::json!({
            "address": args.address,
            "namespace": args.namespace,
            "in_flight": args.rate.is_none().then_some(args.in_flight),
            "rate": args.rate,
            "sections": sections,
        });
        serde_json::to_writer_pretty(&mut out, &document)?;
        writeln!(out)?;
        return Ok(());
    }
    for section in sections {
        writeln!(
            out,
            "{}   {}   {} in {:.1} s   {:.1}/s",
            section.workload, section.load, section.workflows, section.seconds, section.per_second
        )?;
        writeln!(out, "{}", steps_table(section))?;
        writeln!(out, "{}\n", cost_table(section))?;
    }
    Ok(())
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::UTF8_BORDERS_ONLY)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header);
    if !std::io::stdout().is_terminal() {
        table.set_width(100);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn steps_table(section: &Section) -> Table {
    let mut table = table(&["step (ms)", "count", "p50", "p90", "p99", "p99.9", "max"]);
    for s in &section.steps {
        let mut row = vec![s.step.clone(), s.count.to_string()];
        let values = [s.p50_ms, s.p90_ms, s.p99_ms, s.p999_ms, s.max_ms];
        row.extend(values.map(|v| format!("{v:.2}")));
        table.add_row(row);
    }
    for e in &section.errors {
        table.add_row([
            format!("failed: {} {}", e.call, e.code),
            e.count.to_string(),
        ]);
    }
    table
}

fn cost_table(section: &Section) -> Table {
    let shown = |v: Option<f64>, digits: usize| {
        v.map_or_else(|| "-".to_owned(), |v| format!("{v:.digits$}"))
    };
    let mut table = table(&["cost", "CPU s per 1000", "memory MiB"]);
    for p in &section.processes {
        let name = if p.name.is_empty() { "gone" } else { &p.name };
        table.add_row([
            format!("{name} ({})", p.pid),
            shown(p.cpu_seconds_per_1000, 3),
            shown(p.memory_bytes.map(|b| b as f64 / 1_048_576.0), 1),
        ]);
    }
    table.add_row([
        "this generator".to_owned(),
        shown(section.generator_cpu_seconds_per_1000, 3),
        String::new(),
    ]);
    let per_workflow = [
        ("commits per workflow", section.commits_per_workflow, 3),
        ("updates per commit", section.updates_per_commit, 2),
        ("fsyncs per workflow", section.fsyncs_per_workflow, 3),
        ("log bytes per workflow", section.wal_bytes_per_workflow, 0),
    ];
    for (name, value, digits) in per_workflow {
        table.add_row([name.to_owned(), shown(value, digits)]);
    }
    table
}
