//! The clusters of a drill as real processes of this same binary, with everything they need: ports,
//! configuration files, certificates, a database server where asked for, and between clusters links
//! that can be cut.

mod certificates;
mod cluster;
mod config;
mod ports;
mod postgres;
mod process;
mod proxy;
mod setup;
mod tables;

use std::path::{Path, PathBuf};

use anyhow::Context;

pub(crate) use certificates::Certificates;
pub(crate) use cluster::Cluster;
pub(crate) use proxy::{Link, Mode};
pub(crate) use setup::{describe, fail_over};
pub(crate) use tables::{Place, Value};

use crate::definition::{Drill, Store};
use postgres::Postgres;

/// The namespace every drill works in.
pub(crate) const NAMESPACE: &str = "drill";

/// A drill that cannot run here at all, which is not the same as one that fails.
#[derive(Debug)]
pub(crate) struct Skipped(pub(crate) String);

impl std::fmt::Display for Skipped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "skipped: {}", self.0)
    }
}

impl std::error::Error for Skipped {}

/// Everything that runs for a drill. Dropping it ends all processes.
pub(crate) struct World {
    pub(crate) binary: PathBuf,
    pub(crate) clusters: Vec<Cluster>,
    pub(crate) links: Vec<Link>,
    pub(crate) certificates: Option<Certificates>,
    /// What a step spoilt, for the one that mends it.
    pub(crate) poisoned: Option<Poisoned>,
    postgres: Option<Postgres>,
}

/// Rows as they were before they were spoilt.
pub(crate) struct Poisoned {
    /// Tasks of the source.
    pub(crate) tasks: Vec<Value>,
    /// Runs of the source.
    pub(crate) source_runs: Vec<Value>,
    /// Runs of the target.
    pub(crate) target_runs: Vec<Value>,
    /// Workflows that nobody works on.
    pub(crate) ended: Vec<String>,
}

impl World {
    /// Prepares everything and starts all processes.
    pub(crate) async fn start(drill: &Drill, dir: &Path) -> anyhow::Result<Self> {
        let binary = binary()?;
        let postgres = match drill.world.store {
            Store::Postgres => Some(Postgres::start(dir).await?),
            Store::Sqlite => None,
        };
        let certificates = match drill.world.tls {
            true => Some(Certificates::new(&dir.join("tls"), &drill.world.clusters)?),
            false => None,
        };
        let mut ports = ports::Ports::new();
        let mut clusters = Vec::new();
        for (index, name) in drill.world.clusters.iter().enumerate() {
            let database = match &postgres {
                Some(postgres) => Some(postgres.database(&format!("meridian_{name}")).await?),
                None => None,
            };
            clusters.push(Cluster::prepare(cluster::Plan {
                world: &drill.world,
                dir: dir.join(name),
                name,
                index,
                database,
                tls: certificates.as_ref().map(|c| c.files(name)),
                client_tls: certificates.as_ref().map(Certificates::client),
                ports: &mut ports,
            })?);
        }
        let mut links = Vec::new();
        for from in &clusters {
            for to in clusters.iter().filter(|c| c.name != from.name) {
                links.push(Link::open(&from.name, &to.name, to.frontend()).await?);
            }
        }
        let mut world = Self {
            binary,
            clusters,
            links,
            certificates,
            poisoned: None,
            postgres,
        };
        for cluster in &mut world.clusters {
            if drill.world.store == Store::Postgres {
                cluster.set_up_schema(&world.binary).await?;
            }
            cluster.start(&world.binary)?;
        }
        for cluster in &mut world.clusters {
            cluster.wait_ready().await?;
        }
        Ok(world)
    }

    /// A cluster by its name.
    pub(crate) fn cluster(&self, name: &str) -> anyhow::Result<&Cluster> {
        self.clusters
            .iter()
            .find(|c| c.name == name)
            .with_context(|| format!("there is no cluster {name:?}"))
    }

    /// A cluster by its name, to change it.
    pub(crate) fn cluster_mut(&mut self, name: &str) -> anyhow::Result<&mut Cluster> {
        self.clusters
            .iter_mut()
            .find(|c| c.name == name)
            .with_context(|| format!("there is no cluster {name:?}"))
    }

    /// The database server, where the drill has one.
    pub(crate) fn postgres(&mut self) -> anyhow::Result<&mut Postgres> {
        let missing = "this step needs a store of its own process: store = \"postgres\"";
        self.postgres.as_mut().context(missing)
    }

    /// Sets all links.
    pub(crate) fn links(&self, mode: Mode) {
        self.links.iter().for_each(|link| link.set(mode));
    }

    /// Ends all processes in order, giving them time to drain.
    pub(crate) async fn stop(mut self) {
        for cluster in &mut self.clusters {
            cluster.stop().await;
        }
    }
}

/// The binary that is drilled: the running one, or the one the environment names.
fn binary() -> anyhow::Result<PathBuf> {
    match std::env::var_os("MERIDIAN_BIN") {
        Some(path) => Ok(PathBuf::from(path)),
        None => std::env::current_exe().context("find this program's file"),
    }
}
