//! The one binary: sub-commands of the server, the operator commands, drills and the bench. It parses
//! arguments and calls one function.

use std::{io::Write, process::ExitCode};

use anyhow::Context;
use clap::{CommandFactory, Parser};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A Temporal-compatible server whose centre is replication between clusters and failover.
#[derive(Debug, Parser)]
#[command(name = "meridian", version, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Start complete clusters in this process, connected with one another.
    Up(cluster_server::UpArgs),
    /// Run one node from a configuration file.
    Server(cluster_server::ServerArgs),
    /// The database's schema.
    #[command(subcommand)]
    Schema(cluster_server::SchemaCommand),
    /// Copy an SQLite database while its server runs.
    Backup(cluster_server::BackupArgs),
    /// Run disaster-recovery drills.
    Drill(scenarios::DrillArgs),
    /// Measure any Temporal-compatible frontend.
    Bench(scenarios_load::bench::BenchArgs),
    /// Print what a shell needs to complete this program's arguments, for example
    /// `meridian completions bash > /etc/bash_completion.d/meridian`.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write manual pages, one for each command.
    Man {
        /// The folder, made if it is not there.
        #[arg(long, default_value = "man")]
        dir: std::path::PathBuf,
    },
    /// Operator commands.
    #[command(flatten)]
    Operator(cluster_cli::Command),
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(told) => {
            if told.use_stderr() && cluster_cli::is_json_wanted() {
                return cluster_cli::fail_usage(told.to_string().trim_end());
            }
            // Nothing can be done about a closed terminal.
            let _ = told.print();
            return match told.use_stderr() {
                true => ExitCode::from(cluster_cli::USAGE),
                false => ExitCode::SUCCESS,
            };
        }
    };
    // The provider is chosen once for the process; a second choice would be a defect of this file.
    if rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .is_err()
    {
        eprintln!("error: another TLS provider is installed already");
        return ExitCode::FAILURE;
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(run(arguments.command));
    // Threads of the store's driver may still be closing files; they hold nothing that is not durable.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    ended.unwrap_or_else(|error| cluster_cli::fail(&error))
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Up(args) => cluster_server::up(args).await,
        Command::Server(args) => cluster_server::server(args).await,
        Command::Schema(command) => cluster_server::schema(command).await,
        Command::Backup(args) => cluster_server::backup(args).await,
        Command::Drill(args) => scenarios::run(args).await,
        Command::Bench(args) => scenarios_load::bench::run(args).await,
        Command::Completions { shell } => {
            let mut told = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "meridian", &mut told);
            std::io::stdout().write_all(&told).context("print")?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Man { dir } => {
            std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
            clap_mangen::generate_to(Arguments::command(), &dir)
                .with_context(|| format!("write manual pages into {}", dir.display()))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Operator(command) => cluster_cli::run(command).await,
    }
}
