//! `meridian namespace switchover`: the planned way. The active cluster runs it; this only asks for it and
//! shows how it goes, so a terminal that dies changes nothing.

use std::{process::ExitCode, time::Duration};

use anyhow::Context;
use clap::Args;
use proto_messages::meridian::replication::v1::{
    SwitchoverRequest, SwitchoverResult, switchover_progress::Step,
};
use serde::Serialize;

use crate::{Format, GlobalArgs, REFUSED, ROLLED_BACK, UNKNOWN, completeness::Found, output};

/// A planned failover.
#[derive(Clone, Debug, Args)]
pub struct SwitchoverArgs {
    /// The namespace.
    #[arg(long, short, env = "TEMPORAL_NAMESPACE", default_value = "default")]
    pub namespace: String,
    /// The cluster that becomes active.
    #[arg(long)]
    pub to: String,
    /// Longest time writes may be held back; when the target cannot catch up in it, all stays as it was.
    #[arg(long, default_value = "5s", value_parser = proto_ids::duration_argument)]
    pub max_pause: Duration,
    /// Only say what it would do and cost.
    #[arg(long)]
    pub dry_run: bool,
    /// Go on although nobody can tell what the target lacks (a Temporal Server cannot say).
    #[arg(long)]
    pub accept_unknown: bool,
    /// Why, for the log.
    #[arg(long, default_value = "")]
    pub reason: String,
    /// Where and how. Any cluster of the namespace can be asked.
    #[command(flatten)]
    pub global: GlobalArgs,
}

#[derive(Debug, Serialize)]
struct Report {
    namespace: String,
    to: String,
    switched: bool,
    pause_ms: u128,
    drained_tasks: i64,
    failover_version: i64,
    reason: String,
    /// Whether it was refused because nobody can tell what the target lacks.
    unknown: bool,
    /// Whether it was done without knowing what the target lacked.
    accepted_unknown: bool,
    /// Whether writes were held back and resumed.
    rolled_back: bool,
    /// The result of the comparison.
    completeness: Option<Found>,
    steps: Vec<StepShown>,
}

#[derive(Debug, Serialize)]
struct StepShown {
    time: Option<String>,
    step: &'static str,
    detail: String,
}

pub(super) async fn run(args: SwitchoverArgs) -> anyhow::Result<ExitCode> {
    // Whichever cluster is asked passes it on to the active one.
    let server = args.global.connect.connect().await?;
    let request = SwitchoverRequest {
        namespace: args.namespace.clone(),
        to_cluster: args.to.clone(),
        max_pause: Some(proto_messages::time::duration_to_proto(args.max_pause)),
        dry_run: args.dry_run,
        reason: args.reason.clone(),
        accept_unknown: args.accept_unknown,
    };
    let mut progress = server
        .replication()
        .switchover(request)
        .await
        .context("ask for the switchover")?
        .into_inner();
    let mut steps = Vec::new();
    let mut result: Option<SwitchoverResult> = None;
    while let Some(message) = progress.message().await.context("follow the switchover")? {
        let shown = StepShown {
            time: output::moment(message.time.as_ref()),
            step: step_name(message.step()),
            detail: message.detail,
        };
        if args.global.output == Format::Text {
            let clock = output::clock(message.time.as_ref());
            println!("{clock}  {:<9} {}", shown.step, shown.detail);
        }
        steps.push(shown);
        result = message.result.or(result);
    }
    let result = result.context("the server ended the switchover without a result; ask `meridian namespace describe` where the namespace is")?;
    let report = Report {
        namespace: args.namespace,
        to: args.to,
        switched: result.switched,
        pause_ms: output::wire_span(result.pause.as_ref()).as_millis(),
        drained_tasks: result.drained_tasks,
        failover_version: result.failover_version,
        reason: result.reason,
        unknown: result.unknown,
        accepted_unknown: result.switched && result.completeness.is_none(),
        rolled_back: steps
            .iter()
            .any(|s: &StepShown| s.step == step_name(Step::Rollback)),
        completeness: result.completeness.map(Found::from),
        steps,
    };
    args.global
        .output
        .print(&report, |r| conclusion(r, args.dry_run))?;
    Ok(match report {
        Report { switched: true, .. } => ExitCode::SUCCESS,
        Report { unknown: true, .. } => ExitCode::from(UNKNOWN),
        Report {
            rolled_back: true, ..
        } => ExitCode::from(ROLLED_BACK),
        Report { reason, .. } if args.dry_run && reason.is_empty() => ExitCode::SUCCESS,
        Report { .. } => ExitCode::from(REFUSED),
    })
}

fn conclusion(report: &Report, dry_run: bool) -> String {
    if report.switched {
        format!(
            "DONE  {} is active in {} (version {})   pause {} ms   loss {}   drained {} runs",
            report.namespace,
            report.to,
            report.failover_version,
            report.pause_ms,
            if report.accepted_unknown {
                "unknown"
            } else {
                "0"
            },
            report.drained_tasks
        )
    } else if dry_run && report.reason.is_empty() {
        "GO    nothing was changed; run it again without --dry-run".into()
    } else if dry_run || !report.rolled_back {
        let mut lines = vec![match dry_run {
            true => format!("NO-GO {}", report.reason),
            false => format!("REFUSED  {}; nothing was changed", report.reason),
        }];
        let found = report.completeness.iter();
        lines.extend(
            found
                .flat_map(Found::lines)
                .map(|line| format!("      {line}")),
        );
        lines.join("\n")
    } else {
        format!(
            "ROLLED BACK  {}; writes were held back for {} ms and go on where they were",
            report.reason, report.pause_ms
        )
    }
}

fn step_name(step: Step) -> &'static str {
    match step {
        Step::Unspecified => "",
        Step::Forecast => "forecast",
        Step::Hold => "hold",
        Step::Drain => "drain",
        Step::Flip => "flip",
        Step::Announce => "announce",
        Step::Rollback => "rollback",
        Step::Done => "done",
    }
}
