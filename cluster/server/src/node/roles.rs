//! The roles: what each builds and mounts. Clients are made first, since the services call one another in a
//! circle; each learns of the service in this process when that is built.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use cluster_frontend::{
    About, Delegates, ForwardingPolicy, Frontend, FrontendDeps, Readiness, RemoteFrontends,
};
use cluster_history::{ExecutorDeps, HistoryDeps, HistoryService};
use cluster_matching::{MatchingDeps, MatchingService};
use cluster_membership::{Membership, Role};
use cluster_rpc::{
    ChannelOptions, Channels, Gate, HistoryClient, INTERNAL_MESSAGE_BYTES_MAX, MatchingClient,
    ReplicationClient, serve::PUBLIC_MESSAGE_BYTES_MAX, tuned,
};
use cluster_runtime::task::Tasks;
use cluster_shard::{Shards, ShardsDeps, ShardsOptions};
use proto_services::{
    meridian::{
        history::v1::history_service_server::HistoryServiceServer,
        matching::v1::matching_service_server::MatchingServiceServer,
        replication::v1::{
            replication_apply_service_server::ReplicationApplyServiceServer,
            replication_extension_service_server::ReplicationExtensionServiceServer,
        },
    },
    temporal::{
        api::{
            operatorservice::v1::operator_service_server::OperatorServiceServer,
            workflowservice::v1::workflow_service_server::WorkflowServiceServer,
        },
        server::api::adminservice::v1::admin_service_server::AdminServiceServer,
    },
};
use replication::{
    dead_letters::DeadLetters,
    edge::{Extension, ExtensionDeps, LetterBox, LetterBoxDeps},
    namespaces::{NamespacePullerDeps, Refresher},
    puller::{PullerDeps, Pullers},
    service::{HostDeps, ReplicationHost},
    switchover::Switchovers,
};
use tonic::service::RoutesBuilder;

use crate::{
    config::{DatastoreConfig, NodeConfig, RedirectionPolicy},
    node::context::NodeContext,
};

/// Roles that run.
pub(super) struct Running {
    pub(super) routes: BTreeMap<Role, RoutesBuilder>,
    pub(super) readiness: Readiness,
    pub(super) shards: Option<Shards>,
    pub(super) gate: Option<Arc<dyn Gate>>,
}

/// Handles on the internal services, wherever they are.
#[derive(Clone)]
struct Clients {
    history: HistoryClient,
    matching: MatchingClient,
    replication: ReplicationClient,
}

pub(super) async fn run(
    config: &NodeConfig,
    roles: &BTreeSet<Role>,
    context: &NodeContext,
    membership: &Membership,
    tasks: &Tasks,
) -> anyhow::Result<Running> {
    let clients = clients(config, context, membership);
    let mut running = Running {
        routes: BTreeMap::new(),
        readiness: Readiness::new(),
        shards: None,
        gate: None,
    };
    if roles.contains(&Role::Matching) {
        let service = MatchingService::new(MatchingDeps {
            store: context.store.task_queue.clone(),
            history: clients.history.clone(),
            membership: membership.clone(),
            overload: context.overload.clone(),
            clock: context.clock.clone(),
            registry: context.registry.clone(),
            metrics: context.metrics.clone(),
            tasks: tasks.child("matching"),
        });
        clients.matching.set_local(service.clone());
        let mut mount = RoutesBuilder::default();
        mount.add_service(tuned!(
            MatchingServiceServer::from_arc(service),
            INTERNAL_MESSAGE_BYTES_MAX
        ));
        running.routes.insert(Role::Matching, mount);
    }
    if roles.contains(&Role::History) {
        history(
            config,
            context,
            membership,
            &clients,
            &mut running,
            tasks,
            roles,
        );
    }
    if roles.contains(&Role::Worker) {
        worker(context, &clients, membership, &mut running, tasks);
    }
    if roles.contains(&Role::Frontend) {
        frontend(config, context, membership, &clients, &mut running, tasks);
    }
    Ok(running)
}

fn clients(config: &NodeConfig, context: &NodeContext, membership: &Membership) -> Clients {
    let shards = context.clusters.current().shard_count;
    if config.membership.alone {
        return Clients {
            history: HistoryClient::local(shards),
            matching: MatchingClient::local(),
            replication: ReplicationClient::local(shards),
        };
    }
    let channels = Channels::new(
        context.certificates.within.clone(),
        ChannelOptions::within_cluster(),
    );
    Clients {
        history: HistoryClient::routed(membership.clone(), channels.clone(), shards),
        matching: MatchingClient::routed(membership.clone(), channels.clone()),
        replication: ReplicationClient::routed(membership.clone(), channels, shards),
    }
}

fn history(
    config: &NodeConfig,
    context: &NodeContext,
    membership: &Membership,
    clients: &Clients,
    running: &mut Running,
    tasks: &Tasks,
    roles: &BTreeSet<Role>,
) {
    let tasks = tasks.child("history");
    let options = ShardsOptions {
        shard_count: context.clusters.current().shard_count,
        lanes: lanes(&config.datastore),
        ..Default::default()
    };
    let shards = Shards::start(
        options,
        ShardsDeps {
            store: context.store.clone(),
            membership: membership.clone(),
            registry: context.registry.clone(),
            clusters: context.clusters.clone(),
            clock: context.clock.clone(),
            tasks: tasks.clone(),
            overload: context.overload.clone(),
            settings: context.settings.clone(),
            metrics: context.metrics.clone(),
        },
    );
    let has_frontend = roles.contains(&Role::Frontend);
    let service = HistoryService::new(HistoryDeps {
        shards: shards.clone(),
        registry: context.registry.clone(),
        clusters: context.clusters.clone(),
        matching: clients.matching.clone(),
        history: clients.history.clone(),
        clock: context.clock.clone(),
        overload: (!has_frontend).then(|| context.overload.clone()),
        settings: context.settings.clone(),
        metrics: context.metrics.clone(),
        tasks: tasks.clone(),
    });
    clients.history.set_local(service.clone());
    let host = ReplicationHost::new(HostDeps {
        shards: shards.clone(),
        registry: context.registry.clone(),
        clusters: context.clusters.clone(),
        remotes: context.remotes(),
        refresher: Refresher::new(context.remotes(), context.manager.clone()),
        dead_letters: DeadLetters::new(
            context.store.queue.clone(),
            context.clusters.current_name(),
        ),
        clock: context.clock.clone(),
        settings: context.settings.clone(),
        metrics: context.metrics.clone(),
        tasks,
        address: membership
            .me()
            .rpc(Role::History)
            .map(|at| at.to_string())
            .unwrap_or_default(),
    });
    clients.replication.set_local(host.clone(), host.clone());
    shards.run_queues(cluster_history::executors(ExecutorDeps {
        registry: context.registry.clone(),
        matching: clients.matching.clone(),
        history: clients.history.clone(),
    }));
    let mut mount = RoutesBuilder::default();
    mount.add_service(tuned!(
        HistoryServiceServer::from_arc(service),
        INTERNAL_MESSAGE_BYTES_MAX
    ));
    mount.add_service(tuned!(
        ReplicationApplyServiceServer::from_arc(host.clone()),
        INTERNAL_MESSAGE_BYTES_MAX
    ));
    mount.add_service(tuned!(
        AdminServiceServer::from_arc(host),
        INTERNAL_MESSAGE_BYTES_MAX
    ));
    running.routes.insert(Role::History, mount);
    running.shards = Some(shards);
}

fn worker(
    context: &NodeContext,
    clients: &Clients,
    membership: &Membership,
    running: &mut Running,
    tasks: &Tasks,
) {
    let tasks = tasks.child("worker");
    let deps = cluster_worker::WorkerDeps {
        registry: context.registry.clone(),
        manager: context.manager.clone(),
        clusters: context.clusters.clone(),
        clock: context.clock.clone(),
    };
    cluster_worker::start(deps, &tasks);
    Pullers::start(PullerDeps {
        remotes: context.remotes(),
        membership: membership.clone(),
        replication: clients.replication.clone(),
        dead_letters: DeadLetters::new(
            context.store.queue.clone(),
            context.clusters.current_name(),
        ),
        clock: context.clock.clone(),
        settings: context.settings.clone(),
        metrics: context.metrics.clone(),
        tasks: tasks.clone(),
    });
    replication::namespaces::start(NamespacePullerDeps {
        remotes: context.remotes(),
        membership: membership.clone(),
        manager: context.manager.clone(),
        queues: context.store.queue.clone(),
        tasks,
    });
    running
        .routes
        .insert(Role::Worker, RoutesBuilder::default());
}

fn frontend(
    config: &NodeConfig,
    context: &NodeContext,
    membership: &Membership,
    clients: &Clients,
    running: &mut Running,
    tasks: &Tasks,
) {
    let frontend = Frontend::new(FrontendDeps {
        registry: context.registry.clone(),
        manager: context.manager.clone(),
        clusters: context.clusters.clone(),
        visibility: context.store.visibility.clone(),
        queue: context.store.queue.clone(),
        history: clients.history.clone(),
        matching: clients.matching.clone(),
        remotes: RemoteFrontends::new(context.remote_channels.clone(), context.clusters.clone()),
        membership: membership.clone(),
        delegates: Delegates {
            replication: clients.replication.clone(),
            dead_letters: Some(LetterBox::new(LetterBoxDeps {
                queues: context.store.queue.clone(),
                clusters: context.clusters.clone(),
                shards: clients.replication.clone(),
                manager: context.manager.clone(),
            })),
        },
        policy: match config.redirection {
            RedirectionPolicy::Noop => ForwardingPolicy::Noop,
            RedirectionPolicy::SelectedApisForwarding => ForwardingPolicy::Selected,
            RedirectionPolicy::AllApisForwarding => ForwardingPolicy::All,
        },
        readiness: running.readiness.clone(),
        about: About {
            persistence_store: context.store_name.into(),
            visibility_store: context.store_name.into(),
        },
        overload: context.overload.clone(),
        settings: context.settings.clone(),
        clock: context.clock.clone(),
        metrics: context.metrics.clone(),
    });
    running.gate = Some(frontend.gate());
    let mut mount = RoutesBuilder::default();
    mount.add_service(tuned!(
        WorkflowServiceServer::from_arc(frontend.workflow_service()),
        PUBLIC_MESSAGE_BYTES_MAX
    ));
    mount.add_service(tuned!(
        OperatorServiceServer::from_arc(frontend.operator_service()),
        PUBLIC_MESSAGE_BYTES_MAX
    ));
    mount.add_service(tuned!(
        AdminServiceServer::from_arc(frontend.admin_service()),
        INTERNAL_MESSAGE_BYTES_MAX
    ));
    let extension = Extension::new(ExtensionDeps {
        switchovers: Switchovers {
            manager: context.manager.clone(),
            clusters: context.clusters.clone(),
            shards: clients.replication.clone(),
            remotes: context.remotes(),
            clock: context.clock.clone(),
        },
        dead_letters: DeadLetters::new(
            context.store.queue.clone(),
            context.clusters.current_name(),
        ),
        registry: context.registry.clone(),
        tasks: tasks.child("frontend"),
    });
    mount.add_service(tuned!(
        ReplicationExtensionServiceServer::from_arc(extension),
        INTERNAL_MESSAGE_BYTES_MAX
    ));
    running.routes.insert(Role::Frontend, mount);
}

/// A second lane builds a batch while the first waits for the database's flush, at the price of batches half as
/// large. That pays where a core would be idle meanwhile. SQLite has one writer.
fn lanes(datastore: &DatastoreConfig) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    match datastore {
        DatastoreConfig::Postgres { .. } if cores > 2 => 2,
        _ => 1,
    }
}
