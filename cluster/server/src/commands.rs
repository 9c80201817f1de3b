//! `meridian server` and `meridian schema`: one node for production, and its database.

use std::{collections::BTreeSet, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context;
use clap::{Args, Subcommand};
use cluster_membership::Role;
use cluster_runtime::{
    SystemClock,
    telemetry::{LogFormat, init_logs},
};
use proto_ids::Timestamp;
use schema_store::Store;

use crate::{
    Node,
    config::{self, DatastoreConfig, NodeConfig},
    dynamic,
    node::{own_cluster, store_options},
    tls,
};

/// A process that was seen within this may still run.
const MEMBERS_LATELY: Duration = Duration::from_secs(60);

/// One node.
#[derive(Clone, Debug, Args)]
pub struct ServerArgs {
    /// The configuration file (YAML, with Temporal's keys).
    #[arg(long, short)]
    pub config: PathBuf,
    /// Services this process runs, separated by commas: frontend, history, matching, worker. All by default.
    #[arg(long, value_delimiter = ',')]
    pub services: Vec<Role>,
    /// Only check the configuration.
    #[arg(long)]
    pub check: bool,
}

/// The database's schema.
#[derive(Clone, Debug, Subcommand)]
pub enum SchemaCommand {
    /// Create the schema in an empty database.
    Setup(SchemaArgs),
    /// Bring the schema to the newest version.
    Upgrade(SchemaArgs),
    /// Tell the schema's version.
    Status(SchemaArgs),
    /// Give the database to the cluster that the configuration names, after a start under a wrong name. Stop every
    /// process of the cluster first.
    Adopt(SchemaArgs),
    /// Say that the database is a copy that was put back: the cluster gets a new id, and holds its namespaces that
    /// other clusters have, too. An SQLite file that was put back without its mark says so itself. Stop every process
    /// of the cluster first.
    Restored(SchemaArgs),
}

/// Names the database by the configuration of its cluster.
#[derive(Clone, Debug, Args)]
pub struct SchemaArgs {
    /// The configuration file.
    #[arg(long, short)]
    pub config: PathBuf,
}

/// Runs one node until a signal or a failure.
pub async fn server(args: ServerArgs) -> anyhow::Result<ExitCode> {
    let config = config::load(&args.config)?;
    let roles: BTreeSet<Role> = match args.services.is_empty() {
        true => Role::ALL.into_iter().collect(),
        false => args.services.iter().copied().collect(),
    };
    config.check_ports(&roles)?;
    if args.check {
        return check(&args, &config).await;
    }
    logs(&config)?;
    for notice in &config.notices {
        tracing::info!(file = %args.config.display(), "{notice}");
    }
    let node = Node::start(config, &roles).await?;
    let broken = tokio::select! {
        () = stop_signal() => None,
        failure = node.failed() => Some(failure),
    };
    node.stop().await.context("stop the node")?;
    match broken {
        Some(failure) => Err(failure.context("the node cannot go on")),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// Says what a start would say before it reaches for the database or opens a port.
async fn check(args: &ServerArgs, config: &NodeConfig) -> anyhow::Result<ExitCode> {
    tls::check(&config.tls).await?;
    if let DatastoreConfig::Postgres(postgres) = &config.datastore {
        let certificate = postgres.tls.certificate.as_ref();
        let files = certificate.into_iter().flat_map(|(file, key)| [file, key]);
        for file in files.chain(&postgres.tls.root_ca) {
            std::fs::File::open(file)
                .with_context(|| format!("read {} for TLS with the database", file.display()))?;
        }
    }
    let mut notes = config.notices.clone();
    if let Some(dynamic) = &config.dynamic {
        notes.extend(dynamic::check(dynamic)?);
    }
    for note in notes {
        println!("note: {note}");
    }
    println!(
        "{}: good, cluster {} with {} shards",
        args.config.display(),
        config.cluster.name,
        config.cluster.shards
    );
    Ok(ExitCode::SUCCESS)
}

/// Works on the schema.
pub async fn schema(command: SchemaCommand) -> anyhow::Result<ExitCode> {
    let (SchemaCommand::Setup(args)
    | SchemaCommand::Upgrade(args)
    | SchemaCommand::Status(args)
    | SchemaCommand::Adopt(args)
    | SchemaCommand::Restored(args)) = &command;
    let config = config::load(&args.config)?;
    let (options, _) = store_options(&config.datastore);
    let statuses = match command {
        SchemaCommand::Setup(_) => schema_sql::schema_setup(&options)
            .await
            .context("set up the schema")?,
        SchemaCommand::Upgrade(_) => schema_sql::schema_upgrade(&options)
            .await
            .context("upgrade the schema")?,
        SchemaCommand::Adopt(_) => return adopt(&config).await,
        SchemaCommand::Restored(_) => return restored(&config).await,
        SchemaCommand::Status(_) => schema_sql::schema_status(&options)
            .await
            .context("look at the schema")?,
    };
    for status in statuses {
        println!(
            "{}: version {} of {}",
            status.database, status.version, status.latest
        );
    }
    Ok(ExitCode::SUCCESS)
}

async fn restored(config: &NodeConfig) -> anyhow::Result<ExitCode> {
    let store = open_alone(config).await?;
    let done = namespaces::clusters::restored::settle(&own_cluster(config), &store)
        .await
        .context("draw the conclusions from a database that was put back")?;
    println!(
        "cluster {} has the id {}",
        config.cluster.name, done.cluster_id
    );
    for namespace in done.held {
        println!(
            "namespace {namespace} is held until a failover: `meridian namespace failover --namespace {namespace} \
             --to CLUSTER`, asked of another cluster of the namespace"
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// The store, which no process of the cluster uses.
async fn open_alone(config: &NodeConfig) -> anyhow::Result<Store> {
    let (options, name) = store_options(&config.datastore);
    let store = schema_sql::open(options)
        .await
        .with_context(|| format!("open the {name} store"))?;
    let now = SystemClock::shared().now_nanos();
    let lately = Timestamp::from_nanos(now).minus(MEMBERS_LATELY);
    let living = store
        .cluster
        .member_list(lately)
        .await
        .context("read the members")?;
    anyhow::ensure!(
        living.is_empty(),
        "{} processes of the cluster were here within the last minute: stop them all, then try again",
        living.len()
    );
    Ok(store)
}

async fn adopt(config: &NodeConfig) -> anyhow::Result<ExitCode> {
    let store = open_alone(config).await?;
    let done = namespaces::clusters::adopt::adopt(&own_cluster(config), &store)
        .await
        .context("give the database to the cluster")?;
    match done.is_empty() {
        true => println!(
            "the database belongs to cluster {} already",
            config.cluster.name
        ),
        false => done.iter().for_each(|line| println!("{line}")),
    }
    Ok(ExitCode::SUCCESS)
}

fn logs(config: &NodeConfig) -> anyhow::Result<()> {
    let filter = std::env::var("RUST_LOG")
        .ok()
        .or_else(|| config.log_filter.clone());
    let format = if config.log_json {
        LogFormat::Json
    } else {
        LogFormat::Pretty
    };
    init_logs(format, filter.as_deref().unwrap_or("info")).context("set up logging")
}

/// Returns at Ctrl-C or at SIGTERM.
pub(crate) async fn stop_signal() {
    let mut terminate =
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(signal) => signal,
            Err(error) => {
                tracing::warn!(%error, "SIGTERM cannot be caught");
                // Ctrl-C still works.
                let _ = tokio::signal::ctrl_c().await;
                return;
            }
        };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
