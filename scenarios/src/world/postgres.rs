//! A PostgreSQL server of the drill's own, made with `initdb` and run on a private port with every
//! promise of durability on.

use std::{
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use super::{Skipped, ports::Ports};

/// A running server; dropping it kills it and removes its data.
pub(crate) struct Postgres {
    programs: Programs,
    port: u16,
    dir: PathBuf,
    log: PathBuf,
    child: Option<Child>,
}

/// Where the programs are and whom they run as: PostgreSQL refuses to run as root.
struct Programs {
    folder: PathBuf,
    user: Option<(u32, u32)>,
}

const USER: &str = "postgres";

impl Postgres {
    /// Makes and starts a server; its output goes to `log_dir`.
    pub(super) async fn start(log_dir: &Path) -> anyhow::Result<Self> {
        let programs = Programs::find()?;
        let port = Ports::new().take()?;
        // Beside the report's folder: another user must be able to reach it.
        let dir =
            std::env::temp_dir().join(format!("meridian-drill-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700))?;
        if let Some((uid, gid)) = programs.user {
            chown(&dir, Some(uid), Some(gid))
                .with_context(|| format!("give {} away", dir.display()))?;
        }
        let data = dir.join("data");
        let made = programs
            .command("initdb")
            .args([
                "--username",
                USER,
                "--auth",
                "trust",
                "--encoding",
                "UTF8",
                "--no-locale",
            ])
            .arg("--pgdata")
            .arg(&data)
            .output()
            .await
            .context("run initdb")?;
        succeeded("initdb", &made)?;
        let mut server = Self {
            programs,
            port,
            dir,
            log: log_dir.join("postgres.log"),
            child: None,
        };
        server.begin().await?;
        Ok(server)
    }

    /// Starts the server on its data.
    pub(crate) async fn begin(&mut self) -> anyhow::Result<()> {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .with_context(|| format!("open {}", self.log.display()))?;
        let child = self
            .programs
            .command("postgres")
            .arg("-D")
            .arg(self.dir.join("data"))
            .args(["-p", &self.port.to_string(), "-k"])
            .arg(&self.dir)
            .args([
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                "max_connections=200",
            ])
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("start postgres")?;
        self.child = Some(child);
        self.wait_ready().await
    }

    /// Ends the server at once, as a crash would; what it promised is on disk.
    pub(crate) async fn end(&mut self) -> anyhow::Result<()> {
        let mut child = self.child.take().context("the database server runs")?;
        super::process::signal(&child, "QUIT").await;
        let ended = tokio::time::timeout(Duration::from_secs(30), child.wait()).await;
        ended
            .context("end postgres within 30 s")?
            .context("wait for postgres")?;
        Ok(())
    }

    /// Makes a database; what a configuration file says to reach it.
    pub(super) async fn database(&self, name: &str) -> anyhow::Result<Value> {
        let name = name.replace('-', "_");
        let made = self
            .client("createdb")
            .arg(&name)
            .output()
            .await
            .context("run createdb")?;
        succeeded("createdb", &made)?;
        Ok(json!({
            "pluginName": "postgres12",
            "databaseName": name,
            "connectAddr": format!("127.0.0.1:{}", self.port),
            "user": USER,
            "password": "",
        }))
    }

    async fn wait_ready(&self) -> anyhow::Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(30) {
            let asked = self
                .client("pg_isready")
                .output()
                .await
                .context("run pg_isready")?;
            if asked.status.success() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::bail!("postgres did not answer within 30 s; see postgres.log")
    }

    fn client(&self, program: &str) -> Command {
        let mut command = self.programs.command(program);
        command
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string()])
            .args(["-U", USER]);
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.start_kill();
        }
        if let Err(error) = std::fs::remove_dir_all(&self.dir) {
            tracing::debug!(%error, "the database's folder was not removed");
        }
    }
}

impl Programs {
    fn find() -> anyhow::Result<Self> {
        let missing = || Skipped("needs PostgreSQL: apt-get install postgresql".to_owned());
        let folder = candidates()
            .into_iter()
            .find(|f| {
                ["initdb", "postgres", "createdb", "pg_isready"]
                    .iter()
                    .all(|p| f.join(p).is_file())
            })
            .ok_or_else(missing)?;
        let root = std::fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0);
        let user = if root {
            let ids = user_ids(USER).ok_or_else(|| {
                Skipped(format!(
                    "PostgreSQL does not run as root and there is no user {USER}"
                ))
            })?;
            Some(ids)
        } else {
            None
        };
        Ok(Self { folder, user })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.folder.join(program));
        command.stdin(Stdio::null()).current_dir("/");
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }
}

/// Folders that may hold the programs, newest version first.
fn candidates() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|entries| {
            entries
                .filter_map(|e| Some(e.ok()?.path().join("bin")))
                .collect()
        })
        .unwrap_or_default();
    folders.sort();
    folders.reverse();
    let path = std::env::var_os("PATH").unwrap_or_default();
    folders.extend(std::env::split_paths(&path));
    folders
}

fn user_ids(name: &str) -> Option<(u32, u32)> {
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = passwd.lines().find(|l| l.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn succeeded(program: &str, output: &Output) -> anyhow::Result<()> {
    anyhow::ensure!(
        output.status.success(),
        "{program} failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_of_our_own_starts_and_makes_databases() {
        let logs = tempfile::tempdir().expect("folder");
        let server = match Postgres::start(logs.path()).await {
            Ok(server) => server,
            // Said aloud, not hidden: the machine lacks what the drill itself would name.
            Err(error) if error.is::<Skipped>() => {
                eprintln!("{error}");
                return;
            }
            Err(error) => panic!("{error:#}"),
        };
        let store = server
            .database("meridian_north-west")
            .await
            .expect("database");
        assert_eq!(store["databaseName"], "meridian_north_west");
        let dir = server.dir.clone();
        drop(server);
        assert!(!dir.exists());
    }
}
