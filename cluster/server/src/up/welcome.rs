//! The text that `up` prints once it serves.

use super::{DEFAULT_NAMESPACE, UpArgs, join::Joined};

/// Image of Temporal's Web UI, and where its container serves.
const WEB_UI: (&str, &str) = ("temporalio/ui", "http://127.0.0.1:8080");

/// The table, how to connect, and what to try.
pub(super) fn welcome(args: &UpArgs, clusters: &[Joined]) -> String {
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
        let port = match first.as_str() {
            "127.0.0.1:7233" => String::new(),
            _ => format!(" --address {first}"),
        };
        lines.push(format!(
            "\nmove it      meridian namespace switchover --namespace {DEFAULT_NAMESPACE} --to {}{port}",
            standby.name
        ));
    }
    let kept = match args.ephemeral {
        true => "kept in memory only".into(),
        false => format!("kept in {}", args.data.display()),
    };
    lines.push(format!("\n{kept}; Ctrl-C drains and stops"));
    lines.join("\n")
}
