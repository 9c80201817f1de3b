//! Harness of the tests with the official Rust SDK: the server's binary, found beside the tests,
//! and one server that lives as long as the test process. The SDK itself is a dependency of the tests and of
//! the example only, so that nothing built by default pays for it.

use std::{
    io::{BufRead, BufReader, Read},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use anyhow::Context;

/// How long the server may take until it says that it serves.
const READY: Duration = Duration::from_secs(60);

/// The end of what `meridian up` prints once it serves.
const SERVES: &str = "Ctrl-C drains and stops";

/// Waits for the end of its input in front of the server, and takes the server with it: a test process that
/// ends, however it ends, leaves no server behind.
const KEEPER: &str = r#""$@" & read -r _; kill -9 $!"#;

/// The server's binary: `MERIDIAN_BIN`, or what cargo built into the folder of this test.
pub fn binary() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("MERIDIAN_BIN") {
        return Ok(path.into());
    }
    let path = built("meridian")?;
    anyhow::ensure!(
        path.is_file(),
        "no server at {}; build it: cargo build -p meridian",
        path.display()
    );
    Ok(path)
}

/// The worker of the official SDK that drills run, built with the tests of this package.
pub fn worker() -> anyhow::Result<PathBuf> {
    let path = built("examples/meridian-sdk-worker")?;
    anyhow::ensure!(
        path.is_file(),
        "no worker at {}; build it: cargo build -p scenarios-sdk --examples",
        path.display()
    );
    Ok(path)
}

fn built(name: &str) -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe().context("find this test's own file")?;
    let folder = test
        .parent()
        .and_then(Path::parent)
        .context("find the folder cargo builds into")?;
    Ok(folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX)))
}

/// A development server of one cluster that keeps nothing.
pub struct Server {
    address: String,
    _keeper: Child,
    /// Its end ends the server.
    _lifeline: ChildStdin,
}

impl Server {
    /// Starts it on a free port and waits until it serves.
    pub fn start() -> anyhow::Result<Self> {
        let binary = binary()?;
        let port = TcpListener::bind(("127.0.0.1", 0))
            .and_then(|l| l.local_addr())
            .context("find a free port")?
            .port();
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "sh"])
            .arg(&binary)
            .args(["up", "--clusters", "1", "--ephemeral", "--port-base"])
            .arg(port.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}", binary.display()))?;
        let lifeline = keeper.stdin.take().context("hold the server's lifeline")?;
        let output = keeper.stdout.take().context("read the server's output")?;
        wait_serving(output)?;
        Ok(Self {
            address: format!("127.0.0.1:{port}"),
            _keeper: keeper,
            _lifeline: lifeline,
        })
    }

    /// `host:port` of its frontend.
    pub fn address(&self) -> &str {
        &self.address
    }
}

/// Reads until the server says that it serves; a thread does, since the output may never come.
fn wait_serving(output: impl Read + Send + 'static) -> anyhow::Result<()> {
    let (said, heard) = mpsc::channel();
    std::thread::spawn(move || {
        // Read to the end, so that the server never writes into a closed pipe.
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if line.ends_with(SERVES) {
                // Nobody listens any more when the wait was given up.
                let _ = said.send(());
            }
        }
    });
    heard
        .recv_timeout(READY)
        .with_context(|| format!("the server did not serve within {READY:?}; its errors are above"))
}
