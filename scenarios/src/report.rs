//! The outcome of a drill: one value, written as JSON for programs, as a page that needs nothing but a
//! browser for people, and as a few lines of text for the terminal.

mod html;
mod plot;

use std::{collections::BTreeMap, fmt::Write, path::Path};

use anyhow::Context;
use serde::Serialize;

use crate::{
    check::{Case, Judgement, Measured},
    definition::Drill,
    oracle::Call,
    timeline::{Entry, LagSample, Timeline},
};

/// How a drill ended. The order is from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every rule held.
    Pass,
    /// A rule did not.
    Fail,
    /// Nothing can be said.
    CouldNotRun,
}

impl Verdict {
    /// The verdict in capitals.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Fail => "FAIL",
            Self::CouldNotRun => "COULD NOT RUN",
        }
    }
}

/// Everything about one run of one drill.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The drill's name.
    pub drill: String,
    /// Its title.
    pub title: String,
    /// Its purpose.
    pub summary: String,
    /// Whether it ran in its short form.
    pub short: bool,
    /// When it began, in seconds since the epoch.
    pub begun_unix_seconds: u64,
    /// The outcome.
    pub verdict: Verdict,
    /// Why it could not run.
    pub reason: Option<String>,
    /// The measurements.
    pub measured: Measured,
    /// Every rule, and whether it held.
    pub judgements: Vec<Judgement>,
    /// Calls per second.
    pub throughput: Vec<Second>,
    /// Replication lag over time.
    pub lag: Vec<LagSample>,
    /// The timeline.
    pub timeline: Vec<Entry>,
    /// Losing branches that hold acknowledged writes, by cluster and run, with their number of events.
    pub losing_branches: Vec<String>,
    /// Acknowledged calls by kind.
    pub acknowledged: BTreeMap<String, usize>,
    /// Failed calls by error code.
    pub failed: BTreeMap<String, usize>,
    /// Clusters of the drill, in its order.
    pub clusters: Vec<String>,
}

/// The counts of one second of a run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Second {
    /// Acknowledged calls by cluster.
    pub acknowledged: BTreeMap<String, u32>,
    /// Failed calls.
    pub failed: u32,
}

impl Report {
    pub(crate) fn new(
        drill: &Drill,
        short: bool,
        verdict: Verdict,
        measured: Measured,
        judgements: Vec<Judgement>,
        case: &Case,
        timeline: &Timeline,
    ) -> Self {
        let mut acknowledged = BTreeMap::new();
        let mut failed = BTreeMap::new();
        for call in &case.calls {
            match &call.error {
                None => *acknowledged.entry(call.op.name().to_owned()).or_default() += 1,
                Some(error) => {
                    let code = error.split(':').next().unwrap_or_default();
                    *failed
                        .entry(format!("{} {code}", call.op.name()))
                        .or_default() += 1;
                }
            }
        }
        Self {
            begun_unix_seconds: timeline.clock().begun_unix_seconds(),
            measured,
            judgements,
            throughput: throughput(&case.calls),
            lag: timeline.lag_samples(),
            timeline: timeline.entries(),
            losing_branches: case.losing.iter().map(ToString::to_string).collect(),
            acknowledged,
            failed,
            ..Self::blank(drill, short, verdict)
        }
    }

    pub(crate) fn could_not_run(drill: &Drill, short: bool, reason: String) -> Self {
        Self {
            reason: Some(reason),
            ..Self::blank(drill, short, Verdict::CouldNotRun)
        }
    }

    fn blank(drill: &Drill, short: bool, verdict: Verdict) -> Self {
        Self {
            drill: drill.name.clone(),
            title: drill.title.clone(),
            summary: drill.summary.trim().to_owned(),
            short,
            begun_unix_seconds: 0,
            verdict,
            reason: None,
            measured: Measured::default(),
            judgements: Vec::new(),
            throughput: Vec::new(),
            lag: Vec::new(),
            timeline: Vec::new(),
            losing_branches: Vec::new(),
            acknowledged: BTreeMap::new(),
            failed: BTreeMap::new(),
            clusters: drill.world.clusters.clone(),
        }
    }

    /// Writes `report.json`, `report.html` and the drawing alone as `timeline.svg`.
    pub(crate) fn write(&self, dir: &Path) -> anyhow::Result<()> {
        let json = dir.join("report.json");
        std::fs::write(&json, serde_json::to_vec_pretty(self)?)
            .with_context(|| format!("write {}", json.display()))?;
        let svg = dir.join("timeline.svg");
        std::fs::write(&svg, plot::svg(self))
            .with_context(|| format!("write {}", svg.display()))?;
        let html = dir.join("report.html");
        std::fs::write(&html, html::page(self)).with_context(|| format!("write {}", html.display()))
    }

    /// The measured values with names and units, dashes where there is none.
    pub(crate) fn values(&self) -> Vec<(&'static str, String)> {
        let m = &self.measured;
        let seconds = |ms: Option<u64>| {
            ms.map_or_else(
                || "-".to_owned(),
                |ms| format!("{:.3} s", ms as f64 / 1000.0),
            )
        };
        let rpo = match m.rpo_writes {
            Some(writes) => format!("{} ({writes} writes)", seconds(m.rpo_ms)),
            None => "-".to_owned(),
        };
        vec![
            ("recovery point (RPO)", rpo),
            ("recovery time (RTO)", seconds(m.rto_ms)),
            ("longest write pause", seconds(m.write_pause_ms)),
            ("latest timer", seconds(m.timer_lateness_ms)),
            ("replication lag, median", seconds(m.lag_p50_ms)),
            ("replication lag, 99th percentile", seconds(m.lag_p99_ms)),
            ("both sides equal after", seconds(m.converge_ms)),
        ]
    }

    /// The report in a few lines.
    pub(crate) fn text(&self) -> String {
        let form = if self.short { " (short form)" } else { "" };
        let mut text = format!("{} {}{form}", self.verdict.word(), self.drill);
        if let Some(reason) = &self.reason {
            let _ = write!(text, "\n  {reason}");
            return text;
        }
        for judgement in &self.judgements {
            let word = if judgement.passed { "ok  " } else { "FAIL" };
            let _ = write!(
                text,
                "\n  {word}  {}: {}",
                judgement.rule, judgement.finding
            );
            if !judgement.passed {
                for line in judgement.evidence.iter().take(5) {
                    let _ = write!(text, "\n          {line}");
                }
            }
        }
        for (name, value) in self.values() {
            let _ = write!(text, "\n  {name:<34} {value}");
        }
        text
    }
}

fn throughput(calls: &[Call]) -> Vec<Second> {
    let mut seconds: Vec<Second> = Vec::new();
    for call in calls {
        let at = (call.at_ms / 1000) as usize;
        if seconds.len() <= at {
            seconds.resize(at + 1, Second::default());
        }
        if call.acknowledged() {
            *seconds[at]
                .acknowledged
                .entry(call.cluster.clone())
                .or_default() += 1;
        } else {
            seconds[at].failed += 1;
        }
    }
    seconds
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        definition::Loss,
        oracle::Op,
        timeline::{Kind, RunClock},
    };

    fn sample() -> Report {
        let drill = Drill::parse(
            r#"
            name = "sample"
            title = "A <drill> & more"
            summary = "s"
            [limits]
            [[steps]]
            do = "run"
            for = "1s"
            "#,
        )
        .expect("reads");
        let call = |at_ms, error: Option<&str>| Call {
            at_ms,
            took_ms: 1,
            cluster: "west".into(),
            op: Op::Start,
            workflow_id: "w".into(),
            run_id: "r".into(),
            error: error.map(str::to_owned),
        };
        let case = Case {
            begun_unix_ms: 0,
            calls: vec![
                call(100, None),
                call(2_100, None),
                call(2_200, Some("Unavailable: x")),
            ],
            clusters: Vec::new(),
            active: "west".into(),
            loss: Loss::None,
            losing: Vec::new(),
            unread: Vec::new(),
            met_again_ms: None,
        };
        let timeline = Timeline::new(RunClock::start());
        timeline.mark(Kind::Fault, Some("west"), "kill -9 <all>");
        timeline.mark(Kind::Role, Some("west"), "west active, version 1");
        timeline.lag(LagSample {
            at_ms: 1_000,
            from: "west".into(),
            to: "east".into(),
            lag_ms: 12,
            seen: true,
        });
        let judgements = vec![Judgement {
            rule: "a rule".into(),
            passed: false,
            finding: "2: broken".into(),
            evidence: vec!["line <one>".into()],
        }];
        let measured = Measured {
            rto_ms: Some(1_500),
            ..Default::default()
        };
        Report::new(
            &drill,
            true,
            Verdict::Fail,
            measured,
            judgements,
            &case,
            &timeline,
        )
    }

    #[test]
    fn every_form_tells_the_verdict_and_its_reasons() {
        let report = sample();
        let text = report.text();
        assert!(text.starts_with("FAIL sample (short form)"), "{text}");
        assert!(
            text.contains("1.500 s") && text.contains("line <one>"),
            "{text}"
        );
        let page = html::page(&report);
        assert!(page.contains("A &lt;drill&gt; &amp; more"));
        assert!(page.contains("kill -9 &lt;all&gt;") && page.contains("<svg"));
        assert!(!page.contains("<all>"), "everything foreign is escaped");
        assert!(
            !page.contains("http://")
                || page.matches("http://").count() == page.matches("http://www.w3.org").count()
        );
        let json = serde_json::to_value(&report).expect("json");
        assert_eq!(json["verdict"], "fail");
        assert_eq!(json["throughput"][2]["failed"], 1);
        assert_eq!(json["measured"]["rpo_ms"], serde_json::Value::Null);
    }

    #[test]
    fn a_drill_that_could_not_run_says_why() {
        let drill =
            Drill::parse("name='x'\ntitle='t'\nsummary='s'\n[limits]\n[[steps]]\ndo='heal'\n");
        let report =
            Report::could_not_run(&drill.expect("reads"), false, "needs PostgreSQL".into());
        assert!(report.text().contains("needs PostgreSQL"));
        assert!(html::page(&report).contains("needs PostgreSQL"));
    }
}
