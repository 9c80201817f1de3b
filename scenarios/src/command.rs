//! `meridian drill`: runs drill files, lists them, checks them.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};

use crate::{
    definition::Drill,
    report::{Report, Verdict},
    runner::{self, Options},
    world::Skipped,
};

/// Disaster-recovery drills on real processes of this same binary.
#[derive(Args, Clone, Debug)]
pub struct DrillArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Clone, Debug)]
enum Verb {
    /// Run drills, one after the other. Exit code 0: all passed, 1: one failed, 2: one could not run.
    Run {
        /// Drill files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// The short form: shorter and with less load, the same steps and judgements.
        #[arg(long)]
        short: bool,
        /// Folder for reports, logs and recorded calls; each drill gets a folder in it.
        #[arg(long, default_value = "drill-reports")]
        out: PathBuf,
        /// How to print results; progress goes to standard error.
        #[arg(long, value_enum, default_value = "table")]
        output: Output,
        /// Keep the clusters' data files.
        #[arg(long)]
        keep: bool,
        /// A worker program to run on each side instead of the built-in worker.
        #[arg(long)]
        worker: Option<String>,
    },
    /// List the drills in a folder.
    List {
        /// The folder.
        #[arg(default_value = "scenarios/drills")]
        folder: PathBuf,
    },
    /// Read drill files and say whether they are right.
    Check {
        /// Drill files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Text for people.
    Table,
    /// One JSON document, a list of reports.
    Json,
}

/// Does what the command line says.
pub async fn run(args: DrillArgs) -> anyhow::Result<ExitCode> {
    match args.verb {
        Verb::Run {
            files,
            short,
            out,
            output,
            keep,
            worker,
        } => {
            let options = Options {
                short,
                out,
                keep,
                worker,
            };
            let all = run_all(&files, &options, output);
            tokio::select! {
                code = all => code,
                _ = tokio::signal::ctrl_c() => {
                    eprintln!("interrupted; all processes of the drill are ended");
                    Ok(ExitCode::from(2))
                }
            }
        }
        Verb::List { folder } => {
            for path in drill_files(&folder)? {
                let drill = Drill::read(&path)?;
                println!("{:<28} {}", drill.name, drill.title);
            }
            Ok(ExitCode::SUCCESS)
        }
        Verb::Check { files } => {
            let mut good = true;
            for path in files {
                match Drill::read(&path) {
                    Ok(drill) => println!("{}: {} steps, good", path.display(), drill.steps.len()),
                    Err(error) => {
                        good = false;
                        eprintln!("{error:#}");
                    }
                }
            }
            Ok(if good {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(2)
            })
        }
    }
}

async fn run_all(files: &[PathBuf], options: &Options, output: Output) -> anyhow::Result<ExitCode> {
    // All files are read first: a mistake in the last one must not show after half an hour.
    let drills: Vec<Drill> = files
        .iter()
        .map(|f| Drill::read(f))
        .collect::<Result<_, _>>()?;
    let mut reports: Vec<Report> = Vec::new();
    for drill in drills {
        let report = match runner::run(drill.clone(), options).await {
            Ok(report) => report,
            Err(error) => {
                let why = match error.downcast_ref::<Skipped>() {
                    Some(skipped) => skipped.to_string(),
                    None => format!("{error:#}"),
                };
                eprintln!("{}: could not run: {why}", drill.name);
                Report::could_not_run(&drill, options.short, why)
            }
        };
        if output == Output::Table {
            println!("{}", report.text());
        }
        reports.push(report);
    }
    if output == Output::Json {
        println!("{}", serde_json::to_string_pretty(&reports)?);
    }
    let worst = reports
        .iter()
        .map(|r| r.verdict)
        .max()
        .unwrap_or(Verdict::CouldNotRun);
    Ok(ExitCode::from(match worst {
        Verdict::Pass => 0,
        Verdict::Fail => 1,
        Verdict::CouldNotRun => 2,
    }))
}

fn drill_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder)
        .with_context(|| format!("list the folder {}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| p.extension().is_some_and(|e| e == "toml"))
        .collect();
    files.sort();
    Ok(files)
}
