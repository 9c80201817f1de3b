//! Ports that a process opens, distinguished before it opens any: two that are the same are named together.

use std::{collections::BTreeSet, net::SocketAddr};

use cluster_membership::Role;

use super::{ConfigError, NodeConfig};

impl NodeConfig {
    /// Whether the ports that a process with these roles opens are different ones.
    pub fn check_ports(&self, roles: &BTreeSet<Role>) -> Result<(), ConfigError> {
        let mut taken: Vec<(String, SocketAddr)> = Vec::new();
        for (key, at) in self.ports(roles) {
            let same = taken.iter().find(|(_, other)| collide(*other, at));
            if let Some((other, _)) = same {
                return Err(ConfigError::value(
                    key,
                    format!("{at} is the port of {other}, too; give each its own"),
                ));
            }
            taken.push((key, at));
        }
        Ok(())
    }

    /// Every TCP port with the key that names it.
    fn ports(&self, roles: &BTreeSet<Role>) -> Vec<(String, SocketAddr)> {
        let mut ports = Vec::new();
        for role in roles {
            let Some(address) = self.roles.get(role) else {
                continue;
            };
            let is_frontend = *role == Role::Frontend;
            // Alone, the other roles are called in the process itself.
            if is_frontend || !self.membership.alone {
                ports.push((format!("services.{role}.rpc.grpcPort"), address.grpc));
            }
            if let Some(peer) = address.peer.filter(|_| is_frontend) {
                ports.push((format!("services.{role}.rpc.peerPort"), peer));
            }
        }
        if let Some(metrics) = self.metrics {
            let key = "global.metrics.prometheus.listenAddress";
            ports.push((key.to_owned(), metrics));
        }
        ports
    }
}

fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let overlaps = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0 && a.port() == b.port() && overlaps
}
