//! `meridian namespace failover`: the forced way. What the active side has and the target has not is asked
//! of the active side while it can be reached; the change itself is an ordinary `UpdateNamespace` on whichever
//! cluster is asked, so it works when the other side is dead. It is done when the target says that it is active.

use std::{process::ExitCode, time::Duration};

use anyhow::Context;
use clap::Args;
use proto_messages::{
    meridian::replication::v1::{GetNamespaceViewRequest, ListUnreplicatedRequest},
    temporal::api::{
        enums::v1::ReplicationState, replication::v1::NamespaceReplicationConfig,
        workflowservice::v1::UpdateNamespaceRequest,
    },
};
use serde::Serialize;

use crate::{
    Format, GlobalArgs, REFUSED, UNCONFIRMED, UNKNOWN,
    completeness::{self, Found},
    connect::Server,
    output,
};

/// How long the comparison of both sides may take.
const COMPARE_WITHIN: Duration = Duration::from_secs(8);
/// How long the target may take to say that it is active.
const CONFIRM_WITHIN: Duration = Duration::from_secs(15);
/// Pause between two looks at the target.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long the old side may take to report its tail.
const TAIL_WITHIN: Duration = Duration::from_secs(3);
/// Runs of the tail that are listed.
const TAIL_SHOWN: usize = 10;

/// A forced failover.
#[derive(Clone, Debug, Args)]
pub struct FailoverArgs {
    /// The namespace.
    #[arg(long, short, env = "TEMPORAL_NAMESPACE", default_value = "default")]
    pub namespace: String,
    /// The cluster that becomes active.
    #[arg(long)]
    pub to: String,
    /// Only say what it would cost.
    #[arg(long)]
    pub dry_run: bool,
    /// Refuse when more workflows than this would be left with changes the target does not have.
    #[arg(long)]
    pub accept_loss: Option<usize>,
    /// With `--accept-loss`: go on also when nobody can tell what the target lacks.
    #[arg(long)]
    pub accept_unknown: bool,
    /// Where and how. Name a frontend of the target, or of any cluster that still answers.
    #[command(flatten)]
    pub global: GlobalArgs,
}

#[derive(Debug, Serialize)]
struct Report {
    namespace: String,
    from: String,
    to: String,
    failover_version_before: i64,
    failover_version: Option<i64>,
    /// Whether the target says that it is active.
    confirmed: bool,
    /// The tail: what the target has not acknowledged and lacks at least.
    tail: Tail,
    /// The runs that the target lacks, by comparison.
    lacking: Found,
}

/// The part that the target does not have.
#[derive(Debug, Serialize)]
struct Tail {
    /// Whether the active side could be asked.
    known: bool,
    /// Why not.
    reason: String,
    workflows: usize,
    events: i64,
    runs: Vec<TailRun>,
}

#[derive(Debug, Serialize)]
struct TailRun {
    workflow_id: String,
    run_id: String,
    first_event_id: i64,
    next_event_id: i64,
}

pub(super) async fn run(args: FailoverArgs) -> anyhow::Result<ExitCode> {
    let asked = args.global.connect.connect().await?;
    let described = super::described(&asked, &args.namespace).await?;
    let replication = described.replication_config.unwrap_or_default();
    let is_held = replication.state() == ReplicationState::Handover;
    let from = replication.active_cluster_name.clone();
    anyhow::ensure!(
        described.is_global_namespace,
        "{} is local to its cluster; promote it and add clusters before it can fail over",
        args.namespace
    );
    anyhow::ensure!(
        replication
            .clusters
            .iter()
            .any(|c| c.cluster_name == args.to),
        "{} does not live in {}; its clusters are {}",
        args.namespace,
        args.to,
        replication
            .clusters
            .iter()
            .map(|c| c.cluster_name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    );
    if from == args.to && is_held {
        return release(&args, &asked).await;
    }
    anyhow::ensure!(
        from != args.to,
        "{} is already active in {} (version {})",
        args.namespace,
        args.to,
        described.failover_version
    );
    let namespace_id = described.namespace_info.unwrap_or_default().id;
    let (tail, lacking) = tokio::join!(
        tail(&args, &asked, &from, &namespace_id),
        completeness::ask(
            &asked,
            &args.namespace,
            &args.to,
            false,
            Some(COMPARE_WITHIN)
        )
    );
    let mut report = Report {
        tail,
        lacking,
        confirmed: false,
        namespace: args.namespace.clone(),
        to: args.to.clone(),
        failover_version_before: described.failover_version,
        failover_version: None,
        from,
    };
    if let Some((code, why)) = refusal(&args, &report) {
        args.global.output.print(&report, forecast)?;
        eprintln!("refused: {why}");
        return Ok(ExitCode::from(code));
    }
    if args.dry_run {
        args.global.output.print(&report, forecast)?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.global.output == Format::Text {
        // What it costs is said before anything is changed.
        println!("{}", forecast(&report));
    }
    let version = make_active(&args, &asked).await?;
    report.failover_version = Some(version);
    let confirmed = confirm(&asked, &args, version).await;
    report.confirmed = confirmed.is_ok();
    args.global
        .output
        .print(&report, |report| match &confirmed {
            Ok(()) => done(report),
            Err(why) => open(report, why),
        })?;
    Ok(match report.confirmed {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(UNCONFIRMED),
    })
}

/// Ends a hold where it is: of a namespace whose cluster was put back from a copy, and of a switchover that goes on.
async fn release(args: &FailoverArgs, asked: &Server) -> anyhow::Result<ExitCode> {
    if !args.accept_unknown || args.dry_run {
        eprintln!(
            "refused: writes of {} are held back in {}. If the database of {} was put back from a copy, another cluster may \
             have what it lacks: make that one active (--to), and this one again by a switchover. --accept-unknown makes \
             {} active with a higher version all the same; what others have of the lower one loses",
            args.namespace, args.to, args.to, args.to
        );
        return Ok(ExitCode::from(UNKNOWN));
    }
    let version = make_active(args, asked).await?;
    println!(
        "DONE  {} is active in {} (version {version})",
        args.namespace, args.to
    );
    Ok(ExitCode::SUCCESS)
}

/// The change itself; the version it made.
async fn make_active(args: &FailoverArgs, asked: &Server) -> anyhow::Result<i64> {
    let request = UpdateNamespaceRequest {
        namespace: args.namespace.clone(),
        replication_config: Some(NamespaceReplicationConfig {
            active_cluster_name: args.to.clone(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let updated = asked
        .workflow()
        .update_namespace(request)
        .await
        .context("make the target active")?;
    Ok(updated.into_inner().failover_version)
}

/// The reason why it is not done with these limits, and the exit code.
fn refusal(args: &FailoverArgs, report: &Report) -> Option<(u8, String)> {
    let limit = args.accept_loss?;
    let at_least = report.tail.workflows;
    let lacking = usize::try_from(report.lacking.runs_left_behind()).unwrap_or(usize::MAX);
    let (known, lost) = match report.lacking.known {
        true => (true, lacking),
        false => (false, at_least.max(lacking)),
    };
    if lost > limit {
        let text = format!(
            "{lost} workflows have changes that {} does not have, and --accept-loss is {limit}",
            args.to
        );
        return Some((REFUSED, text));
    }
    if !known && !args.accept_unknown {
        let text = format!(
            "it is unknown how many workflows have changes that {} does not have ({}), and --accept-loss is {limit}; \
             --accept-unknown goes on all the same",
            args.to, report.lacking.reason
        );
        return Some((UNKNOWN, text));
    }
    if known && report.lacking.dead_letters > 0 && limit == 0 {
        let text = format!(
            "{} changes are dead letters in {}, and --accept-loss is 0",
            report.lacking.dead_letters, args.to
        );
        return Some((REFUSED, text));
    }
    None
}

/// Waits until the target itself says that it is active.
async fn confirm(asked: &Server, args: &FailoverArgs, version: i64) -> Result<(), String> {
    let until = tokio::time::Instant::now() + CONFIRM_WITHIN;
    loop {
        let request = GetNamespaceViewRequest {
            namespace: args.namespace.clone(),
            cluster: args.to.clone(),
        };
        let mut replication = asked.replication();
        let view = tokio::time::timeout_at(until, replication.get_namespace_view(request)).await;
        let why = match view {
            Ok(Ok(view)) => {
                let view = view.into_inner();
                if view.active_cluster == args.to && view.failover_version >= version {
                    return Ok(());
                }
                format!(
                    "it still says that {} is active (version {})",
                    view.active_cluster, view.failover_version
                )
            }
            Ok(Err(status)) => format!("it cannot be asked: {}", status.message()),
            Err(_) => "it does not answer".to_owned(),
        };
        if tokio::time::Instant::now() + LOOK_EVERY >= until {
            return Err(why);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn open(report: &Report, why: &str) -> String {
    format!(
        "OPEN  version {} belongs to {}, but {} has not confirmed it within {}: {why}; it hears of it as soon as the \
         clusters reach each other, or name its own frontend with --address and run this again",
        report.failover_version.unwrap_or_default(),
        report.to,
        report.to,
        output::span(CONFIRM_WITHIN)
    )
}

async fn tail(args: &FailoverArgs, asked: &Server, from: &str, namespace_id: &str) -> Tail {
    let unknown = |reason: String| Tail {
        known: false,
        reason,
        workflows: 0,
        events: 0,
        runs: Vec::new(),
    };
    match tokio::time::timeout(TAIL_WITHIN, ask_tail(args, asked, namespace_id)).await {
        Ok(Ok(runs)) => Tail {
            known: true,
            reason: String::new(),
            workflows: runs.len(),
            events: runs
                .iter()
                .map(|r| (r.next_event_id - r.first_event_id).max(0))
                .sum(),
            runs,
        },
        Ok(Err(error)) => unknown(output::explain(&error)),
        Err(_) => unknown(format!(
            "{from} did not answer within {}",
            output::span(TAIL_WITHIN)
        )),
    }
}

async fn ask_tail(
    args: &FailoverArgs,
    asked: &Server,
    namespace_id: &str,
) -> anyhow::Result<Vec<TailRun>> {
    let request = ListUnreplicatedRequest {
        namespace_id: namespace_id.to_owned(),
        remote_cluster: args.to.clone(),
    };
    let mut pages = asked
        .replication()
        .list_unreplicated(request)
        .await?
        .into_inner();
    let mut runs = Vec::new();
    while let Some(page) = pages.message().await? {
        runs.extend(page.runs.into_iter().map(|r| {
            let execution = r.execution.unwrap_or_default();
            TailRun {
                workflow_id: execution.workflow_id,
                run_id: execution.run_id,
                first_event_id: r.first_event_id,
                next_event_id: r.next_event_id,
            }
        }));
    }
    Ok(runs)
}

fn forecast(report: &Report) -> String {
    let mut lines = vec![format!(
        "{}   active {} (version {})   target {}",
        report.namespace, report.from, report.failover_version_before, report.to
    )];
    let (tail, lacking) = (&report.tail, &report.lacking);
    if lacking.known {
        let Some(loss) = lacking.loss() else {
            lines.push(format!(
                "  lacking   nothing: {} has everything {} acknowledged ({} runs compared)",
                report.to, report.from, lacking.checked_runs
            ));
            return lines.join("\n");
        };
        lines.push(format!("  lacking   {loss} in {}:", report.to));
        lines.extend(lacking.lines().iter().map(|l| format!("            {l}")));
        return lines.join("\n");
    }
    lines.push(format!("  lacking   unknown: {}", lacking.reason));
    lines.push(format!(
        "            writes that {} acknowledged and {} has not yet received stay in {} and are settled when it returns",
        report.from, report.to, report.from
    ));
    if tail.known {
        lines.push(format!(
            "            at least {} workflows, {} events that {} has not acknowledged",
            tail.workflows, tail.events, report.to
        ));
        for run in tail.runs.iter().take(TAIL_SHOWN) {
            lines.push(format!(
                "            {} ({}) events {}..{}",
                run.workflow_id,
                run.run_id,
                run.first_event_id,
                run.next_event_id - 1
            ));
        }
        if tail.runs.len() > TAIL_SHOWN {
            lines.push(format!(
                "            and {} more (--output json lists all)",
                tail.runs.len() - TAIL_SHOWN
            ));
        }
    }
    lines.join("\n")
}

fn done(report: &Report) -> String {
    let version = report.failover_version.unwrap_or_default();
    format!(
        "DONE  {} is active in {} (version {version})",
        report.namespace, report.to
    )
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use proto_messages::{
        meridian::replication::v1::{Completeness, RunDifference, run_difference::Kind},
        temporal::api::common::v1::WorkflowExecution,
    };

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: FailoverArgs,
    }

    fn report(lacking: Found) -> Report {
        Report {
            namespace: "orders".into(),
            from: "west".into(),
            to: "east".into(),
            failover_version_before: 1,
            failover_version: None,
            confirmed: false,
            tail: Tail {
                known: true,
                reason: String::new(),
                workflows: 0,
                events: 0,
                runs: vec![],
            },
            lacking,
        }
    }

    /// A signal that was accepted while a worker has the workflow task is in no event and in no task yet.
    #[test]
    fn buffered_events_count_as_left_behind_by_a_forced_failover() {
        let told = Completeness {
            checked_runs: 3,
            buffered_runs: 1,
            differences: vec![RunDifference {
                execution: Some(WorkflowExecution {
                    workflow_id: "order-1".into(),
                    run_id: "r".into(),
                }),
                kind: Kind::Buffered as i32,
                ..Default::default()
            }],
            ..Default::default()
        };
        let report = report(told.into());
        let text = forecast(&report);
        assert!(text.contains("INCOMPLETE: 1 of 3 runs in east:"), "{text}");
        assert!(text.contains("order-1 (r) has buffered events"), "{text}");
        let line = ["failover", "--to", "east", "--accept-loss", "0"];
        let Line { args } = Line::parse_from(line);
        let (code, _) = refusal(&args, &report).unwrap();
        assert_eq!(code, REFUSED);
        let line = ["failover", "--to", "east", "--accept-loss", "1"];
        let Line { args } = Line::parse_from(line);
        assert!(refusal(&args, &report).is_none());
    }
}
