//! `up --processes`: each cluster in a process of its own. This one starts them, makes them known to each other, tells
//! their process ids, and says what happens to them; a cluster that is killed leaves the others alone, and is started
//! again by a command that is printed.

use std::{
    ffi::OsString,
    io,
    process::{ChildStdin, Command, ExitCode, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::Context;
use tokio::{net::TcpStream, sync::oneshot};

use super::{UpArgs, join, welcome};
use crate::{commands::stop_signal, config::NodeConfig};

/// How long a cluster may take to serve.
const SERVE_WITHIN: Duration = Duration::from_secs(60);
/// Between two looks whether it does.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long a cluster may take to stop.
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// A cluster's process.
struct Process {
    name: String,
    id: u32,
    /// Open for as long as the cluster is to run. The system closes it when this process dies, however it does.
    input: Option<ChildStdin>,
    ended: oneshot::Receiver<io::Result<ExitStatus>>,
}

/// Starts them and runs until Ctrl-C.
pub(super) async fn up(args: &UpArgs, configs: &[NodeConfig]) -> anyhow::Result<ExitCode> {
    let mut processes = Vec::new();
    for config in configs {
        processes.push(Process::start(args, &config.cluster.name)?);
    }
    for (process, config) in processes.iter_mut().zip(configs) {
        process.serves(config).await?;
    }
    let joined = join::join(args, configs).await?;
    println!("{}", ids(args, &processes));
    println!("{}", welcome::welcome(args, configs, &joined));
    tokio::select! {
        () = stop_signal() => {}
        () = follow(args, &mut processes) => {
            anyhow::bail!("every cluster ended");
        }
    }
    stop(processes).await
}

/// A line for each cluster: its process, how to kill it, how to start it again.
fn ids(args: &UpArgs, processes: &[Process]) -> String {
    let mut lines = String::new();
    for Process { name, id, .. } in processes {
        let again = again(args, name);
        lines.push_str(&format!(
            "{name:<9} process {id:<9} kill -9 {id}   again: {again}\n"
        ));
    }
    lines
}

/// Tells of every cluster that ends; returns when none is left.
async fn follow(args: &UpArgs, processes: &mut Vec<Process>) {
    while !processes.is_empty() {
        let ends = processes.iter_mut().map(|p| &mut p.ended);
        let (ended, at, _) = futures::future::select_all(ends).await;
        let process = processes.remove(at);
        eprintln!(
            "{} ended ({}); start it again: {}",
            process.name,
            how(ended),
            again(args, &process.name)
        );
    }
}

/// Closes what the processes wait on, and waits for them. Ctrl-C on a terminal reached them already.
async fn stop(mut processes: Vec<Process>) -> anyhow::Result<ExitCode> {
    for process in &mut processes {
        drop(process.input.take());
    }
    let mut good = true;
    for process in &mut processes {
        let ended = tokio::time::timeout(STOP_WITHIN, &mut process.ended).await;
        let ended = ended
            .with_context(|| format!("{} did not stop within {STOP_WITHIN:?}", process.name))?;
        if !matches!(&ended, Ok(Ok(status)) if status.success()) {
            eprintln!("{} ended ({})", process.name, how(ended));
            good = false;
        }
    }
    Ok(match good {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn how(ended: Result<io::Result<ExitStatus>, oneshot::error::RecvError>) -> String {
    match ended {
        Ok(Ok(status)) => status.to_string(),
        Ok(Err(error)) => format!("its end cannot be told: {error}"),
        Err(_) => "its end cannot be told".to_owned(),
    }
}

/// The command that starts one cluster again.
fn again(args: &UpArgs, name: &str) -> String {
    let mut words = vec!["meridian".to_owned()];
    for word in arguments(args, name) {
        words.push(word.to_string_lossy().into_owned());
    }
    words.join(" ")
}

/// The arguments of one cluster's process. Those at their defaults are left out, so that the command stays short.
fn arguments(args: &UpArgs, name: &str) -> Vec<OsString> {
    let mut all: Vec<OsString> = vec!["up".into(), "--only".into(), name.into()];
    let mut option = |flag: &str, value: OsString, default: &str| {
        if value != default {
            all.push(flag.into());
            all.push(value);
        }
    };
    option("--clusters", args.clusters.to_string().into(), "2");
    option("--data", args.data.clone().into(), "data");
    option("--port-base", args.port_base.to_string().into(), "7233");
    option("--bind", args.bind.to_string().into(), "127.0.0.1");
    option("--shards", args.shards.to_string().into(), "4");
    option("--log", args.log.clone().into(), "warn");
    if let Some(port) = args.metrics_port {
        option("--metrics-port", port.to_string().into(), "");
    }
    if args.no_tls {
        all.push("--no-tls".into());
    }
    if args.ephemeral {
        all.push("--ephemeral".into());
    }
    all
}

impl Process {
    fn start(args: &UpArgs, name: &str) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("find this program")?;
        let mut child = Command::new(program)
            .args(arguments(args, name))
            .arg("--until-input-ends")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("start the process of {name}"))?;
        let (id, input) = (child.id(), child.stdin.take());
        let (tell, ended) = oneshot::channel();
        // Ends with the child, which ends when its input does.
        std::thread::spawn(move || tell.send(child.wait()));
        Ok(Self {
            name: name.to_owned(),
            id,
            input,
            ended,
        })
    }

    /// Waits until the cluster serves; an error when it ends before.
    async fn serves(&mut self, config: &NodeConfig) -> anyhow::Result<()> {
        let address = join::address(config)?;
        let listens = async {
            while TcpStream::connect(address).await.is_err() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::select! {
            ended = &mut self.ended => {
                anyhow::bail!("{} ended before it served ({}); the lines above say why", self.name, how(ended))
            }
            waited = tokio::time::timeout(SERVE_WITHIN, listens) => waited
                .with_context(|| format!("{} does not serve within {SERVE_WITHIN:?}", self.name)),
        }
    }
}
