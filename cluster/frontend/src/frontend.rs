//! The frontend: its dependencies and the gRPC services it offers.

use std::{fmt, sync::Arc};

use cluster_membership::Membership;
use cluster_rpc::{Gate, HistoryClient, MatchingClient};
use cluster_runtime::{Metrics, Overload, Settings, SharedClock};
use namespaces::{Clusters, Manager, Outbox, Registry};
use proto_services::temporal::{
    api::{
        operatorservice::v1::operator_service_server::OperatorService,
        workflowservice::v1::workflow_service_server::WorkflowService,
    },
    server::api::adminservice::v1::admin_service_server::AdminService,
};
use schema_store::{queue::QueueStore, visibility::VisibilityStore};

use crate::{
    admin_service::{Admin, Delegates},
    gate::StartGate,
    health::Readiness,
    limits::Limits,
    metrics::FrontendMetrics,
    operator_service::Operator,
    quota::Quota,
    redirect::ForwardingPolicy,
    remotes::RemoteFrontends,
    workflow_service::Workflows,
};

/// Information about the installation.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// The name of the store behind workflows.
    pub persistence_store: String,
    /// The name of the store behind lists.
    pub visibility_store: String,
}

/// The dependencies of the frontend.
pub struct FrontendDeps {
    /// Namespaces.
    pub registry: Registry,
    /// Changing them.
    pub manager: Manager,
    /// The cluster directory.
    pub clusters: Clusters,
    /// Lists and counts.
    pub visibility: Arc<dyn VisibilityStore>,
    /// The queue that other clusters pull namespaces from.
    pub queue: Arc<dyn QueueStore>,
    /// Workflows.
    pub history: HistoryClient,
    /// Task queues.
    pub matching: MatchingClient,
    /// The other clusters.
    pub remotes: RemoteFrontends,
    /// The processes of this cluster.
    pub membership: Membership,
    /// The services behind the admin RPCs that are not the frontend's own.
    pub delegates: Delegates,
    /// Which calls are passed on to the active cluster.
    pub policy: ForwardingPolicy,
    /// Whether calls may be served.
    pub readiness: Readiness,
    /// Information about the installation.
    pub about: About,
    /// Refuses calls when this process has more to do than it can.
    pub overload: Overload,
    /// Live settings.
    pub settings: Settings,
    /// Time.
    pub clock: SharedClock,
    /// Metrics.
    pub metrics: Metrics,
}

/// The frontend of one process. Cheap to clone.
#[derive(Clone)]
pub struct Frontend {
    host: Arc<Host>,
    delegates: Delegates,
}

/// The context of all RPCs.
pub(crate) struct Host {
    pub(crate) registry: Registry,
    pub(crate) manager: Manager,
    pub(crate) clusters: Clusters,
    pub(crate) visibility: Arc<dyn VisibilityStore>,
    pub(crate) outbox: Outbox,
    pub(crate) history: HistoryClient,
    pub(crate) matching: MatchingClient,
    pub(crate) remotes: RemoteFrontends,
    pub(crate) membership: Membership,
    pub(crate) policy: ForwardingPolicy,
    pub(crate) readiness: Readiness,
    pub(crate) about: About,
    pub(crate) overload: Overload,
    pub(crate) settings: Settings,
    pub(crate) metrics: FrontendMetrics,
    pub(crate) quota: Quota,
    pub(crate) ids: Ids,
}

/// Makes ids for requests that bring none, and for polls.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ids;

impl Ids {
    pub(crate) fn make(self) -> String {
        uuid::Uuid::new_v4().to_string()
    }
}

impl Frontend {
    /// A frontend over its parts.
    pub fn new(deps: FrontendDeps) -> Self {
        let host = Host {
            outbox: Outbox::new(deps.queue, deps.clusters.clone(), deps.registry.clone()),
            registry: deps.registry,
            manager: deps.manager,
            clusters: deps.clusters,
            visibility: deps.visibility,
            history: deps.history,
            matching: deps.matching,
            remotes: deps.remotes,
            membership: deps.membership,
            policy: deps.policy,
            readiness: deps.readiness,
            about: deps.about,
            overload: deps.overload,
            metrics: FrontendMetrics::new(&deps.metrics),
            quota: Quota::new(deps.settings.clone(), deps.clock.clone()),
            settings: deps.settings,
            ids: Ids,
        };
        Self {
            host: Arc::new(host),
            delegates: deps.delegates,
        }
    }

    /// The public API.
    pub fn workflow_service(&self) -> Arc<impl WorkflowService + use<>> {
        Arc::new(Workflows(self.host.clone()))
    }

    /// The operators' API.
    pub fn operator_service(&self) -> Arc<impl OperatorService + use<>> {
        Arc::new(Operator(self.host.clone()))
    }

    /// The admin service for peer clusters and debugging tools.
    pub fn admin_service(&self) -> Arc<impl AdminService + use<>> {
        Arc::new(Admin::new(self.host.clone(), self.delegates.clone()))
    }

    /// The gate that admits a call of the public port before it is read.
    pub fn gate(&self) -> Arc<dyn Gate> {
        Arc::new(StartGate(self.host.overload.clone()))
    }

    /// Whether calls may be served.
    pub fn readiness(&self) -> &Readiness {
        &self.host.readiness
    }
}

impl Host {
    /// The limits of a namespace, by name.
    pub(crate) fn limits<'a>(&'a self, namespace: &'a str) -> Limits<'a> {
        Limits::new(&self.settings, namespace)
    }
}

impl fmt::Debug for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frontend of {:?}", self.host.clusters)
    }
}
