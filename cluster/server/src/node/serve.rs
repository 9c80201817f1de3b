//! Listeners of the roles and what is mounted on each.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use anyhow::Context;
use cluster_frontend::Readiness;
use cluster_membership::Role;
use cluster_rpc::serve::{Gzip, Listener, ServeOptions};
use cluster_runtime::task::{TaskKind, Tasks};
use tonic::service::{Routes, RoutesBuilder};
use tonic_health::ServingStatus;

use super::reflection::Reflection;
use crate::{
    config::NodeConfig,
    node::{ground::Ground, roles::Running},
};

/// Open ports that are not served yet.
pub(super) struct Listeners {
    roles: BTreeMap<Role, Listener>,
    peer: Option<Listener>,
}

impl Listeners {
    pub(super) async fn bind(
        config: &NodeConfig,
        roles: &BTreeSet<Role>,
        ground: &Ground,
    ) -> anyhow::Result<Self> {
        let certificates = &ground.certificates;
        let public = ServeOptions::public_of(&ground.settings);
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
            let listener = Listener::bind(at.grpc, tls, options).await;
            let listener = listener.with_context(|| taken(&config.cluster.name, *role, at.grpc))?;
            open.insert(*role, listener.counted(&ground.metrics));
            if let Some(at) = at.peer.filter(|_| *role == Role::Frontend) {
                let listener = Listener::bind(at, certificates.peer.clone(), public).await;
                let listener = listener.with_context(|| taken(&config.cluster.name, *role, at))?;
                peer = Some(listener.counted(&ground.metrics));
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
            let gate = running.gate.clone().filter(|_| role == Role::Frontend);
            listener.gated(gate).serve(
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
    // Clients compress whatever they send, probes included.
    builder.add_service(health.accept_compressed(Gzip).send_compressed(Gzip));
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

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use cluster_rpc::tuned;
    use proto_messages::temporal::api::operatorservice::v1::ListClustersRequest;
    use proto_services::temporal::api::operatorservice::v1::{
        operator_service_client::OperatorServiceClient,
        operator_service_server::{OperatorService, OperatorServiceServer},
    };
    use tokio_stream::StreamExt;
    use tonic::{Code, transport::Endpoint};
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest,
    };

    use super::*;

    struct Idle;

    impl OperatorService for Idle {}

    /// The newest clients compress whatever they send, and ask again without only where they are told to.
    #[tokio::test]
    async fn every_service_of_a_port_takes_compressed_messages() {
        let tasks = Tasks::new("test");
        let at = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = Listener::bind(at, None, ServeOptions::public()).await;
        let listener = listener.expect("a port");
        let address = format!("http://{}", listener.address());
        let mut mounted = RoutesBuilder::default();
        let server = OperatorServiceServer::from_arc(Arc::new(Idle));
        mounted.add_service(tuned!(server, 1 << 20));
        let readiness = Readiness::new();
        readiness.set(true);
        let reflection = Reflection::default();
        let routes = routes(Some(&mounted), &reflection, &readiness, &tasks);
        listener.serve(&tasks, "frontend", routes);
        let channel = Endpoint::from_shared(address).expect("an address");
        let channel = channel.connect().await.expect("a connection");

        let mut health = HealthClient::new(channel.clone())
            .send_compressed(Gzip)
            .accept_compressed(Gzip);
        let asked = HealthCheckRequest::default();
        health.check(asked).await.expect("health");

        let mut reflection = ServerReflectionClient::new(channel.clone())
            .send_compressed(Gzip)
            .accept_compressed(Gzip);
        let asked = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices("*".into())),
        };
        let answers = reflection.server_reflection_info(tokio_stream::once(asked));
        let mut answers = answers.await.expect("reflection").into_inner();
        assert!(answers.next().await.expect("an answer").is_ok());

        let mut operator = OperatorServiceClient::new(channel)
            .send_compressed(Gzip)
            .accept_compressed(Gzip);
        let refused = operator.list_clusters(ListClustersRequest::default()).await;
        let refused = refused.expect_err("nobody implements it");
        assert_eq!(refused.message(), "Not yet implemented");
        assert_eq!(refused.code(), Code::Unimplemented);
        tasks.shutdown(Duration::from_secs(5)).await;
    }
}
