//! A worker of the official Rust SDK for drills: a drill file names it as its worker command, and it plays
//! the same scripts as the worker built into drills. Everything it needs comes from flags, or from the
//! environment in which a drill starts it. It goes on, with a new connection, whatever happens to the server.

use std::{any::Any, path::PathBuf, time::Duration};

use clap::Parser;
use futures::{FutureExt, future::LocalBoxFuture};
use serde::{Deserialize, Serialize};
use temporalio_client::{
    Client, ClientOptions, ClientTlsOptions, Connection, ConnectionOptions, TlsOptions, Url,
};
use temporalio_common::{
    WorkflowDefinition, data_converters::PayloadConverter,
    protos::temporal::api::common::v1::Payloads,
};
use temporalio_macros::activities;
use temporalio_sdk::{
    ActivityOptions, Runtime, Worker, WorkerOptions, WorkflowContext, WorkflowContextView,
    WorkflowTermination,
    activities::{ActivityContext, ActivityError},
    workflow_interceptors::WorkflowOutputValue,
    workflows::join_all,
};
use temporalio_workflow::workflows::{
    WorkflowDefinitionDescriptor, WorkflowError, WorkflowImplementation,
};

/// The type of every workflow of a drill.
const WORKFLOW_TYPE: &str = "meridian.load.script";

/// Between two attempts to have a connection.
const PAUSE: Duration = Duration::from_millis(200);

/// Where to work.
#[derive(Parser)]
struct Arguments {
    /// `host:port` of a frontend.
    #[arg(long, env = "TEMPORAL_ADDRESS")]
    address: String,
    /// The namespace.
    #[arg(long, env = "TEMPORAL_NAMESPACE", default_value = "default")]
    namespace: String,
    /// The task queue.
    #[arg(long, env = "DRILL_TASK_QUEUE")]
    task_queue: String,
    /// CAs to trust, PEM; without one the connection is plain.
    #[arg(long, env = "TEMPORAL_TLS_SERVER_CA_CERT_PATH")]
    tls_ca: Option<PathBuf>,
    /// The worker's certificate, PEM.
    #[arg(long, env = "TEMPORAL_TLS_CLIENT_CERT_PATH")]
    tls_cert: Option<PathBuf>,
    /// Its key, PEM.
    #[arg(long, env = "TEMPORAL_TLS_CLIENT_KEY_PATH")]
    tls_key: Option<PathBuf>,
    /// The name expected in the server's certificate.
    #[arg(long, env = "TEMPORAL_TLS_SERVER_NAME")]
    tls_server_name: Option<String>,
}

/// A workflow's input: what it does, in order.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Script {
    steps: Vec<Step>,
}

/// One step of a script.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Step {
    /// This many activities, one after the other.
    Activities(u32),
    /// One timer of each length in milliseconds, all at once.
    Timers(Vec<u64>),
    /// Waits until this many signals have arrived since the start.
    Signals(u32),
    /// Waits until a signal of this name has arrived.
    Until(String),
}

struct Activities;

#[activities]
impl Activities {
    #[activity(name = "meridian.load.activity")]
    async fn act(
        _ctx: ActivityContext,
        _input: serde_json::Value,
    ) -> Result<String, ActivityError> {
        Ok("done".to_owned())
    }
}

/// Plays a script. Written out instead of derived, since drills give every signal a name of its own and
/// the macros know only names that were written down.
#[derive(Default)]
struct Player {
    signals: u32,
    names: Vec<String>,
}

/// The definition of [`Player`].
struct Play;

impl WorkflowDefinition for Play {
    type Input = Script;
    type Output = String;

    fn name(&self) -> &str {
        WORKFLOW_TYPE
    }
}

type Output = Box<dyn WorkflowOutputValue>;

impl WorkflowImplementation for Player {
    type Run = Play;

    const HAS_INIT: bool = false;
    const INIT_TAKES_INPUT: bool = false;

    fn name() -> &'static str {
        WORKFLOW_TYPE
    }

    fn definition() -> WorkflowDefinitionDescriptor {
        WorkflowDefinitionDescriptor {
            workflow_type: WORKFLOW_TYPE.to_owned(),
            has_init: false,
            init_takes_input: false,
            signals: Vec::new(),
            queries: Vec::new(),
            updates: Vec::new(),
        }
    }

    fn init(_: WorkflowContextView, _: Option<Script>) -> Self {
        Self::default()
    }

    fn run(
        ctx: WorkflowContext<Self>,
        input: Option<Script>,
    ) -> LocalBoxFuture<'static, Result<Output, WorkflowTermination>> {
        async move {
            for step in input.unwrap_or_default().steps {
                play(&ctx, step).await?;
            }
            Ok(Box::new("done".to_owned()) as Output)
        }
        .boxed_local()
    }

    fn decode_signal_input(
        name: &str,
        _: Payloads,
        _: &PayloadConverter,
    ) -> Result<Option<Box<dyn Any>>, WorkflowError> {
        // Every name is known; what comes along is of no interest.
        Ok(Some(Box::new(name.to_owned())))
    }

    fn dispatch_signal(
        ctx: WorkflowContext<Self>,
        name: &str,
        _: Box<dyn Any>,
    ) -> LocalBoxFuture<'static, Result<(), WorkflowError>> {
        let name = name.to_owned();
        async move {
            ctx.state_mut(|player| {
                player.signals += 1;
                player.names.push(name);
            });
            Ok(())
        }
        .boxed_local()
    }

    fn dispatch_query(
        &self,
        _: WorkflowContextView,
        name: &str,
        _: Box<dyn Any>,
    ) -> Result<Output, WorkflowError> {
        Err(unknown(name))
    }

    fn dispatch_update(
        _: WorkflowContext<Self>,
        name: &str,
        _: Box<dyn Any>,
    ) -> LocalBoxFuture<'static, Result<Output, WorkflowError>> {
        let refused = Err(unknown(name));
        async move { refused }.boxed_local()
    }

    fn validate_update(
        &self,
        _: WorkflowContextView,
        name: &str,
        _: Box<dyn Any>,
    ) -> Result<(), WorkflowError> {
        Err(unknown(name))
    }
}

fn unknown(name: &str) -> WorkflowError {
    WorkflowError::Execution(format!("{name} is not known here").into())
}

async fn play(ctx: &WorkflowContext<Player>, step: Step) -> Result<(), WorkflowTermination> {
    match step {
        Step::Activities(count) => {
            for _ in 0..count {
                // Short, so that an attempt lost with its worker is retried within a drill.
                let options = ActivityOptions::start_to_close_timeout(Duration::from_secs(10));
                ctx.execute_activity(Activities::act, serde_json::json!({}), options)
                    .await?;
            }
        }
        Step::Timers(millis) => {
            let timers = millis
                .iter()
                .map(|ms| ctx.timer(Duration::from_millis(*ms)));
            join_all(timers).await;
        }
        Step::Signals(count) => ctx.wait_condition(|p| p.signals >= count).await?,
        Step::Until(name) => ctx.wait_condition(|p| p.names.contains(&name)).await?,
    }
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let runtime = Runtime::from_current_tokio(Default::default())?;
    loop {
        if let Err(error) = work(&runtime, &arguments).await {
            eprintln!("worker: {error:#}");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Connects and works until that is not possible any more.
async fn work(runtime: &Runtime, arguments: &Arguments) -> anyhow::Result<()> {
    let scheme = if arguments.tls_ca.is_some() {
        "https"
    } else {
        "http"
    };
    let url: Url = format!("{scheme}://{}", arguments.address).parse()?;
    let options = ConnectionOptions::new(url)
        .identity(format!("meridian-sdk-worker@{}", std::process::id()))
        .maybe_tls_options(tls(arguments)?)
        .build();
    let connection = Connection::connect(options).await?;
    let options = ClientOptions::new(arguments.namespace.clone()).build();
    let client = Client::new(connection, options)?;
    let options = WorkerOptions::new(arguments.task_queue.clone())
        .register_workflow::<Player>()?
        .register_activities(Activities)
        .build();
    Ok(Worker::new(runtime, client, options)?.run().await?)
}

fn tls(arguments: &Arguments) -> anyhow::Result<Option<TlsOptions>> {
    let Some(ca) = &arguments.tls_ca else {
        return Ok(None);
    };
    let client = match (&arguments.tls_cert, &arguments.tls_key) {
        (Some(cert), Some(key)) => Some(
            ClientTlsOptions::builder()
                .client_cert(std::fs::read(cert)?)
                .client_private_key(std::fs::read(key)?)
                .build(),
        ),
        _ => None,
    };
    let name = arguments.tls_server_name.clone();
    let options = TlsOptions::builder()
        .server_root_ca_cert(std::fs::read(ca)?)
        .maybe_domain(name.filter(|n| !n.is_empty()))
        .maybe_client_tls_options(client)
        .build();
    Ok(Some(options))
}
