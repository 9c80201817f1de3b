//! Drills in their short form, with workers of the official SDK on both sides.

use std::{path::Path, process::Command, sync::Mutex};

/// Drills measure: one at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn passes(name: &str) -> anyhow::Result<()> {
    let _alone = ALONE.lock();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../drills/{name}.toml"));
    let reports = tempfile::tempdir()?;
    let output = Command::new(scenarios_sdk::binary()?)
        .args(["drill", "run", "--short", "--out"])
        .arg(reports.path())
        .arg("--worker")
        .arg(scenarios_sdk::worker()?)
        .arg(file)
        .output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    anyhow::ensure!(
        output.status.success(),
        "{name}: {}\n{}\n{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    Ok(())
}

#[test]
fn switchover_under_load() -> anyhow::Result<()> {
    passes("switchover-under-load")
}

#[test]
fn active_killed() -> anyhow::Result<()> {
    passes("active-killed")
}
