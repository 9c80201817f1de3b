//! Listeners of the roles and what is mounted on each.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use anyhow::Context;
use cluster_frontend::Readiness;
use cluster_membership::Role;
use cluster_rpc::serve::{Listener, ServeOptions};
use cluster_runtime::task::{TaskKind, Tasks};
use tonic::service::{Routes, RoutesBuilder};
use tonic_health::ServingStatus;

use super::reflection::Reflection;
use crate::{config::NodeConfig, node::roles::Running, tls::Certificates};

/// Open ports that are not served yet.
pub(super) struct Listeners {
    roles: BTreeMap<Role, Listener>,
    peer: Option<Listener>,
}

impl Listeners {
    pub(super) async fn bind(
        config: &NodeConfig,
        roles: &BTreeSet<Role>,
        certificates: &Certificates,
    ) -> anyhow::Result<Self> {
        let mut open = BTreeMap::new();
        let mut peer = None;
        // Alone, the other roles are called in this process only.
        let bound = roles
            .iter()
            .filter(|r| !config.membership.alone || **r == Role::Frontend);
        for role in bound {
            let at = config.roles[role];
            let (tls, options) = match role {
                Role::Frontend => (certificates.frontend.clone(), ServeOptions::public()),
                _ => (certificates.internode.clone(), ServeOptions::internal()),
            };
            let listener = Listener::bind(at.grpc, tls, options).await;
            open.insert(
                *role,
                listener.with_context(|| taken(&config.cluster.name, *role, at.grpc))?,
            );
            if let Some(at) = at.peer.filter(|_| *role == Role::Frontend) {
                let listener =
                    Listener::bind(at, certificates.peer.clone(), ServeOptions::public()).await;
                peer = Some(listener.with_context(|| taken(&config.cluster.name, *role, at))?);
            }
        }
        Ok(Self { roles: open, peer })
    }

    pub(super) fn addresses(&self) -> BTreeMap<Role, SocketAddr> {
        self.roles
            .iter()
            .map(|(role, l)| (*role, l.address()))
            .collect()
    }

    pub(super) fn peer_address(&self) -> Option<SocketAddr> {
        self.peer.as_ref().map(Listener::address)
    }

    pub(super) fn serve(self, running: &Running, tasks: &Tasks) {
        let reflection = Reflection::default();
        for (role, listener) in self.roles {
            listener.serve(
                tasks,
                role.as_str(),
                routes(
                    running.routes.get(&role),
                    &reflection,
                    &running.readiness,
                    tasks,
                ),
            );
        }
        if let Some(listener) = self.peer {
            let public = running.routes.get(&Role::Frontend);
            listener.serve(
                tasks,
                "frontend-peers",
                routes(public, &reflection, &running.readiness, tasks),
            );
        }
    }
}

fn taken(cluster: &str, role: Role, at: SocketAddr) -> String {
    format!(
        "cluster {cluster} cannot listen on {at} for {role}; is the port taken by another server?"
    )
}

/// The role's services, with health and reflection.
fn routes(
    mounted: Option<&RoutesBuilder>,
    reflection: &Reflection,
    readiness: &Readiness,
    tasks: &Tasks,
) -> Routes {
    let mut builder = mounted.cloned().unwrap_or_default();
    let (reporter, health) = tonic_health::server::health_reporter();
    builder.add_service(health);
    builder.add_service(reflection.clone());
    let mut ready = readiness.watch();
    tasks.spawn(TaskKind::Background, "health", async move {
        loop {
            let status = match *ready.borrow_and_update() {
                true => ServingStatus::Serving,
                false => ServingStatus::NotServing,
            };
            for service in Readiness::SERVICES.into_iter().chain([""]) {
                reporter.set_service_status(service, status).await;
            }
            if ready.changed().await.is_err() {
                return;
            }
        }
    });
    builder.routes()
}
