//! One process of the binary: started, waited for, killed, stopped; and free ports for it.

use std::{
    net::TcpListener,
    path::Path,
    process::{ExitStatus, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use proto_messages::temporal::api::workflowservice::v1::DescribeNamespaceRequest;
use scenarios_load::connect::{Connections, Target, timed};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, Command},
    task::JoinHandle,
};

/// The namespace of all tests.
pub(crate) const NAMESPACE: &str = "default";

/// How long a process may take until it serves, on a busy machine.
const READY: Duration = Duration::from_secs(30);

/// The end of what `meridian up` prints once it serves.
const SERVES: &str = "Ctrl-C drains and stops";

/// A running process; dropping it kills it.
pub(crate) struct Process {
    child: Child,
    /// Everything it said on its standard error.
    errors: JoinHandle<String>,
}

impl Process {
    /// Starts the binary.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_in(Path::new("."), &[], arguments)
    }

    /// Starts the binary in a folder, with variables of its own.
    pub(crate) fn start_in(dir: &Path, environment: &[(&str, String)], arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_meridian"))
            .args(arguments)
            .current_dir(dir)
            .env_remove("RUST_LOG")
            .envs(environment.iter().map(|(name, value)| (*name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("start the binary");
        let stderr = child.stderr.take();
        let errors = tokio::spawn(async move {
            let mut text = Vec::new();
            if let Some(mut stderr) = stderr {
                // What was read until the end came is kept.
                let _ = stderr.read_to_end(&mut text).await;
            }
            String::from_utf8_lossy(&text).into_owned()
        });
        Self { child, errors }
    }

    /// Starts `meridian up` on a data folder.
    pub(crate) fn begin_up(data: &Path, port: u16) -> Self {
        let port = port.to_string();
        let data = data.to_string_lossy();
        let arguments = ["up", "--clusters", "1", "--port-base", &port];
        Self::start(&[&arguments[..], &["--data", &data]].concat())
    }

    /// Starts the binary with these arguments, and waits until it says that it serves; with what it printed.
    pub(crate) async fn up_with(arguments: &[&str]) -> (Self, String) {
        let mut process = Self::start(arguments);
        let table = tokio::time::timeout(READY, process.printed(SERVES)).await;
        match table {
            Ok(Some(table)) => (process, table),
            _ => panic!(
                "`{}` does not serve: {}",
                arguments.join(" "),
                process.kill().await
            ),
        }
    }

    /// The same, and waits until it serves; with the table it printed.
    pub(crate) async fn up(data: &Path, port: u16) -> (Self, String) {
        let mut process = Self::begin_up(data, port);
        let table = tokio::time::timeout(READY, process.printed(SERVES)).await;
        match table {
            Ok(Some(table)) => (process, table),
            _ => panic!("`up` does not serve: {}", process.kill().await),
        }
    }

    /// Reads its output until a line ends so; `None` when it ended before.
    async fn printed(&mut self, last: &str) -> Option<String> {
        let mut lines = BufReader::new(self.child.stdout.take()?).lines();
        let mut text = String::new();
        while let Ok(Some(line)) = lines.next_line().await {
            text.push_str(&line);
            text.push('\n');
            if line.ends_with(last) {
                return Some(text);
            }
        }
        None
    }

    /// kill -9; what it had said on its standard error.
    pub(crate) async fn kill(mut self) -> String {
        self.child.kill().await.expect("kill");
        self.errors.await.expect("read errors")
    }

    /// Ctrl-C, and how it ended.
    pub(crate) async fn interrupt(mut self) -> (ExitStatus, String) {
        let id = self.child.id().expect("still running").to_string();
        let kill = format!("kill -INT {id}");
        let sent = Command::new("sh").args(["-c", &kill]).status().await;
        assert!(sent.is_ok_and(|s| s.success()), "the signal was not sent");
        let ended = tokio::time::timeout(READY, self.child.wait()).await;
        let status = ended.expect("ends in time").expect("wait");
        (status, self.errors.await.expect("read errors"))
    }

    /// Whether it still runs.
    pub(crate) fn running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

/// Runs the binary to its end: whether it succeeded, its output and its errors.
pub(crate) async fn run(arguments: &[&str]) -> (bool, String, String) {
    run_in(Path::new("."), arguments).await
}

/// The same in a folder.
pub(crate) async fn run_in(dir: &Path, arguments: &[&str]) -> (bool, String, String) {
    run_with(dir, &[], arguments).await
}

/// The same in a folder, with variables of its own.
pub(crate) async fn run_with(
    dir: &Path,
    environment: &[(&str, String)],
    arguments: &[&str],
) -> (bool, String, String) {
    let (code, output, errors) = code_of(dir, environment, arguments).await;
    (code == Some(0), output, errors)
}

/// The same with its exit code, if it had one.
pub(crate) async fn code_of(
    dir: &Path,
    environment: &[(&str, String)],
    arguments: &[&str],
) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_meridian"))
        .args(arguments)
        .current_dir(dir)
        .envs(environment.iter().map(|(name, value)| (*name, value)))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(READY, output).await;
    let output = output.expect("ends in time").expect("run the binary");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// A port nobody listens on, below those that outgoing connections get theirs from, so that a process has
/// it back after a restart.
pub(crate) fn port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 15_000 + (std::process::id() % 15_000) as u16;
    loop {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 15_000 + (first - 15_000 + n) % 16_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Connections to frontends, whether or not they are up now.
pub(crate) fn connections(ports: &[u16]) -> Connections {
    Connections::open(Target {
        addresses: ports.iter().map(|p| format!("127.0.0.1:{p}")).collect(),
        tls: None,
        connections: 2 * ports.len(),
    })
    .expect("open connections")
}

/// Waits until each frontend answers for the namespace.
pub(crate) async fn wait_for_namespace(ports: &[u16]) {
    for port in ports {
        let one = connections(&[*port]);
        let begun = Instant::now();
        loop {
            let request = DescribeNamespaceRequest {
                namespace: NAMESPACE.to_owned(),
                ..Default::default()
            };
            let request = timed(request, Duration::from_secs(2));
            match one.api().describe_namespace(request).await {
                Ok(_) => break,
                Err(status) => assert!(begun.elapsed() < READY, "port {port}: {status}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
