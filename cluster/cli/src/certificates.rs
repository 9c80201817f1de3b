//! `meridian certs ...`: certificates for development and drills.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use certs::Leaf;
use clap::Subcommand;

/// Commands on certificates.
#[derive(Clone, Debug, Subcommand)]
pub enum CertsCommand {
    /// Make a development CA and a certificate for each cluster; existing valid ones are kept.
    Issue {
        /// The folder.
        #[arg(long, default_value = "certs")]
        dir: PathBuf,
        /// Clusters, separated by commas.
        #[arg(long, value_delimiter = ',', required = true)]
        clusters: Vec<String>,
        /// Replace the clusters' certificates (not the CA) even when they are valid.
        #[arg(long)]
        renew: bool,
    },
}

pub(crate) fn run(command: CertsCommand) -> anyhow::Result<ExitCode> {
    let CertsCommand::Issue {
        dir,
        clusters,
        renew,
    } = command;
    for cluster in clusters {
        let leaf = Leaf::new(&cluster);
        let leaf = if renew { leaf.renewed() } else { leaf };
        let issued = certs::issue::issue(&dir, &leaf)
            .with_context(|| format!("issue a certificate for {cluster}"))?;
        let what = if issued.is_new { "issued" } else { "kept" };
        println!(
            "{what}  {}  {}  (CA {})",
            issued.certificate.display(),
            issued.key.display(),
            issued.ca.display()
        );
    }
    Ok(ExitCode::SUCCESS)
}
