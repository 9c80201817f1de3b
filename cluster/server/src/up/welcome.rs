//! The text that `up` prints once it serves.

use cluster_membership::Role;

use super::{DEFAULT_NAMESPACE, UpArgs, join::Joined};
use crate::config::NodeConfig;

/// Image of Temporal's Web UI, and where its container serves.
const WEB_UI: (&str, &str) = ("temporalio/ui", "http://127.0.0.1:8080");

/// The table, how to connect, and what to try.
pub(super) fn welcome(args: &UpArgs, configs: &[NodeConfig], clusters: &[Joined]) -> String {
    let mut lines = vec![format!(
        "{:<9} {:<17} {:<12} HEALTH",
        "CLUSTER",
        "ADDRESS",
        DEFAULT_NAMESPACE.to_uppercase(),
    )];
    for cluster in clusters {
        let role = match cluster.is_active {
            true => "active",
            false => "standby",
        };
        lines.push(format!(
            "{:<9} {:<17} {role:<12} serving",
            cluster.name,
            cluster.address.to_string(),
        ));
    }
    let first = clusters
        .first()
        .map(|c| c.address.to_string())
        .unwrap_or_default();
    let (image, page) = WEB_UI;
    lines.push(format!(
        "
Python       await Client.connect(\"{first}\")
Go           client.Dial(client.Options{{HostPort: \"{first}\"}})
TypeScript   await Connection.connect({{ address: '{first}' }})
Web UI       docker run --rm --network host -e TEMPORAL_ADDRESS={first} {image}   then {page}"
    ));
    let standby = clusters.iter().find(|c| !c.is_active);
    if let (Some(standby), [_, _, ..]) = (standby, clusters) {
        lines.push(format!(
            "\nmove it      meridian namespace switchover --namespace {DEFAULT_NAMESPACE} --to {}{}",
            standby.name,
            operators_way(args, configs, &first)
        ));
    }
    let kept = match args.ephemeral {
        true => "kept in memory only".into(),
        false => format!("kept in {}", args.data.display()),
    };
    lines.push(format!("\n{kept}; Ctrl-C drains and stops"));
    lines.join("\n")
}

/// How an operator's commands reach the first cluster: by its frontend's port while only this machine can call that,
/// otherwise by the port for other clusters, which asks who calls.
fn operators_way(args: &UpArgs, configs: &[NodeConfig], frontend: &str) -> String {
    let guarded = configs.first().filter(|_| !args.bind.is_loopback());
    let peer = guarded.and_then(|config| Some((config, config.roles.get(&Role::Frontend)?.peer?)));
    let Some((config, peer)) = peer else {
        return match frontend {
            "127.0.0.1:7233" => String::new(),
            _ => format!(" --address {frontend}"),
        };
    };
    let mut way = format!(" --address {peer}");
    if let Some(tls) = &config.tls.peer {
        let ca = tls.server.client_ca_files.first();
        let files = [
            ("--tls-ca-path", ca),
            ("--tls-cert-path", Some(&tls.server.cert_file)),
            ("--tls-key-path", Some(&tls.server.key_file)),
        ];
        for (option, file) in files {
            let file = file.map(|f| f.display().to_string());
            way.push_str(&format!(" {option} {}", file.unwrap_or_default()));
        }
    }
    way
}
