//! Runs one drill from start to verdict: build the world, put load on it, do the steps, let everything
//! finish, read what both sides hold, judge, report.

mod measure;
mod progress;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use scenarios_load::client::Whose;

use crate::{
    check::{self, Case, Judgement, is_open, within},
    definition::{Action, Drill, Loss, Span},
    fault::{Done, Hands},
    oracle::{Op, Oracle},
    reading::{self, Convergence},
    report::{Report, Verdict},
    timeline::{Kind, RunClock, Timeline},
    workload::{FINISH, Side, Workload},
    world::{self, World},
};
use measure::Faults;
use progress::Progress;

/// How a drill is run.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) short: bool,
    pub(crate) out: PathBuf,
    pub(crate) keep: bool,
    /// A worker program instead of the one the drill asks for.
    pub(crate) worker: Option<String>,
}

/// How long clients may take to finish what they began, and workflows to end.
const WIND_DOWN: Duration = Duration::from_secs(60);

/// How long open workflows may take before they are given what they may lack.
const SETTLE: Duration = Duration::from_secs(15);

/// Longest stretch before a fault in which an acknowledged write may not have been replicated, when a
/// drill sets no limit of its own.
const RPO_DEFAULT: Span = Span::seconds(5);

/// Runs a drill; an error when it could not be run.
pub(crate) async fn run(mut drill: Drill, options: &Options) -> anyhow::Result<Report> {
    if options.short {
        drill = drill.shortened();
    }
    if let Some(program) = &options.worker {
        drill.workload.worker_command = vec![program.clone()];
    }
    let dir = folder(&options.out, &drill.name)?;
    let clock = RunClock::start();
    let timeline = Timeline::new(clock);
    let oracle = Oracle::new(clock, &dir.join("calls.jsonl"))?;
    let progress = Progress::new(&drill, clock, oracle.clone());
    progress.say(&format!("starting {}", drill.world.clusters.join(" and ")));
    let mut world = World::start(&drill, &dir).await?;
    world.set_up().await?;
    let mut course = Course {
        sides: Side::all(&world),
        drill: &drill,
        oracle,
        timeline,
        progress,
        faults: Faults::default(),
        judgements: Vec::new(),
    };
    let case = course.through(&mut world).await?;
    course.judge_branches(&world);
    let report = course.report(case, options.short);
    world.stop().await;
    report.write(&dir)?;
    if !options.keep {
        remove_data(&dir, &drill);
    }
    course.progress.finish(&report, &dir);
    Ok(report)
}

/// One run under way.
struct Course<'a> {
    drill: &'a Drill,
    sides: Vec<Side>,
    oracle: Oracle,
    timeline: Timeline,
    progress: Progress,
    faults: Faults,
    judgements: Vec<Judgement>,
}

impl Course<'_> {
    /// Load, steps, end, reading.
    async fn through(&mut self, world: &mut World) -> anyhow::Result<Case> {
        self.progress.say("starting workers, clients and probes");
        let mut workload = Workload::start(self.drill, world, &self.oracle, &self.timeline).await?;
        self.faults.load_from_ms = self.timeline.clock().now_ms();
        for (n, step) in self.drill.steps.iter().enumerate() {
            let label = format!(
                "step {} of {}: {}",
                n + 1,
                self.drill.steps.len(),
                step.describe()
            );
            self.progress.say(&label);
            if let Err(error) = self.step(world, &step.action, &step.describe()).await {
                self.judge_step(&step.describe(), false, format!("{error:#}"));
                break;
            }
        }
        self.faults.load_until_ms = self.timeline.clock().now_ms();
        self.progress.say("letting everything finish");
        world.links(world::Mode::Pass);
        if !workload.wind_down(WIND_DOWN).await {
            let text = format!("clients still repeat calls after {} s", WIND_DOWN.as_secs());
            self.judge_step("clients finish what they began", false, text);
        }
        let ended = self.settle(world).await?;
        workload.stop_workers().await;
        self.oracle.flush()?;
        Ok(ended)
    }

    async fn step(
        &mut self,
        world: &mut World,
        action: &Action,
        label: &str,
    ) -> anyhow::Result<()> {
        let from_ms = self.timeline.clock().now_ms();
        let kind = if action.is_fault() {
            Kind::Fault
        } else {
            Kind::Action
        };
        if let Action::Failover { to, .. } = action {
            self.before_failover(to).await?;
        }
        let mut hands = Hands {
            world,
            sides: &self.sides,
            oracle: &self.oracle,
            timeline: &self.timeline,
        };
        let done = hands.act(action).await;
        if action.is_fault() {
            // From the fault's own end, so that a slow kill does not count as recovery time.
            self.faults.struck(self.timeline.clock().now_ms());
        }
        if matches!(
            action,
            Action::Start { .. } | Action::Heal {} | Action::Thaw { .. }
        ) {
            self.faults.mended(from_ms);
        }
        self.timeline
            .span(from_ms, kind, action.clusters().first().copied(), label);
        if let Done::Expected(held, text) = done? {
            self.progress.say(&format!("  {text}"));
            self.judge_step(label, held, text);
        }
        Ok(())
    }

    /// The part that the new active side lacks now.
    async fn before_failover(&mut self, to: &str) -> anyhow::Result<()> {
        let side = self
            .sides
            .iter()
            .find(|s| s.cluster == to)
            .with_context(|| format!("there is no cluster {to:?}"))?;
        let old = match world::describe(side.client.connections()).await {
            Ok(d) => d.replication_config.unwrap_or_default().active_cluster_name,
            Err(status) => anyhow::bail!("{to} does not answer before the failover: {status}"),
        };
        let rpo = self.drill.limits.rpo.unwrap_or(RPO_DEFAULT);
        let now = self.timeline.clock().now_ms();
        let fault = self.faults.last_struck().unwrap_or(now);
        let from_ms =
            fault.saturating_sub(u64::try_from(rpo.get().as_millis()).unwrap_or(u64::MAX));
        self.faults.forced(old.clone(), to, fault);
        let calls = self.oracle.calls();
        let lacking = measure::lacking(side, &calls, from_ms.saturating_sub(10_000), fault).await;
        self.faults.rpo = Some(lacking);
        Ok(())
    }

    /// The log line of a server that discards a branch that it had written to.
    fn judge_branches(&mut self, world: &World) {
        if !self.drill.limits.no_branches {
            return;
        }
        const SAYS: &str = "another branch of a run's history wins";
        let clusters = world.clusters.iter();
        let found: Vec<_> = clusters
            .flat_map(|cluster| {
                let lines = cluster.logged(SAYS).into_iter();
                lines.map(|line| format!("{}: {line}", cluster.name))
            })
            .collect();
        self.judgements.push(Judgement {
            rule: "no branch of a history was thrown away".to_owned(),
            passed: found.is_empty(),
            finding: format!("{} times", found.len()),
            evidence: found.into_iter().take(10).collect(),
        });
    }

    fn judge_step(&mut self, label: &str, held: bool, text: String) {
        // A command's conclusion is its last line; what led to it is the evidence.
        let mut evidence: Vec<String> = text.trim_end().lines().map(str::to_owned).collect();
        let finding = evidence.pop().unwrap_or_default();
        self.judgements.push(Judgement {
            rule: format!("step: {label}"),
            passed: held,
            finding,
            evidence,
        });
    }

    /// Gives open workflows what they wait for, waits until all have ended and both sides are equal.
    async fn settle(&mut self, world: &World) -> anyhow::Result<Case> {
        let limit = self.drill.limits.converge.get();
        self.progress.say("waiting until both sides hold the same");
        let mut read = reading::converge(&self.sides, &self.oracle.calls(), limit).await;
        let first_took = read.took;
        let active = self.active_side(world).await?;
        if self.finish_open(&read, &active).await > 0 {
            read = reading::converge(&self.sides, &self.oracle.calls(), limit).await;
        }
        self.judgements.extend(within(
            "both sides become equal in time",
            first_took
                .and(read.took)
                .map(|_| millis(first_took.unwrap_or_default())),
            Some(self.drill.limits.converge),
        ));
        if read.took.is_none() {
            self.progress
                .say(&format!("{} runs are still not equal", read.unequal));
        }
        self.faults.converge_ms = first_took.map(millis);
        let mut case = Case {
            begun_unix_ms: self.timeline.clock().begun_unix_ms(),
            calls: self.oracle.calls(),
            clusters: read.clusters,
            active,
            loss: self.drill.limits.loss,
            losing: Vec::new(),
            unread: Vec::new(),
            met_again_ms: self.faults.met_again_ms(&self.timeline.entries()),
        };
        self.read_losing_branches(&mut case).await;
        Ok(case)
    }

    /// Reads, on every side, the losing branches of runs that lack an acknowledged write.
    async fn read_losing_branches(&self, case: &mut Case) {
        let Some(surviving) = case.surviving() else {
            return;
        };
        let runs = check::runs_of_lost(&case.calls, surviving, &case.clusters);
        for side in &self.sides {
            let (read, unread) = reading::losing_branches(side, &runs).await;
            case.losing.extend(read);
            case.unread.extend(unread);
        }
    }

    /// The active cluster by the newest record any cluster has.
    async fn active_side(&self, world: &World) -> anyhow::Result<String> {
        let mut newest = None;
        for cluster in &world.clusters {
            let described = world::describe(&cluster.connections())
                .await
                .with_context(|| format!("ask {} who is active", cluster.name))?;
            let named = described
                .replication_config
                .unwrap_or_default()
                .active_cluster_name;
            // A namespace of one cluster may name nobody.
            let named = if named.is_empty() {
                cluster.name.clone()
            } else {
                named
            };
            newest = newest.max(Some((described.failover_version, named)));
        }
        Ok(newest.context("a drill has a cluster")?.1)
    }

    /// Signals what is still open: an order may have lost its signal with the side that took it, which
    /// is accounted for elsewhere and must not look like a stuck workflow. How many there were.
    async fn finish_open(&self, read: &Convergence, active: &str) -> usize {
        let Some(side) = self.sides.iter().find(|s| s.cluster == active) else {
            return 0;
        };
        let Some(held) = read.clusters.iter().find(|c| c.cluster == active) else {
            return 0;
        };
        let open: Vec<_> = held
            .runs
            .iter()
            .filter(|(_, events)| is_open(events))
            .collect();
        if open.is_empty() {
            return 0;
        }
        self.progress.say(&format!(
            "{} workflows are still open; waiting for them",
            open.len()
        ));
        let ended_within = |patience: Duration| {
            let ends = open.iter().map(move |((id, run), _)| {
                let end = side.client.closing_event(id, run, Whose::Any);
                tokio::time::timeout(patience, end)
            });
            futures::future::join_all(ends)
        };
        let closed = |end: &Result<Result<_, _>, _>| end.as_ref().is_ok_and(Result::is_ok);
        // Most only need time; what is open after that may wait for a signal that is lost.
        let ended = ended_within(SETTLE).await;
        for ((key, events), _) in open.iter().zip(&ended).filter(|(_, end)| !closed(end)) {
            if !measure::has_signal(events, FINISH) {
                self.send_finish(side, &key.0).await;
            }
        }
        let ended = ended_within(WIND_DOWN).await;
        let stuck = ended.iter().filter(|end| !closed(end)).count();
        if stuck > 0 {
            self.progress.say(&format!("{stuck} workflows do not end"));
        }
        open.len()
    }

    async fn send_finish(&self, side: &Side, id: &str) {
        let begun = std::time::Instant::now();
        let outcome = side
            .client
            .signal(id, FINISH, &format!("{id}/{FINISH}"))
            .await;
        let op = Op::Signal {
            name: FINISH.to_owned(),
        };
        let known = outcome.as_ref().copied();
        self.oracle
            .record(&side.cluster, op, id, "", begun.elapsed(), known);
    }

    fn report(&mut self, case: Case, short: bool) -> Report {
        let limits = &self.drill.limits;
        let lag = self.timeline.lag_samples();
        let mut measured = self.faults.measured(&case, &lag);
        let mut judgements = check::judge(&case);
        if case.loss == Loss::None {
            measured.planned(&judgements);
        }
        let values = [
            (
                "recovery point within the limit",
                measured.rpo_ms,
                limits.rpo,
            ),
            (
                "recovery time within the limit",
                measured.rto_ms,
                limits.rto,
            ),
            (
                "write pause within the limit",
                measured.write_pause_ms,
                limits.write_pause,
            ),
            (
                "timers not later than the limit",
                measured.timer_lateness_ms,
                limits.timer_lateness,
            ),
        ];
        for (rule, value, limit) in values {
            judgements.extend(within(rule, value, limit));
        }
        judgements.append(&mut self.judgements);
        let verdict = if judgements.iter().all(|j| j.passed) {
            Verdict::Pass
        } else {
            Verdict::Fail
        };
        Report::new(
            self.drill,
            short,
            verdict,
            measured,
            judgements,
            &case,
            &self.timeline,
        )
    }
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

/// An empty folder for this run; what an earlier run left is removed.
fn folder(out: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let out = std::path::absolute(out)?;
    let dir = out.join(name);
    if dir.exists() {
        std::fs::remove_dir_all(&dir).with_context(|| format!("empty {}", dir.display()))?;
    }
    std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    Ok(dir)
}

/// Databases go; logs, configuration and records stay.
fn remove_data(dir: &Path, drill: &Drill) {
    for cluster in &drill.world.clusters {
        for file in ["meridian.db", "meridian.db-wal", "meridian.db-shm"] {
            let _ = std::fs::remove_file(dir.join(cluster).join(file));
        }
    }
}
