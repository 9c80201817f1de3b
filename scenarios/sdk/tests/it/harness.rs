//! A worker of the SDK beside a client that drives it, and the server both talk to.

use std::{sync::OnceLock, time::Duration};

use anyhow::Context;
use scenarios_sdk::Server;
use temporalio_client::{
    Client, ClientOptions, Connection, ConnectionOptions, Url, WorkflowStartOptions,
};
use temporalio_common::protos::temporal::api::{enums::v1::EventType, history::v1::HistoryEvent};
use temporalio_sdk::{Runtime, Worker, WorkerOptions};

use crate::workflows as w;

/// How long one test may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// One test's client and task queue.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) client: Client,
    pub(crate) queue: String,
}

impl Case {
    /// Options for starting a workflow; its id begins with what it is about.
    pub(crate) fn start(&self, what: &str) -> WorkflowStartOptions {
        WorkflowStartOptions::new(self.queue.clone(), self.id(what)).build()
    }

    /// An id nobody else uses.
    pub(crate) fn id(&self, what: &str) -> String {
        format!("{what}-{}", uuid::Uuid::new_v4())
    }
}

/// Runs `drive` with a worker beside it that knows all workflows of these tests.
pub(crate) async fn with_worker(
    what: &str,
    drive: impl AsyncFnOnce(Case) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let runtime = Runtime::from_current_tokio(Default::default())?;
    let client = connect().await?;
    let queue = format!("{what}-{}", uuid::Uuid::new_v4());
    let options = WorkerOptions::new(queue.clone())
        .register_workflow::<w::Greets>()?
        .register_workflow::<w::Retries>()?
        .register_workflow::<w::Timers>()?
        .register_workflow::<w::Basket>()?
        .register_workflow::<w::Parent>()?
        .register_workflow::<w::Child>()?
        .register_workflow::<w::Countdown>()?
        .register_workflow::<w::CleansUp>()?
        .register_workflow::<w::Local>()?
        .register_workflow::<w::FailsTwice>()?
        .register_activities(w::Activities)
        .build();
    let mut worker = Worker::new(&runtime, client.clone(), options)?;
    let stop = worker.shutdown_handle();
    let driver = async {
        let driven = tokio::time::timeout(PATIENCE, drive(Case { client, queue })).await;
        stop();
        driven.with_context(|| format!("{what} did not end within {PATIENCE:?}"))?
    };
    let (ran, driven) = tokio::join!(worker.run(), driver);
    driven?;
    ran.context("run the worker")
}

/// A client of the server that all tests share.
async fn connect() -> anyhow::Result<Client> {
    static SERVER: OnceLock<Result<Server, String>> = OnceLock::new();
    let server = SERVER
        .get_or_init(|| Server::start().map_err(|e| format!("{e:#}")))
        .as_ref()
        .map_err(|e| anyhow::anyhow!("{e}"))?;
    let url: Url = format!("http://{}", server.address()).parse()?;
    let connection = Connection::connect(ConnectionOptions::new(url).build()).await?;
    Ok(Client::new(
        connection,
        ClientOptions::new("default").build(),
    )?)
}

/// The types of a history's events, whose ids must have no gaps.
pub(crate) fn kinds(events: &[HistoryEvent]) -> Vec<EventType> {
    for (event, expected) in events.iter().zip(1..) {
        assert_eq!(event.event_id, expected, "event ids have gaps");
    }
    events.iter().map(HistoryEvent::event_type).collect()
}
