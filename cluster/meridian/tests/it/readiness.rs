//! Whether a process lives and whether it can serve, as whoever starts and stops processes asks: over HTTP and by gRPC's
//! own health service.

use std::time::{Duration, Instant};

use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::{postgres::Postgres, process::run, roles::Node};

const WORKFLOWS: &str = "temporal.api.workflowservice.v1.WorkflowService";
/// How long a change may take to be seen, on a busy machine.
const SEEN: Duration = Duration::from_secs(60);

/// What a process says.
#[derive(Debug, PartialEq)]
struct Told {
    live: bool,
    ready: bool,
    /// Over gRPC, of the process.
    process: Option<ServingStatus>,
    /// Over gRPC, of the service that clients call.
    workflows: Option<ServingStatus>,
}

const READY: Told = Told {
    live: true,
    ready: true,
    process: Some(ServingStatus::Serving),
    workflows: Some(ServingStatus::Serving),
};
const LIVE: Told = Told {
    live: true,
    ready: false,
    process: Some(ServingStatus::Serving),
    workflows: Some(ServingStatus::NotServing),
};

async fn asked(channel: &Channel, service: &str) -> Option<ServingStatus> {
    let request = HealthCheckRequest {
        service: service.into(),
    };
    let answer = HealthClient::new(channel.clone())
        .check(request)
        .await
        .ok()?;
    Some(answer.into_inner().status())
}

/// Waits until the node says this, and this of why it is not ready.
async fn tells(node: &Node, expected: &Told, why: &str) {
    let at = format!("http://127.0.0.1:{}", node.grpc);
    let channel = Endpoint::from_shared(at)
        .expect("an address")
        .connect_lazy();
    let begun = Instant::now();
    loop {
        let (live, ready) = (
            node.get("/health/live").await,
            node.get("/health/ready").await,
        );
        let told = Told {
            live: live.starts_with("HTTP/1.1 200"),
            ready: ready.starts_with("HTTP/1.1 200"),
            process: asked(&channel, "").await,
            workflows: asked(&channel, WORKFLOWS).await,
        };
        if told == *expected && ready.contains(why) {
            return;
        }
        assert!(
            begun.elapsed() < SEEN,
            "{told:?} instead of {expected:?}: {ready}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frontend_without_owners_or_without_store_lives_and_is_not_ready() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let dir = tempfile::tempdir().expect("folder");
    let store = postgres.datastore();
    let first = crate::process::port();
    let mut frontend = Node::new("frontend", dir.path(), first, first, &store);
    let at = crate::process::port();
    let mut history = Node::new("history", dir.path(), at, first, &store);
    let (set_up, _, errors) = run(&["schema", "setup", "--config", &frontend.config]).await;
    assert!(set_up, "{errors}");
    frontend.start();
    tells(&frontend, &LIVE, "no history host is there to own shards").await;
    history.start();
    tells(&frontend, &READY, "ready").await;
    drop(postgres);
    tells(&frontend, &LIVE, "the store did not answer within 2 s").await;
    for node in [frontend, history] {
        node.process.expect("runs").kill().await;
    }
}
