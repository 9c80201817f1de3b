//! `meridian namespace failover`: the forced way. What the active side has and the target has not is asked
//! of the active side while it can be reached; the change itself is an ordinary `UpdateNamespace` on whichever
//! cluster is asked, so it works when the other side is dead.

use std::{process::ExitCode, time::Duration};

use anyhow::Context;
use clap::Args;
use proto_messages::{
    meridian::replication::v1::ListUnreplicatedRequest,
    temporal::api::{
        replication::v1::NamespaceReplicationConfig, workflowservice::v1::UpdateNamespaceRequest,
    },
};
use serde::Serialize;

use crate::{Format, GlobalArgs, REFUSED, connect::Server, output};

/// How long the old side may take to tell its tail.
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
    tail: Tail,
}

/// What the target does not have.
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
    let from = replication.active_cluster_name;
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
    let namespace_id = described.namespace_info.unwrap_or_default().id;
    let mut report = Report {
        tail: tail(&args, &asked, &from, &namespace_id).await,
        namespace: args.namespace.clone(),
        to: args.to.clone(),
        failover_version_before: described.failover_version,
        failover_version: None,
        from,
    };
    if let Some(limit) = args.accept_loss
        && report.tail.workflows > limit
    {
        args.global.output.print(&report, forecast)?;
        eprintln!(
            "refused: {} workflows have changes that {} does not have, and --accept-loss is {limit}",
            report.tail.workflows, args.to
        );
        return Ok(ExitCode::from(REFUSED));
    }
    if args.dry_run {
        args.global.output.print(&report, forecast)?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.global.output == Format::Text {
        // What it costs is said before anything is changed.
        println!("{}", forecast(&report));
    }
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
    report.failover_version = Some(updated.into_inner().failover_version);
    args.global.output.print(&report, done)?;
    Ok(ExitCode::SUCCESS)
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
    let tail = &report.tail;
    if !tail.known {
        lines.push(format!("  tail      unknown: {}", tail.reason));
        lines.push(format!("            writes that {} acknowledged and {} has not yet received stay in {} and are settled when it returns", report.from, report.to, report.from));
    } else if tail.workflows == 0 {
        lines.push(format!(
            "  tail      none: {} has everything {} acknowledged",
            report.to, report.from
        ));
    } else {
        lines.push(format!(
            "  tail      {} workflows, {} events that {} does not have yet:",
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
