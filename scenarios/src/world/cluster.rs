//! One cluster of a drill: its processes, their files and ports, and how clients reach it.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context;
use proto_messages::temporal::api::workflowservice::v1::GetSystemInfoRequest;
use scenarios_load::connect::{Connections, Target, Tls, timed};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    certificates::Files,
    config::{self, ServicePorts},
    ports::Ports,
    process::Process,
    tables::Tables,
};
use crate::definition;

/// How long a cluster may take until its frontends answer.
const READY: Duration = Duration::from_secs(60);

/// How long a process may take to tell its metrics.
const METRICS_WITHIN: Duration = Duration::from_secs(5);

/// The file of a store that needs no server; others beside it begin with the same name.
const DATABASE: &str = "meridian.db";

/// The services a process runs when it runs all.
const SERVICES: [&str; 4] = ["frontend", "history", "matching", "worker"];

/// A cluster and its processes.
pub(crate) struct Cluster {
    pub(crate) name: String,
    pub(crate) processes: Vec<Process>,
    dir: PathBuf,
    frontend: SocketAddr,
    /// Where its first process tells its metrics.
    metrics: SocketAddr,
    connections: Connections,
}

/// The parameters of a cluster.
pub(super) struct Plan<'a> {
    pub(super) world: &'a definition::World,
    pub(super) dir: PathBuf,
    pub(super) name: &'a str,
    pub(super) index: usize,
    /// Its database on a server; a file of its own when absent.
    pub(super) database: Option<Value>,
    pub(super) tls: Option<Files>,
    /// The certificate of the drill's own clients.
    pub(super) client_tls: Option<Tls>,
    pub(super) ports: &'a mut Ports,
}

impl Cluster {
    /// Chooses ports and writes the files; nothing runs yet.
    pub(super) fn prepare(plan: Plan<'_>) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&plan.dir)
            .with_context(|| format!("create {}", plan.dir.display()))?;
        let store = plan.database.clone().unwrap_or_else(
            || json!({ "pluginName": "sqlite", "databaseName": plan.dir.join(DATABASE) }),
        );
        let live_settings = (!plan.world.settings.is_empty()).then(|| plan.dir.join("live.yaml"));
        if let Some(path) = &live_settings {
            std::fs::write(path, config::live_settings(&plan.world.settings))?;
        }
        let layouts: Vec<Vec<String>> = plan.world.processes.iter().map(|p| services(p)).collect();
        let mut ports_of = Vec::new();
        for layout in &layouts {
            let mut ports = Vec::new();
            for service in layout {
                ports.push(ServicePorts {
                    service: service.clone(),
                    grpc: plan.ports.take()?,
                    membership: plan.ports.take()?,
                });
            }
            ports_of.push(ports);
        }
        let frontends: Vec<SocketAddr> = ports_of
            .iter()
            .flatten()
            .filter(|p| p.service == "frontend")
            .map(|p| SocketAddr::from(([127, 0, 0, 1], p.grpc)))
            .collect();
        let frontend = *frontends
            .first()
            .with_context(|| format!("cluster {} has no frontend", plan.name))?;
        let mut processes = Vec::new();
        let mut metrics = Vec::new();
        for (n, ports) in ports_of.iter().enumerate() {
            let told_at = SocketAddr::from(([127, 0, 0, 1], plan.ports.take()?));
            metrics.push(told_at);
            let whole = ports.len() == SERVICES.len();
            let stem = if whole {
                format!("all-{n}")
            } else {
                format!("{}-{n}", ports[0].service)
            };
            let path = plan.dir.join(format!("{stem}.yaml"));
            let text = config::text(&config::Settings {
                cluster: plan.name,
                index: plan.index,
                shards: plan.world.shards,
                store: store.clone(),
                tls: plan.tls.as_ref(),
                services: ports,
                frontend,
                metrics: told_at,
                live_settings: live_settings.as_deref(),
            });
            std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
            let services = if whole {
                Vec::new()
            } else {
                ports.iter().map(|p| p.service.clone()).collect()
            };
            let log = plan.dir.join(format!("{stem}.log"));
            processes.push(Process::new(
                &format!("{} {stem}", plan.name),
                services,
                path,
                log,
            ));
        }
        let connections = Connections::open(Target {
            addresses: frontends.iter().map(SocketAddr::to_string).collect(),
            tls: plan.client_tls,
            connections: 2 * frontends.len(),
        })?;
        Ok(Self {
            name: plan.name.to_owned(),
            dir: plan.dir,
            processes,
            frontend,
            metrics: metrics
                .first()
                .copied()
                .context("a cluster has a process")?,
            connections,
        })
    }

    /// A frontend's address.
    pub(crate) fn frontend(&self) -> SocketAddr {
        self.frontend
    }

    /// The connections that clients, workers and observers of this cluster share.
    pub(crate) fn connections(&self) -> Connections {
        self.connections.clone()
    }

    /// Creates the schema in a database several processes share; an embedded one does it by itself.
    pub(super) async fn set_up_schema(&self, binary: &Path) -> anyhow::Result<()> {
        let first = self.processes.first().context("a cluster has a process")?;
        first.set_up_schema(binary).await
    }

    /// Starts every process that is not running.
    pub(crate) fn start(&mut self, binary: &Path) -> anyhow::Result<()> {
        for process in &mut self.processes {
            if !process.running() {
                process.start(binary)?;
            }
        }
        Ok(())
    }

    /// Waits until a frontend answers; an error when a process died instead.
    pub(crate) async fn wait_ready(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        let mut last = None;
        while begun.elapsed() < READY {
            if let Some(dead) = self.processes.iter_mut().find_map(|p| {
                let running = p.running();
                (!running).then_some(&*p)
            }) {
                anyhow::bail!(
                    "process {} ended while starting; {}",
                    dead.name,
                    dead.last_words()
                );
            }
            let asked = self
                .connections
                .api()
                .get_system_info(timed(GetSystemInfoRequest {}, Duration::from_secs(2)))
                .await;
            match asked {
                Ok(_) => return Ok(()),
                Err(status) => last = Some(status),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::bail!(
            "cluster {} did not answer within {READY:?}: {last:?}; {}",
            self.name,
            self.processes[0].last_words()
        )
    }

    /// kill -9 of some or all processes; the names of those killed.
    pub(crate) async fn kill(
        &mut self,
        service: Option<&str>,
        count: Option<usize>,
    ) -> Vec<String> {
        let mut killed = Vec::new();
        for process in &mut self.processes {
            let meant = service.is_none_or(|s| process.serves(s)) && process.running();
            if meant && count.is_none_or(|n| killed.len() < n) {
                process.kill().await;
                killed.push(process.name.clone());
            }
        }
        killed
    }

    /// The running processes.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.processes.iter().filter_map(Process::pid).collect()
    }

    /// How many warnings its processes have logged.
    pub(crate) fn warnings(&self) -> usize {
        self.processes.iter().map(Process::warnings).sum()
    }

    /// Deletes what the cluster stored in files of its own. Its processes do not run.
    pub(crate) fn delete_data(&self) -> anyhow::Result<()> {
        let entries =
            std::fs::read_dir(&self.dir).with_context(|| format!("list {}", self.dir.display()))?;
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with(DATABASE) {
                std::fs::remove_file(&path)
                    .with_context(|| format!("delete {}", path.display()))?;
            }
        }
        Ok(())
    }

    /// The tables of an embedded store: those of lists, or all others.
    pub(crate) async fn tables(&self, of_lists: bool) -> anyhow::Result<Tables> {
        let file = match of_lists {
            true => format!("{DATABASE}-visibility"),
            false => DATABASE.to_owned(),
        };
        Tables::open(&self.dir.join(file)).await
    }

    /// What the first process counts, in Prometheus' form.
    pub(crate) async fn metrics(&self) -> anyhow::Result<String> {
        let asked = async {
            let mut stream = TcpStream::connect(self.metrics).await?;
            let request = "GET /metrics HTTP/1.1\r\nHost: drill\r\nConnection: close\r\n\r\n";
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            std::io::Result::Ok(answer)
        };
        let answer = tokio::time::timeout(METRICS_WITHIN, asked).await;
        answer
            .context("wait for metrics")?
            .with_context(|| format!("read the metrics of {}", self.name))
    }

    /// The lines of all its processes' logs that hold a text.
    pub(crate) fn logged(&self, text: &str) -> Vec<String> {
        let logs = self.processes.iter().map(Process::log);
        let read = logs.filter_map(|path| std::fs::read_to_string(path).ok());
        let lines = |log: String| {
            let found = log.lines().filter(|line| line.contains(text));
            found.map(str::to_owned).collect::<Vec<_>>()
        };
        read.flat_map(lines).collect()
    }

    /// Sends a signal to all processes.
    pub(crate) async fn signal(&self, name: &str) {
        for process in &self.processes {
            process.signal(name).await;
        }
    }

    /// Drains all processes.
    pub(crate) async fn stop(&mut self) {
        for process in &mut self.processes {
            process.signal("CONT").await;
            process.stop().await;
        }
    }
}

fn services(process: &str) -> Vec<String> {
    match process {
        "all" => SERVICES.map(str::to_owned).to_vec(),
        some => some.split('+').map(|s| s.trim().to_owned()).collect(),
    }
}
