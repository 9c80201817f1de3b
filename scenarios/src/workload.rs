//! The load of a drill: clients that start and signal workflows, workers on both sides, and probes that
//! watch lag and roles. Every call goes to the oracle.

mod clients;
mod heartbeats;
mod interventions;
mod probe;
mod workers;

use std::{sync::Arc, time::Duration};

use scenarios_load::client::Client;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(crate) use clients::{FINISH, Traffic};
pub(crate) use probe::Markers;
pub(crate) use workers::Workers;

use crate::{
    definition::Drill,
    oracle::Oracle,
    timeline::Timeline,
    world::{NAMESPACE, World},
};

/// The task queue of everything a drill runs.
pub(crate) const QUEUE: &str = "drill";

/// A cluster as its users see it.
#[derive(Clone)]
pub(crate) struct Side {
    pub(crate) cluster: String,
    pub(crate) client: Client,
}

impl Side {
    /// The sides of a world, by cluster.
    pub(crate) fn all(world: &World) -> Vec<Self> {
        world
            .clusters
            .iter()
            .map(|c| Self {
                cluster: c.name.clone(),
                client: Client::new(c.connections(), NAMESPACE, QUEUE),
            })
            .collect()
    }
}

/// Everything that runs beside the steps.
pub(crate) struct Workload {
    traffic: Arc<Traffic>,
    loops: JoinSet<()>,
    workers: Workers,
    probes: JoinSet<()>,
    stop_probes: CancellationToken,
}

impl Workload {
    /// Starts workers, clients and probes.
    pub(crate) async fn start(
        drill: &Drill,
        world: &World,
        oracle: &Oracle,
        timeline: &Timeline,
    ) -> anyhow::Result<Self> {
        let sides = Side::all(world);
        let workers = Workers::start(drill, world, oracle)?;
        let traffic = Arc::new(Traffic::new(drill, sides.clone(), oracle.clone()));
        traffic.open_carts().await?;
        let loops = traffic.clone().run();
        let stop_probes = CancellationToken::new();
        let mut probes = JoinSet::new();
        for side in &sides {
            let watch = probe::watch_role(side.clone(), timeline.clone(), stop_probes.clone());
            probes.spawn(watch);
        }
        if sides.len() > 1 {
            let lag = probe::Lag::new(sides, oracle.clone(), timeline.clone());
            probes.spawn(lag.run(stop_probes.clone()));
        }
        Ok(Self {
            traffic,
            loops,
            workers,
            probes,
            stop_probes,
        })
    }

    /// Stops starting workflows, ends the long-lived ones and waits until clients have done what they
    /// began, at most `within`; whether they have.
    pub(crate) async fn wind_down(&mut self, within: Duration) -> bool {
        self.traffic.stop();
        let ended = async {
            while self.loops.join_next().await.is_some() {}
            self.traffic.close_carts().await;
        };
        let ended = tokio::time::timeout(within, ended).await.is_ok();
        self.stop_probes.cancel();
        while self.probes.join_next().await.is_some() {}
        ended
    }

    /// Ends the workers.
    pub(crate) async fn stop_workers(self) {
        self.workers.stop().await;
    }
}
