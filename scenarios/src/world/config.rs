//! Writes a server's configuration file, with the keys Temporal uses where the idea is the same.

use std::{net::SocketAddr, path::Path};

use serde_json::{Map, Value, json};

use super::certificates::Files;

/// The configuration of one process.
pub(super) struct Settings<'a> {
    pub(super) cluster: &'a str,
    /// Its place among the clusters, which gives its failover versions.
    pub(super) index: usize,
    pub(super) shards: u32,
    pub(super) store: Value,
    pub(super) tls: Option<&'a Files>,
    /// The ports of each service this process runs.
    pub(super) services: &'a [ServicePorts],
    /// A frontend of this cluster.
    pub(super) frontend: SocketAddr,
    pub(super) metrics: SocketAddr,
    pub(super) live_settings: Option<&'a Path>,
}

/// Where one service listens.
#[derive(Clone, Debug)]
pub(super) struct ServicePorts {
    pub(super) service: String,
    pub(super) grpc: u16,
    pub(super) membership: u16,
}

/// Failover versions of a cluster are those with its own remainder modulo this.
const VERSION_INCREMENT: u64 = 100;

/// The file's text.
pub(super) fn text(settings: &Settings<'_>) -> String {
    let mut text = String::from("# Written by a drill.\n");
    if let Value::Object(map) = document(settings) {
        write_map(&mut text, &map, 0);
    }
    text
}

fn document(s: &Settings<'_>) -> Value {
    let mut services = Map::new();
    for ports in s.services {
        services.insert(
            ports.service.clone(),
            json!({ "rpc": {
                "grpcPort": ports.grpc,
                "membershipPort": ports.membership,
                "bindOnIP": "127.0.0.1",
            }}),
        );
    }
    let mut global = Map::new();
    global.insert(
        "membership".into(),
        json!({ "broadcastAddress": "127.0.0.1" }),
    );
    global.insert(
        "metrics".into(),
        json!({ "prometheus": { "listenAddress": s.metrics.to_string() } }),
    );
    if let Some(files) = s.tls {
        global.insert("tls".into(), tls(files));
    }
    let mut clusters = Map::new();
    clusters.insert(
        s.cluster.to_owned(),
        json!({
            "enabled": true,
            "initialFailoverVersion": s.index + 1,
            "rpcAddress": s.frontend.to_string(),
        }),
    );
    let mut document = json!({
        "persistence": {
            "numHistoryShards": s.shards,
            "defaultStore": "default",
            "visibilityStore": "default",
            "datastores": { "default": { "sql": s.store } },
        },
        "global": global,
        "services": services,
        "clusterMetadata": {
            "enableGlobalNamespace": true,
            "failoverVersionIncrement": VERSION_INCREMENT,
            "masterClusterName": s.cluster,
            "currentClusterName": s.cluster,
            "clusterInformation": clusters,
        },
        "dcRedirectionPolicy": { "policy": "all-apis-forwarding" },
    });
    if let Some(path) = s.live_settings {
        document["dynamicConfigClient"] = json!({ "filepath": path, "pollInterval": "1s" });
    }
    document
}

/// One certificate serves all roles of a cluster; every side must show one.
fn tls(files: &Files) -> Value {
    let server = json!({
        "certFile": files.cert,
        "keyFile": files.key,
        "clientCaFiles": [files.authorities],
        "requireClientAuth": true,
    });
    let client = json!({ "serverName": "localhost", "rootCaFiles": [files.authorities] });
    let group = json!({ "server": server, "client": client });
    json!({
        "refreshInterval": "1s",
        "internode": group,
        "frontend": group,
        "remoteClusters": { "127.0.0.1": group },
    })
}

/// Live settings in the form of a dynamic configuration file.
pub(super) fn live_settings(settings: &std::collections::BTreeMap<String, toml::Value>) -> String {
    settings
        .iter()
        .map(|(key, value)| {
            let value = serde_json::to_string(value).unwrap_or_default();
            format!("{key}:\n  - value: {value}\n")
        })
        .collect()
}

fn write_map(text: &mut String, map: &Map<String, Value>, depth: usize) {
    for (key, value) in map {
        text.push_str(&"  ".repeat(depth));
        text.push_str(&scalar(&Value::String(key.clone())));
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                text.push_str(":\n");
                write_map(text, inner, depth + 1);
            }
            // Lists and scalars in JSON are YAML, too.
            _ => text.push_str(&format!(": {}\n", scalar(value))),
        }
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(s) if !s.is_empty() && s.chars().all(|c| c.is_ascii_alphabetic()) => {
            s.clone()
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_reads_like_yaml() {
        let address: SocketAddr = "127.0.0.1:7000".parse().expect("address");
        let text = text(&Settings {
            cluster: "east",
            index: 1,
            shards: 4,
            store: json!({ "pluginName": "sqlite", "databaseName": "/x/y.db" }),
            tls: None,
            services: &[ServicePorts {
                service: "frontend".into(),
                grpc: 7000,
                membership: 7001,
            }],
            frontend: address,
            metrics: address,
            live_settings: None,
        });
        assert!(
            text.contains("  clusterInformation:\n    east:\n"),
            "{text}"
        );
        assert!(
            text.contains("      \"initialFailoverVersion\": 2\n")
                || text.contains("      initialFailoverVersion: 2\n")
        );
        assert!(
            text.contains("    rpc:\n      bindOnIP: \"127.0.0.1\"\n      grpcPort: 7000\n"),
            "{text}"
        );
    }
}
