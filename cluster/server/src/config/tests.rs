//! What the file says, and what a mistake in it is told.

use cluster_membership::Role;

use super::*;

fn parsed(text: &str) -> Result<NodeConfig, String> {
    let environment = |name: &str| (name == "SEEDED").then(|| "from-environment".to_owned());
    parse(text, Path::new("test.yaml"), &environment).map_err(|e| e.to_string())
}

const GOOD: &str = r#"
persistence:
  numHistoryShards: 8
  defaultStore: main
  datastores:
    main:
      sql:
        pluginName: postgres12
        databaseName: ${SEEDED}
        connectAddr: 127.0.0.1:5432
        user: m
        password: "p@ss"
global:
  membership: { broadcastAddress: 127.0.0.1 }
  metrics: { prometheus: { listenAddress: ":9090" } }
services:
  frontend: { rpc: { grpcPort: 8233, membershipPort: 7933, bindOnIP: 0.0.0.0 } }
clusterMetadata:
  enableGlobalNamespace: true
  failoverVersionIncrement: 100
  masterClusterName: west
  currentClusterName: west
  clusterInformation:
    west: { enabled: true, initialFailoverVersion: 1, rpcAddress: "127.0.0.1:8233" }
dcRedirectionPolicy: { policy: noop }
"#;

#[test]
fn a_good_file_is_understood() {
    let config = parsed(GOOD).expect("good");
    let DatastoreConfig::Postgres { url, .. } = &config.datastore else {
        panic!("{:?}", config.datastore)
    };
    assert_eq!(url, "postgres://m:p%40ss@127.0.0.1:5432/from-environment");
    assert_eq!(config.cluster.shards, 8);
    assert_eq!(
        config.roles[&Role::Frontend].grpc.to_string(),
        "0.0.0.0:8233"
    );
    assert_eq!(config.roles[&Role::Worker].membership.port(), 6939);
    assert_eq!(config.metrics.map(|m| m.port()), Some(9090));
    assert_eq!(config.redirection, RedirectionPolicy::Noop);
}

#[test]
fn mistakes_are_named_with_a_remedy() {
    let cases = [
        (
            "numHistoryShards: 8",
            "numHistoryShard: 8",
            "did you mean `numHistoryShards`?",
        ),
        ("policy: noop", "policy: all", "all-apis-forwarding"),
        (
            "${SEEDED}",
            "${ABSENT}",
            "the environment variable ABSENT is not set",
        ),
        (
            "pluginName: postgres12",
            "pluginName: mysql8",
            "use sqlite, postgres12 or postgres12_pgx",
        ),
        (
            "initialFailoverVersion: 1",
            "initialFailoverVersion: 100",
            "below failoverVersionIncrement, 100",
        ),
        (
            "defaultStore: main",
            "defaultStore: other",
            "`other` is not among persistence.datastores (main)",
        ),
        (
            "currentClusterName: west",
            "currentClusterName: east",
            "no entry for the current cluster `east`",
        ),
        ("frontend: {", "frontents: {", "services.frontents"),
    ];
    for (right, wrong, expected) in cases {
        let told = parsed(&GOOD.replace(right, wrong)).expect_err(wrong);
        assert!(told.contains(expected), "{wrong}: {told}");
    }
}

#[test]
fn durations_are_go_durations() {
    let millis = |text| parse_duration(text).map(|d| d.as_millis());
    assert_eq!(millis("1h30m"), Some(5_400_000));
    assert_eq!(millis("1.5s"), Some(1_500));
    assert_eq!(millis("2d"), Some(172_800_000));
    for wrong in ["", "5", "s", "-1s", "1x"] {
        assert_eq!(millis(wrong), None, "{wrong}");
    }
}
