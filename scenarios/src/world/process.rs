//! One server process: started, killed, frozen and thawed, with its output in a file.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::Context;
use tokio::process::{Child, Command};

/// How long a process may take to drain.
const DRAIN: Duration = Duration::from_secs(10);

/// A process that may or may not be running.
pub(crate) struct Process {
    /// Its name in messages and the stem of its files.
    pub(crate) name: String,
    /// The services it runs; all when empty.
    pub(crate) services: Vec<String>,
    config: PathBuf,
    log: PathBuf,
    child: Option<Child>,
    starts: usize,
}

impl Process {
    /// Where it writes.
    pub(super) fn log(&self) -> &Path {
        &self.log
    }

    pub(super) fn new(name: &str, services: Vec<String>, config: PathBuf, log: PathBuf) -> Self {
        Self {
            name: name.to_owned(),
            services,
            config,
            log,
            child: None,
            starts: 0,
        }
    }

    /// Whether it runs a service.
    pub(crate) fn serves(&self, service: &str) -> bool {
        self.services.is_empty() || self.services.iter().any(|s| s == service)
    }

    /// Whether it is running.
    pub(crate) fn running(&mut self) -> bool {
        self.child
            .as_mut()
            .is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    pub(super) fn start(&mut self, binary: &Path) -> anyhow::Result<()> {
        let open = || {
            File::options()
                .create(true)
                .append(true)
                .open(&self.log)
                .with_context(|| format!("open {}", self.log.display()))
        };
        let mut command = Command::new(binary);
        command
            .arg("server")
            .arg("--config")
            .arg(&self.config)
            .stdin(Stdio::null())
            .stdout(open()?)
            .stderr(open()?)
            .kill_on_drop(true);
        if !self.services.is_empty() {
            command.arg("--services").arg(self.services.join(","));
        }
        let child = command
            .spawn()
            .with_context(|| format!("start {} as {}", binary.display(), self.name))?;
        self.child = Some(child);
        self.starts += 1;
        Ok(())
    }

    /// Creates the schema in the database its configuration names.
    pub(super) async fn set_up_schema(&self, binary: &Path) -> anyhow::Result<()> {
        let output = Command::new(binary)
            .args(["schema", "setup", "--config"])
            .arg(&self.config)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .context("run schema setup")?;
        anyhow::ensure!(
            output.status.success(),
            "schema setup failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(())
    }

    /// kill -9.
    pub(super) async fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill().await;
        }
    }

    /// Asks it to drain, and kills it when it takes too long.
    pub(super) async fn stop(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        signal(&child, "TERM").await;
        if tokio::time::timeout(DRAIN, child.wait()).await.is_err() {
            tracing::warn!(process = self.name, "did not drain in time and is killed");
            let _ = child.kill().await;
        }
    }

    /// Sends a signal by its name.
    pub(super) async fn signal(&self, name: &str) {
        if let Some(child) = &self.child {
            signal(child, name).await;
        }
    }

    /// The process, while it runs.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.as_ref()?.id()
    }

    /// How many warnings it has logged.
    pub(super) fn warnings(&self) -> usize {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        text.lines().filter(|l| l.contains("WARN")).count()
    }

    /// The end of its output, for messages about its death.
    pub(super) fn last_words(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().rev().take(15).collect();
        let lines: Vec<&str> = lines.into_iter().rev().collect();
        format!("the end of {}:\n{}", self.log.display(), lines.join("\n"))
    }
}

/// Sends a signal with the shell's own `kill`, which every system has.
pub(super) async fn signal(child: &Child, name: &str) {
    let Some(pid) = child.id() else {
        return;
    };
    let sent = Command::new("sh")
        .arg("-c")
        .arg(format!("kill -{name} {pid}"))
        .status()
        .await;
    if let Err(error) = sent {
        tracing::warn!(%error, pid, "a signal could not be sent");
    }
}
