//! A PostgreSQL server of its own: the machine's binaries, a data folder and a private port.

use std::{
    fs::Permissions,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::process::port;

/// A running server; stopped when dropped.
pub(crate) struct Postgres {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Postgres {
    /// Starts one; `None`, said aloud, where PostgreSQL is not installed.
    pub(crate) fn start() -> Option<Self> {
        let Some(bin) = binaries() else {
            eprintln!("skipped: needs PostgreSQL (apt-get install postgresql)");
            return None;
        };
        let folder = tempfile::tempdir().expect("folder");
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).expect("open it");
        let data = folder.path().join("data");
        let made = command(&bin.join("initdb"))
            .args(["-A", "trust", "-U", "meridian", "--no-sync", "-E", "UTF8"])
            .arg("--no-locale")
            .arg("-D")
            .arg(&data)
            .output()
            .expect("run initdb");
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        let port = port();
        let child = command(&bin.join("postgres"))
            .arg("-D")
            .arg(&data)
            .args(["-p", &port.to_string(), "-k"])
            .arg(folder.path())
            .args([
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                "max_connections=200",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start postgres");
        let server = Self {
            child,
            port,
            _folder: folder,
        };
        let begun = Instant::now();
        while !server.succeeds(&bin, "createdb", &["meridian"]) {
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "postgres does not answer"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(server)
    }

    /// Where it listens, on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// What a configuration says to reach its database.
    pub(crate) fn datastore(&self) -> Value {
        json!({
            "pluginName": "postgres12",
            "databaseName": "meridian",
            "connectAddr": format!("127.0.0.1:{}", self.port),
            "user": "meridian",
            "maxConns": 8,
        })
    }

    fn succeeds(&self, bin: &Path, program: &str, arguments: &[&str]) -> bool {
        let output = Command::new(bin.join(program))
            .args(["-h", "127.0.0.1", "-U", "meridian", "-p"])
            .arg(self.port.to_string())
            .args(arguments)
            .output();
        output.is_ok_and(|o| o.status.success())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Both fail only when it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The newest installed server.
fn binaries() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let number = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions.map(|e| e.path()).max_by_key(|path| number(path))?;
    let bin = newest.join("bin");
    bin.join("postgres").exists().then_some(bin)
}

/// The server refuses to run as root.
fn command(program: &Path) -> Command {
    let id = Command::new("id").arg("-u").output().expect("run id");
    let mut command = Command::new(program);
    if id.stdout.trim_ascii() == b"0" {
        command = Command::new("setpriv");
        command
            .args(["--reuid=postgres", "--regid=postgres", "--clear-groups"])
            .arg(program);
    }
    // A folder that everybody may enter.
    command.current_dir("/");
    command
}
