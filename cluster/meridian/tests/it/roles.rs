//! One cluster of seven processes on PostgreSQL: they find one another by gossip, and losing a history
//! process under load costs nothing that was acknowledged.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use proto_messages::temporal::api::workflowservice::v1::RegisterNamespaceRequest;
use scenarios_load::{
    client::Client,
    connect::timed,
    worker::{Worker, WorkerOptions},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    ledger::{Ledger, Traffic},
    postgres::Postgres,
    process::{NAMESPACE, Process, connections, port, run, wait_for_namespace},
};

const SHARDS: u32 = 8;

/// How long shards may take to move.
const MOVED: Duration = Duration::from_secs(20);

/// One process of the cluster, running or not.
pub(crate) struct Node {
    service: &'static str,
    pub(crate) config: String,
    pub(crate) grpc: u16,
    pub(crate) metrics: u16,
    pub(crate) process: Option<Process>,
}

impl Node {
    pub(crate) fn new(
        service: &'static str,
        dir: &Path,
        grpc: u16,
        first: u16,
        store: &Value,
    ) -> Self {
        let metrics = port();
        let config = dir.join(format!("{service}-{grpc}.yaml"));
        let document = json!({
            "log": { "level": "warn" },
            "persistence": {
                "numHistoryShards": SHARDS,
                "defaultStore": "default",
                "datastores": { "default": { "sql": store } },
            },
            "global": {
                "membership": { "broadcastAddress": "127.0.0.1" },
                "metrics": { "prometheus": { "listenAddress": format!("127.0.0.1:{metrics}") } },
            },
            "services": { service: { "rpc": {
                "grpcPort": grpc,
                "membershipPort": port(),
                "bindOnIP": "127.0.0.1",
            }}},
            "clusterMetadata": {
                "currentClusterName": "west",
                "clusterInformation": { "west": {
                    "enabled": true,
                    "initialFailoverVersion": 1,
                    "rpcAddress": format!("127.0.0.1:{first}"),
                }},
            },
        });
        // JSON is YAML.
        std::fs::write(&config, document.to_string()).expect("write");
        Self {
            service,
            config: config.to_string_lossy().into_owned(),
            grpc,
            metrics,
            process: None,
        }
    }

    pub(crate) fn start(&mut self) {
        let arguments = [
            "server",
            "--config",
            &self.config,
            "--services",
            self.service,
        ];
        self.process = Some(Process::start(&arguments));
    }

    /// What the metrics port answers, headers and all; nothing when it does not.
    pub(crate) async fn get(&self, path: &str) -> String {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let read = async {
            let mut stream = TcpStream::connect(("127.0.0.1", self.metrics)).await?;
            stream.write_all(request.as_bytes()).await?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await?;
            Ok::<_, std::io::Error>(text)
        };
        read.await.unwrap_or_default()
    }

    /// How many shards it says it owns; none when it does not answer.
    async fn shards(&self) -> u32 {
        let text = self.get("/metrics").await;
        let line = text.lines().find(|l| l.starts_with("numshards_gauge"));
        line.and_then(|l| l.rsplit(' ').next()?.parse().ok())
            .unwrap_or_default()
    }
}

/// Waits until the shards of the history processes are as wanted.
async fn shards_settle(history: &[&Node], wanted: impl Fn(&[u32]) -> bool, what: &str) {
    let begun = Instant::now();
    loop {
        let mut owned = Vec::new();
        for node in history {
            owned.push(node.shards().await);
        }
        if wanted(&owned) {
            return;
        }
        assert!(
            begun.elapsed() < MOVED,
            "{what}: shards are owned so: {owned:?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn register_namespace(frontend: u16) {
    let request = RegisterNamespaceRequest {
        namespace: NAMESPACE.to_owned(),
        workflow_execution_retention_period: Some(prost_types::Duration {
            seconds: 86_400,
            nanos: 0,
        }),
        ..Default::default()
    };
    let one = connections(&[frontend]);
    let begun = Instant::now();
    loop {
        let request = timed(request.clone(), Duration::from_secs(5));
        match one.api().register_namespace(request).await {
            Ok(_) => return,
            Err(status) if status.code() == tonic::Code::AlreadyExists => return,
            Err(status) => assert!(begun.elapsed() < Duration::from_secs(30), "{status}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until so many more orders were started than at the call.
async fn more_orders(traffic: &Traffic, more: u64) {
    let target = traffic.orders() + more;
    let begun = Instant::now();
    while traffic.orders() < target {
        assert!(
            begun.elapsed() < MOVED,
            "orders stand still at {}",
            traffic.orders()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_history_process_dies_and_returns_under_load() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let dir = tempfile::tempdir().expect("folder");
    let store = postgres.datastore();
    let frontends = [port(), port()];
    let services = [
        "history", "history", "matching", "matching", "worker", "frontend", "frontend",
    ];
    let mut rest = frontends.into_iter();
    let mut nodes = Vec::new();
    for service in services {
        let grpc = match service {
            "frontend" => rest.next().expect("two frontends"),
            _ => port(),
        };
        nodes.push(Node::new(service, dir.path(), grpc, frontends[0], &store));
    }
    let (set_up, _, errors) = run(&["schema", "setup", "--config", &nodes[0].config]).await;
    assert!(set_up, "{errors}");
    for node in &mut nodes {
        node.start();
    }
    register_namespace(frontends[0]).await;
    wait_for_namespace(&frontends).await;
    let both = |owned: &[u32]| owned.iter().sum::<u32>() == SHARDS && !owned.contains(&0);
    shards_settle(&[&nodes[0], &nodes[1]], both, "at first").await;

    let ledger = Arc::new(Ledger::default());
    let client = Client::new(connections(&frontends), NAMESPACE, "queue");
    let options = WorkerOptions::new(NAMESPACE, "queue", "worker");
    let worker = Worker::start(connections(&frontends), options, ledger.clone());
    let traffic = Traffic::new(client.clone(), ledger.clone());
    let mut clients = traffic.run(6);
    more_orders(&traffic, 40).await;

    let dead = nodes[0].process.take().expect("runs");
    let killed = Instant::now();
    dead.kill().await;
    shards_settle(&[&nodes[1]], |owned| owned == [SHARDS], "after the kill").await;
    let moved = killed.elapsed();
    more_orders(&traffic, 40).await;

    nodes[0].start();
    shards_settle(&[&nodes[0], &nodes[1]], both, "after the return").await;
    more_orders(&traffic, 40).await;
    eprintln!("shards moved within {moved:?}: {}", ledger.counts());

    traffic.stop();
    while let Some(client) = clients.join_next().await {
        client.expect("a client was refused");
    }
    ledger.judge(&client, Duration::from_secs(30)).await;
    // Callers before callees, as a careful operator stops them; with polls open, that have to be let go.
    for node in nodes.iter_mut().rev() {
        let process = node.process.take().expect("runs");
        let (status, errors) = process.interrupt().await;
        assert!(
            status.success(),
            "{} {}: {status}: {errors}",
            node.service,
            node.grpc
        );
    }
    worker.stop().await;
}
