//! The progress display of a drill: one line per step, and at the bottom how many calls succeed.

use std::{io::IsTerminal, path::Path, time::Duration};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::JoinSet;

use crate::{definition::Drill, oracle::Oracle, report::Report, timeline::RunClock};

/// Progress on standard error; a live line only where that is a terminal.
pub(super) struct Progress {
    bar: ProgressBar,
    clock: RunClock,
    oracle: Oracle,
    _ticking: JoinSet<()>,
}

impl Progress {
    pub(super) fn new(drill: &Drill, clock: RunClock, oracle: Oracle) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed_precise} {msg}") {
            bar.set_style(style);
        }
        let mut ticking = JoinSet::new();
        ticking.spawn(tick(bar.clone(), oracle.clone()));
        let progress = Self {
            bar,
            clock,
            oracle,
            _ticking: ticking,
        };
        progress.say(&format!("{}: {}", drill.name, drill.title));
        progress
    }

    /// Prints a line with the time of the run and the calls so far.
    pub(super) fn say(&self, text: &str) {
        let seconds = self.clock.now_ms() as f64 / 1000.0;
        let (good, bad) = self.oracle.counts();
        for line in text.lines() {
            let line = format!("{seconds:7.1} s  {good:>6} ok {bad:>5} failed  {line}");
            if std::io::stderr().is_terminal() {
                self.bar.println(line);
            } else {
                eprintln!("{line}");
            }
        }
    }

    pub(super) fn finish(&self, report: &Report, dir: &Path) {
        self.say(&format!(
            "{}; report: {}",
            report.verdict.word(),
            dir.join("report.html").display()
        ));
        self.bar.finish_and_clear();
    }
}

async fn tick(bar: ProgressBar, oracle: Oracle) {
    let mut last = 0;
    let mut every = tokio::time::interval(Duration::from_secs(1));
    loop {
        every.tick().await;
        let (good, bad) = oracle.counts();
        bar.set_message(format!(
            "{} acknowledged/s, {good} in all, {bad} failed",
            good - last
        ));
        bar.tick();
        last = good;
    }
}
