//! A PostgreSQL server of its own: Debian's binaries, a data folder and a socket in a temporary folder.

use std::{
    fs::Permissions,
    io::Read,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use schema_sql::Options;
use sqlx::{AssertSqlSafe, Connection, PgConnection, postgres::PgConnectOptions};

/// A running server; stopped when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    folder: tempfile::TempDir,
}

/// The newest installed server.
fn binaries() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let number = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions
        .map(|entry| entry.path())
        .max_by_key(|path| number(path))?;
    let bin = newest.join("bin");
    bin.join("postgres").exists().then_some(bin)
}

/// The server refuses to run as root.
fn command(program: &Path) -> Command {
    let id = Command::new("id").arg("-u").output().expect("id");
    if id.stdout.trim_ascii() != b"0" {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=postgres", "--regid=postgres", "--clear-groups"])
        .arg(program);
    command
}

impl Server {
    /// Starts one; `None` where PostgreSQL is not installed.
    pub(crate) async fn start() -> Option<Self> {
        Self::start_with(|_| Vec::new()).await
    }

    /// The same, with settings, made when its data folder is there.
    pub(crate) async fn start_with(settings: impl FnOnce(&Path) -> Vec<String>) -> Option<Self> {
        let Some(bin) = binaries() else {
            eprintln!("skipped: no PostgreSQL server in /usr/lib/postgresql");
            return None;
        };
        let folder = tempfile::tempdir().expect("folder");
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o777))
            .expect("permissions");
        let data = folder.path().join("data");
        let mut initdb = command(&bin.join("initdb"));
        initdb.args([
            "-A",
            "trust",
            "-U",
            "meridian",
            "--no-sync",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
            "-D",
        ]);
        let made = initdb.arg(&data).output().expect("initdb");
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        let port = TcpListener::bind("127.0.0.1:0")
            .expect("port")
            .local_addr()
            .expect("port")
            .port();
        let mut postgres = command(&bin.join("postgres"));
        postgres
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(folder.path())
            .args(["-p", &port.to_string()]);
        // What is tested does not survive the test: no need to sync.
        for setting in [
            "listen_addresses=127.0.0.1",
            "fsync=off",
            "max_connections=100",
        ] {
            postgres.args(["-c", setting]);
        }
        for setting in settings(&data) {
            postgres.args(["-c", &setting]);
        }
        postgres
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .current_dir(folder.path());
        let child = postgres.spawn().expect("postgres");
        let mut server = Self {
            child,
            port,
            folder,
        };
        server.wait().await;
        Some(server)
    }

    async fn wait(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            match PgConnection::connect_with(&self.socket()).await {
                Ok(_) => return,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            if let Some(status) = self.child.try_wait().expect("wait") {
                let mut log = String::new();
                let _ = self
                    .child
                    .stderr
                    .take()
                    .map(|mut stderr| stderr.read_to_string(&mut log));
                panic!("postgres ended with {status}: {log}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The way in that asks for nothing, whatever the port asks for.
    fn socket(&self) -> PgConnectOptions {
        PgConnectOptions::new()
            .socket(self.folder.path())
            .port(self.port)
            .username("meridian")
            .database("postgres")
    }

    /// A connection to look at the server from the side.
    pub(crate) async fn watch(&self) -> PgConnection {
        let connected = PgConnection::connect_with(&self.socket()).await;
        connected.expect("connect")
    }

    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://meridian@127.0.0.1:{}/{database}", self.port)
    }

    /// Over the Unix socket, as fields.
    pub(crate) fn options(&self, database: &str) -> Options {
        Options::new(schema_sql::Plugin::Postgres(schema_sql::Postgres {
            host: self.folder.path().display().to_string(),
            port: self.port,
            user: "meridian".to_owned(),
            database: database.to_owned(),
            ..Default::default()
        }))
    }

    /// Runs a statement in a database.
    pub(crate) async fn run(&self, database: &str, sql: &str) {
        let mut conn = PgConnection::connect(&self.url(database))
            .await
            .expect("connect");
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .execute(&mut conn)
            .await
            .expect(sql);
        conn.close().await.expect("close");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGQUIT is the server's "stop at once"; a plain kill would leave its children.
        let stop = Command::new("kill")
            .arg("-QUIT")
            .arg(self.child.id().to_string())
            .status();
        if stop.is_ok_and(|status| status.success()) {
            let _ = self.child.wait();
        }
    }
}
