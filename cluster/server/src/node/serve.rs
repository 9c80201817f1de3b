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
        for (role, listener) in self.roles {
            listener.serve(
                tasks,
                role.as_str(),
                routes(running.routes.get(&role), &running.readiness, tasks),
            );
        }
        if let Some(listener) = self.peer {
            let public = running.routes.get(&Role::Frontend);
            listener.serve(
                tasks,
                "frontend-peers",
                routes(public, &running.readiness, tasks),
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
fn routes(mounted: Option<&RoutesBuilder>, readiness: &Readiness, tasks: &Tasks) -> Routes {
    let mut builder = mounted.cloned().unwrap_or_default();
    let (reporter, health) = tonic_health::server::health_reporter();
    builder.add_service(health);
    if let Some(version) = reflection() {
        builder.add_service(version);
    }
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

/// Server reflection. A descriptor set that cannot be read is a build defect: it is logged, not served.
fn reflection() -> Option<
    tonic_reflection::server::v1::ServerReflectionServer<
        impl tonic_reflection::server::v1::ServerReflection,
    >,
> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto_messages::DESCRIPTORS)
        .build_v1()
        .map_err(|error| tracing::error!(%error, "reflection is not served"))
        .ok()
}
