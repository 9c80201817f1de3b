//! Operator commands. They speak gRPC only, so that they work from anywhere a frontend can be reached,
//! and against the same APIs that stock tools use.
//!
//! Data goes to standard output, talk to standard error; `--output json` everywhere. Exit codes: 0 done,
//! 1 refused by a check or by the server, 2 rolled back, 3 refused because a loss cannot be excluded or counted,
//! 4 the server cannot be reached, 5 done on one side and not yet confirmed by the other, 64 usage.

mod certificates;
mod clusters;
mod completeness;
mod connect;
mod dead_letters;
mod namespaces;
mod output;
mod reach;
mod status;

use std::process::ExitCode;

use clap::Subcommand;

pub use connect::ConnectArgs;
pub use output::Format;
pub use reach::Unreachable;

/// Where and how: options of every command that talks to a server.
#[derive(Clone, Debug, clap::Args)]
pub struct GlobalArgs {
    /// Which server.
    #[command(flatten)]
    pub connect: ConnectArgs,
    /// How answers are printed.
    #[arg(long, short, value_enum, default_value_t = Format::Text)]
    pub output: Format,
}

/// The commands.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Namespaces: list, describe, register, and move their active cluster.
    #[command(subcommand)]
    Namespace(namespaces::NamespaceCommand),
    /// The clusters this one knows.
    #[command(subcommand)]
    Cluster(clusters::ClusterCommand),
    /// Replication: how far the other clusters are.
    #[command(subcommand)]
    Replication(status::ReplicationCommand),
    /// Replication tasks that could not be applied: list, read, replay, purge.
    #[command(subcommand)]
    Dlq(dead_letters::DlqCommand),
    /// Development certificates.
    #[command(subcommand)]
    Certs(certificates::CertsCommand),
}

/// Exit code of a command the server or a check refused.
const REFUSED: u8 = 1;
/// Exit code of a switchover that was rolled back.
const ROLLED_BACK: u8 = 2;
/// Exit code of a command that was refused because it is unknown what would be lost.
const UNKNOWN: u8 = 3;
/// Exit code when the change was made and the target has not confirmed it yet.
const UNCONFIRMED: u8 = 5;
/// Exit code when the server cannot be reached.
const UNREACHABLE: u8 = 4;
/// Exit code for arguments that cannot be understood (`EX_USAGE` of sysexits).
pub const USAGE: u8 = 64;

/// Runs a command.
pub async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Namespace(command) => namespaces::run(command).await,
        Command::Cluster(command) => clusters::run(command).await,
        Command::Replication(command) => status::run(command).await,
        Command::Dlq(command) => dead_letters::run(command).await,
        Command::Certs(command) => certificates::run(command),
    }
}

/// Tells why a command ended, on standard error and in the format its arguments asked for, and with which exit code.
pub fn fail(error: &anyhow::Error) -> ExitCode {
    let code = match is_unreachable(error) {
        true => UNREACHABLE,
        false => REFUSED,
    };
    let status = error
        .chain()
        .find_map(|e| e.downcast_ref::<tonic::Status>());
    output::fail(
        &output::explain(error),
        status.map(tonic::Status::code),
        code,
    )
}

/// Tells that arguments cannot be understood.
pub fn fail_usage(told: &str) -> ExitCode {
    output::fail(told, None, USAGE)
}

/// Whether the format that this process's arguments ask for is JSON, also where they cannot be parsed.
pub fn is_json_wanted() -> bool {
    output::is_json_wanted(std::env::args())
}

fn is_unreachable(error: &anyhow::Error) -> bool {
    error.chain().any(|e| {
        e.downcast_ref::<Unreachable>().is_some()
            || e.downcast_ref::<tonic::transport::Error>().is_some()
            || e.downcast_ref::<tonic::Status>()
                .is_some_and(|s| s.code() == tonic::Code::Unavailable)
    })
}
