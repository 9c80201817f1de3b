//! `meridian backup`: a copy of SQLite databases while their server runs. A restore is a start on the copy.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::Args;
use schema_sql::Options;

use crate::{config, node::store_options};

/// The source and the destination of a backup.
#[derive(Clone, Debug, Args)]
pub struct BackupArgs {
    /// The configuration file of a node whose datastore is SQLite.
    #[arg(long, short, required_unless_present = "data", conflicts_with = "data")]
    pub config: Option<PathBuf>,
    /// The data folder of `meridian up`: every cluster in it is copied.
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// A new folder for the copy. To restore, stop the server and start it on these files.
    #[arg(long)]
    pub to: PathBuf,
}

/// Copies, checks the copy, and says what was written.
pub async fn backup(args: BackupArgs) -> anyhow::Result<ExitCode> {
    let sources = match (&args.config, &args.data) {
        (Some(file), _) => vec![store_options(&config::load(file)?.datastore).0],
        (None, Some(folder)) => databases(folder)?,
        (None, None) => Vec::new(),
    };
    for source in sources {
        let copied = schema_sql::backup(&source, &args.to)
            .await
            .with_context(|| format!("copy into {}", args.to.display()))?;
        for file in copied {
            println!("{}  {} bytes", file.path.display(), file.bytes);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The main files in a folder of `meridian up`, each with visibility beside it.
fn databases(folder: &Path) -> anyhow::Result<Vec<Options>> {
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry
            .with_context(|| format!("list {}", folder.display()))?
            .path();
        if path.extension().is_some_and(|e| e == "db") {
            files.push(path);
        }
    }
    anyhow::ensure!(
        !files.is_empty(),
        "{} holds no database of `meridian up` (NAME.db)",
        folder.display()
    );
    files.sort();
    Ok(files.into_iter().map(Options::sqlite).collect())
}
