//! Listeners of the roles and what is mounted on each.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use anyhow::Context;
use cluster_frontend::Readiness;
use cluster_membership::Role;
use cluster_rpc::{
    guard::{Callers, guarded},
    serve::{Gzip, Listener, ServeOptions},
};
use cluster_runtime::task::{TaskKind, Tasks};
use tokio::sync::watch;
use tonic::service::{Routes, RoutesBuilder};
use tonic_health::{ServingStatus, server::HealthReporter};

use super::reflection::Reflection;
use crate::{
    config::{NodeConfig, TlsGroup},
    node::{
        context::NodeContext,
        health::{Health, State},
        roles::Running,
    },
};

/// Open ports that are not served yet.
pub(super) struct Listeners {
    roles: BTreeMap<Role, (Listener, Callers)>,
    peer: Option<(Listener, Callers)>,
}

impl Listeners {
    pub(super) async fn bind(
        config: &NodeConfig,
        roles: &BTreeSet<Role>,
        context: &NodeContext,
    ) -> anyhow::Result<Self> {
        let certificates = &context.certificates;
        let public = ServeOptions::public_of(&context.settings);
        let mut open = BTreeMap::new();
        let mut peer = None;
        // Alone, the other roles are called in this process only.
        let bound = roles
            .iter()
            .filter(|r| !config.membership.alone || **r == Role::Frontend);
        for role in bound {
            let at = config.roles[role];
            let (tls, options) = match role {
                Role::Frontend => (certificates.frontend.clone(), public),
                _ => (certificates.internode.clone(), ServeOptions::internal()),
            };
            let callers = match role {
                Role::Frontend => callers_of(at.grpc, config.tls.frontend.as_ref()),
                _ => internal_callers(*role, at.grpc, config.tls.internode.as_ref()),
            };
            let listener = Listener::bind(at.grpc, tls, options).await;
            let listener = listener.with_context(|| taken(&config.cluster.name, *role, at.grpc))?;
            open.insert(*role, (listener.counted(&context.metrics), callers));
            if let Some(at) = at.peer.filter(|_| *role == Role::Frontend) {
                let listener = Listener::bind(at, certificates.peer.clone(), public).await;
                let listener = listener.with_context(|| taken(&config.cluster.name, *role, at))?;
                let callers = callers_of(at, config.tls.peer.as_ref());
                peer = Some((listener.counted(&context.metrics), callers));
            }
        }
        Ok(Self { roles: open, peer })
    }

    pub(super) fn addresses(&self) -> BTreeMap<Role, SocketAddr> {
        self.roles
            .iter()
            .map(|(role, (listener, _))| (*role, listener.address()))
            .collect()
    }

    pub(super) fn peer_address(&self) -> Option<SocketAddr> {
        self.peer.as_ref().map(|(listener, _)| listener.address())
    }

    pub(super) fn serve(self, running: &Running, health: &Health, tasks: &Tasks) {
        let reflection = Reflection::default();
        for (role, (listener, callers)) in self.roles {
            let gate = running.gate.clone().filter(|_| role == Role::Frontend);
            let mounted = running.routes.get(&role);
            let routes = routes(role, mounted, &reflection, health, tasks);
            listener
                .gated(gate)
                .serve(tasks, role.as_str(), guarded(routes, callers));
        }
        if let Some((listener, callers)) = self.peer {
            let public = running.routes.get(&Role::Frontend);
            let routes = routes(Role::Frontend, public, &reflection, health, tasks);
            listener.serve(tasks, "frontend-peers", guarded(routes, callers));
        }
    }
}

/// The callers of a port: programs of this machine, those with a certificate, or any.
fn callers_of(at: SocketAddr, tls: Option<&TlsGroup>) -> Callers {
    let have_certificates = tls.is_some_and(|group| group.server.require_client_auth);
    match at.ip().is_loopback() || have_certificates {
        true => Callers::Known,
        false => Callers::Anybody,
    }
}

/// The services of a cluster call one another on these ports, with or without TLS; that others may, too, is said.
fn internal_callers(role: Role, at: SocketAddr, tls: Option<&TlsGroup>) -> Callers {
    if callers_of(at, tls) == Callers::Anybody {
        tracing::warn!(address = %at, service = %role,
            "this port is for the services of the cluster and can be called by anybody who reaches it; set \
             global.tls.internode with requireClientAuth, or keep it from other machines");
    }
    Callers::Known
}

fn taken(cluster: &str, role: Role, at: SocketAddr) -> String {
    format!(
        "cluster {cluster} cannot listen on {at} for {role}; is the port taken by another server?"
    )
}

/// The role's services, with health and reflection.
fn routes(
    role: Role,
    mounted: Option<&RoutesBuilder>,
    reflection: &Reflection,
    health: &Health,
    tasks: &Tasks,
) -> Routes {
    let mut builder = mounted.cloned().unwrap_or_default();
    let (reporter, service) = tonic_health::server::health_reporter();
    // Clients compress whatever they send, probes included.
    builder.add_service(service.accept_compressed(Gzip).send_compressed(Gzip));
    builder.add_service(reflection.clone());
    let state = health.watch();
    tasks.spawn_restarting(TaskKind::Background, "health-service", move || {
        tell_health(reporter.clone(), state.clone(), role)
    });
    builder.routes()
}

/// Keeps the health service as the node is.
async fn tell_health(reporter: HealthReporter, mut changed: watch::Receiver<State>, role: Role) {
    let told = |well| match well {
        true => ServingStatus::Serving,
        false => ServingStatus::NotServing,
    };
    loop {
        let state = changed.borrow_and_update().clone();
        // The service without a name is the process: to end it because the database is away helps nobody.
        reporter.set_service_status("", told(state.is_live)).await;
        for service in services(role) {
            reporter
                .set_service_status(service, told(state.is_ready()))
                .await;
        }
        if changed.changed().await.is_err() {
            return;
        }
    }
}

/// The names under which the health service tells whether calls can be served.
fn services(role: Role) -> &'static [&'static str] {
    match role {
        Role::Frontend => &Readiness::SERVICES,
        Role::History => &["temporal.server.api.historyservice.v1.HistoryService"],
        Role::Matching => &["temporal.server.api.matchingservice.v1.MatchingService"],
        Role::Worker => &["temporal.server.api.workerservice.v1.WorkerService"],
    }
}
