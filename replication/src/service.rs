//! The services of a history host for replication. [`ReplicationHost`] implements two gRPC services, to be
//! mounted on the history port beside the history service: the cluster-internal apply service, and the part
//! of the admin service that is bound to a shard, to which frontends pass on what peers and tools call.
//!
//! ```text
//! let host = ReplicationHost::new(deps);
//! client.set_local(host.clone(), host.clone());              // ReplicationClient of the same process
//! server.add_service(ReplicationApplyServiceServer::from_arc(host.clone()))
//!       .add_service(AdminServiceServer::from_arc(host));    // on the history port, not the frontend's
//! ```

use std::{sync::Arc, time::Duration};

use cluster_runtime::{Metrics, Settings, SharedClock, TaskKind, Tasks};
use cluster_shard::{Shard, Shards};
use namespaces::{Clusters, Namespace, Registry};
use proto_ids::{NamespaceName, RunKey, ShardId, Timestamp};
use proto_messages::temporal::api::common::v1::WorkflowExecution;
use tonic::Status;

use crate::{
    apply::{Applier, ApplyDeps, status},
    dead_letters::DeadLetters,
    metrics::{Sending, Sent},
    namespaces::Refresher,
    remotes::Remotes,
    sender::{Senders, UnsentRows},
};

mod admin;
mod aside;
mod compare;
mod internal;
mod peer;
mod raw_history;
mod runs;
mod standing;

/// How often the standing of other clusters is counted.
const COUNT_EVERY: Duration = Duration::from_secs(5);

/// The dependencies of the services.
#[derive(Clone)]
pub struct HostDeps {
    /// The shards of this process.
    pub shards: Shards,
    /// Namespaces.
    pub registry: Registry,
    /// The cluster directory.
    pub clusters: Clusters,
    /// Clients of remote clusters.
    pub remotes: Remotes,
    /// Fetches namespaces that are not known or old.
    pub refresher: Refresher,
    /// Where rows go that cannot be sent.
    pub dead_letters: DeadLetters,
    /// The time.
    pub clock: SharedClock,
    /// Live settings.
    pub settings: Settings,
    /// Where metrics are registered.
    pub metrics: Metrics,
    /// The group of the streams.
    pub tasks: Tasks,
    /// This process, as the tools name it.
    pub address: String,
}

/// Replication's services of a history host. Always in an `Arc`.
pub struct ReplicationHost {
    deps: HostDeps,
    applier: Applier,
    senders: Senders,
    aside: UnsentRows,
    stores: peer::Stores,
}

impl ReplicationHost {
    /// The services over the shards of this process.
    pub fn new(deps: HostDeps) -> Arc<Self> {
        let applier = Applier::new(ApplyDeps {
            shards: deps.shards.clone(),
            registry: deps.registry.clone(),
            clusters: deps.clusters.clone(),
            remotes: deps.remotes.clone(),
            refresher: deps.refresher.clone(),
            clock: deps.clock.clone(),
        });
        let senders = Senders::new(
            deps.clock.clone(),
            deps.settings.clone(),
            deps.clusters.clone(),
            &deps.metrics,
            &deps.tasks,
        );
        let own = deps.clusters.current_name();
        let aside = UnsentRows::new(deps.dead_letters.clone(), own, deps.clock.clone());
        let tasks = deps.tasks.clone();
        tasks.count_restarts(&deps.metrics);
        let meters = Sent::new(&deps.metrics);
        let host = Arc::new(Self {
            deps,
            applier,
            senders,
            aside,
            stores: peer::Stores::default(),
        });
        let counted = host.clone();
        tasks.spawn_restarting(TaskKind::Background, "replication-standing", move || {
            let (counted, meters) = (counted.clone(), meters.clone());
            async move {
                loop {
                    tokio::time::sleep(COUNT_EVERY).await;
                    standing::count(&counted, &meters).await;
                }
            }
        });
        let (tried, meters) = (host.clone(), Sending::new(&host.deps.metrics));
        tasks.spawn_restarting(TaskKind::Background, "replication-set-aside", move || {
            aside::keep_trying(tried.clone(), meters.clone())
        });
        host
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.deps.clock.now_nanos())
    }

    async fn shard(&self, id: i32) -> Result<Shard, Status> {
        let count = self.deps.clusters.current().shard_count;
        if !(1..=count).contains(&id) {
            return Err(cluster_rpc::status::invalid_argument(format!(
                "there is no shard {id}; shards are numbered from 1 to {count}"
            )));
        }
        self.deps
            .shards
            .shard(ShardId::new(id))
            .await
            .map_err(status::shard)
    }

    async fn shard_of(&self, key: &RunKey) -> Result<Shard, Status> {
        let found = self
            .deps
            .shards
            .for_workflow(&key.namespace_id, &key.workflow_id)
            .await;
        found.map_err(status::shard)
    }

    fn namespace_named(&self, name: &str) -> Result<Arc<Namespace>, Status> {
        self.deps
            .registry
            .by_name(&NamespaceName::new(name))
            .ok_or_else(|| cluster_rpc::status::namespace_not_found(name))
    }
}

/// The run a request names.
fn run_key(namespace_id: &str, execution: Option<&WorkflowExecution>) -> Result<RunKey, Status> {
    let execution =
        execution.ok_or_else(|| Status::invalid_argument("Execution is not set on request."))?;
    if execution.workflow_id.is_empty() {
        return Err(Status::invalid_argument(
            "WorkflowId is not set on request.",
        ));
    }
    Ok(RunKey::new(
        namespace_id,
        execution.workflow_id.as_str(),
        execution.run_id.as_str(),
    ))
}
