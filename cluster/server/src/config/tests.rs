//! Tests of the configuration file and of its error messages.

use cluster_membership::Role;

use super::*;

fn parsed(text: &str) -> Result<NodeConfig, String> {
    let environment = |name: &str| match name {
        "SEEDED" => Some("from-environment".to_owned()),
        "PASSWORD" => Some("s3cret: \"#'{x".to_owned()),
        "NUMBER" => Some("31337".to_owned()),
        _ => None,
    };
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

fn postgres(config: &NodeConfig) -> &schema_sql::Postgres {
    match &config.datastore {
        DatastoreConfig::Postgres(postgres) => postgres,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_good_file_is_understood() {
    let config = parsed(GOOD).expect("good");
    let postgres = postgres(&config);
    assert_eq!((postgres.host.as_str(), postgres.port), ("127.0.0.1", 5432));
    assert_eq!(
        (postgres.user.as_str(), postgres.password.as_str()),
        ("m", "p@ss")
    );
    assert_eq!(postgres.database, "from-environment");
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
        (
            "bindOnIP: 0.0.0.0",
            "bindOnIP: 0.0.0.0, bindOnLocalHost: true",
            "exclude each other",
        ),
        (
            "west: { enabled: true",
            "west: { enabled: false",
            "has to be true for the current cluster",
        ),
        (
            "connectAddr: 127.0.0.1:5432",
            "connectAddr: ''",
            "host:port of the database server",
        ),
        (
            "user: m",
            "connectAttributes: { password: x }",
            "keys of their own",
        ),
        (
            "user: m",
            "connectAttributes: { sslmode: strict }",
            "verify-full",
        ),
        (
            "metrics:",
            "authorization: { authorizer: default }\n  metrics:",
            "nothing would be authorized",
        ),
    ];
    for (right, wrong, expected) in cases {
        let told = parsed(&GOOD.replace(right, wrong)).expect_err(wrong);
        assert!(told.contains(expected), "{wrong}: {told}");
    }
}

#[test]
fn no_message_and_no_debug_form_repeats_a_password() {
    // Mistakes near, in and instead of the password, from the file and from the environment.
    let cases = [
        ("user: m", "userName: m"),
        (
            "password: \"p@ss\"",
            "password: ${PASSWORD}\n        usr: m",
        ),
        ("password: \"p@ss\"", "password: [\"p@ss\"]"),
        ("numHistoryShards: 8", "numHistoryShards: ${PASSWORD}"),
        ("numHistoryShards: 8", "numHistoryShards: ${NUMBER}"),
        ("pluginName: postgres12", "pluginName: ${PASSWORD}"),
        ("pluginName: postgres12", "pluginName: p@ss"),
        ("grpcPort: 8233", "grpcPort: p@ss"),
        (
            "connectAddr: 127.0.0.1:5432",
            "connectAddr: '127.0.0.1:p@ss'",
        ),
        ("databaseName: ${SEEDED}", "databaseName: [[[ ${PASSWORD}"),
    ];
    for (right, wrong) in cases {
        let text = GOOD.replace(right, wrong);
        let told = parsed(&text).expect_err(wrong);
        for secret in ["p@ss", "s3cret", "31337"] {
            assert!(!told.contains(secret), "{wrong}: {told}");
        }
        assert!(!told.is_empty());
    }
    let told = parsed(&GOOD.replace("pluginName: postgres12", "pluginName: ${SEEDED}"));
    assert!(
        told.expect_err("no plugin")
            .contains("`${SEEDED}` is not supported")
    );

    let text = GOOD.replace("\"p@ss\"", "${PASSWORD}");
    let config = parsed(&text).expect("good");
    assert_eq!(postgres(&config).password, "s3cret: \"#'{x");
    let shown = format!(
        "{config:?} {:?}",
        schema_sql::Options::postgres("postgres://m:s3cret@h/d")
    );
    assert!(!shown.contains("s3cret"), "{shown}");
    let file: ConfigFile = serde_saphyr::from_str(GOOD).expect("read");
    assert!(!format!("{file:?}").contains("p@ss"));
}

#[test]
fn passwords_are_text_whatever_they_look_like() {
    for (written, meant) in [
        ("12345", "12345"),
        ("'null'", "null"),
        ("true", "true"),
        ("''", ""),
    ] {
        let config = parsed(&GOOD.replace("\"p@ss\"", written)).expect(written);
        assert_eq!(postgres(&config).password, meant);
    }
}

const TLS: &str = "  tls:
    internode:
      server: { certFile: a.pem, keyFile: a.key, clientCaFiles: [ca.pem], requireClientAuth: true }
      client: { rootCaFiles: [ca.pem] }
    frontend:
      server: { certFile: b.pem, keyFile: b.key }
    peer:
      server: { certFile: c.pem, keyFile: c.key, clientCaFiles: [ca.pem], requireClientAuth: true }
    remoteClusters:
      east.example: { client: { rootCaFiles: [ca.pem], certFile: d.pem, keyFile: d.key } }
";

#[test]
fn no_omission_in_a_tls_group_means_plaintext() {
    let text = GOOD
        .replace("services:", &format!("{TLS}services:"))
        .replace("grpcPort: 8233", "grpcPort: 8233, peerPort: 8236");
    let config = parsed(&text).expect("good");
    assert!(config.tls.peer.is_some() && config.tls.remotes.contains_key("east.example"));
    let cases = [
        // A peer port with half a pair, without CAs, without asking for certificates, without TLS.
        (
            "certFile: c.pem, keyFile: c.key",
            "certFile: c.pem",
            "global.tls.peer.server: certFile and keyFile",
        ),
        (
            "certFile: c.pem, keyFile: c.key, ",
            "",
            "global.tls.peer.server.certFile",
        ),
        (
            "keyFile: c.key, clientCaFiles: [ca.pem], requireClientAuth: true",
            "keyFile: c.key, requireClientAuth: true",
            "global.tls.peer.server.clientCaFiles",
        ),
        (
            "keyFile: c.key, clientCaFiles: [ca.pem], requireClientAuth: true",
            "keyFile: c.key",
            "global.tls.peer.server.requireClientAuth: has to be true",
        ),
        (", peerPort: 8236", "", "global.tls.peer is for that port"),
        // Clients who would dial in plaintext.
        (
            "{ rootCaFiles: [ca.pem], certFile: d.pem, keyFile: d.key }",
            "{ certFile: d.pem, keyFile: d.key }",
            "remoteClusters.east.example.client.rootCaFiles",
        ),
        (
            "{ rootCaFiles: [ca.pem], certFile: d.pem, keyFile: d.key }",
            "{}",
            "would be plaintext",
        ),
        (
            "{ rootCaFiles: [ca.pem], certFile: d.pem, keyFile: d.key }",
            "{ forceTLS: true }",
            "remoteClusters.east.example.client.rootCaFiles",
        ),
        (
            "keyFile: d.key }",
            "keyFile: d.key, rootCaData: [eA==] }",
            "rootCaData: is not supported",
        ),
        (
            "keyFile: d.key }",
            "keyFile: d.key, disableHostVerification: true }",
            "serverName",
        ),
        ("east.example:", "\"east.example:7233\":", "without a port"),
        (
            "client: { rootCaFiles: [ca.pem] }",
            "client: {}",
            "global.tls.internode.client.rootCaFiles",
        ),
        (
            "server: { certFile: b.pem, keyFile: b.key }",
            "server: { requireClientAuth: true, clientCaFiles: [ca.pem] }",
            "global.tls.frontend.server.certFile",
        ),
        (
            "keyFile: b.key }",
            "keyFile: b.key, clientCaFiles: [ca.pem] }",
            "nobody would be asked",
        ),
    ];
    for (right, wrong, expected) in cases {
        assert!(text.contains(right), "{right}");
        let told = parsed(&text.replace(right, wrong)).expect_err(wrong);
        assert!(told.contains(expected), "{wrong}: {told}");
    }
    // Without the group, other machines would find a port that trusts everybody.
    let (before, after) = text.split_once("    peer:").expect("has one");
    let (_, after) = after.split_once("    remoteClusters:").expect("has one");
    let text = format!("{before}    remoteClusters:{after}");
    let told = parsed(&text).expect_err("plain peer port");
    assert!(
        told.contains("global.tls.peer.server.requireClientAuth"),
        "{told}"
    );
    parsed(&text.replace("bindOnIP: 0.0.0.0", "bindOnIP: 127.0.0.1")).expect("on loopback");
}

#[test]
fn two_uses_of_one_port_are_named_together() {
    let all: std::collections::BTreeSet<_> = Role::ALL.into_iter().collect();
    parsed(GOOD)
        .expect("good")
        .check_ports(&all)
        .expect("different");
    let cases = [
        (
            "grpcPort: 8233",
            "grpcPort: 9090",
            "services.frontend.rpc.grpcPort",
        ),
        (
            "grpcPort: 8233",
            "grpcPort: 7234",
            "services.frontend.rpc.grpcPort",
        ),
        (
            "grpcPort: 8233",
            "grpcPort: 8233, peerPort: 8233",
            "services.frontend.rpc.grpcPort",
        ),
    ];
    for (right, wrong, expected) in cases {
        let text = GOOD.replace(right, wrong).replace("0.0.0.0", "127.0.0.1");
        let told = parsed(&text)
            .expect("reads")
            .check_ports(&all)
            .expect_err(wrong);
        assert!(told.to_string().contains(expected), "{told}");
    }
    // Services of other processes have ports of their own machines.
    let text = GOOD.replace("grpcPort: 8233", "grpcPort: 7234");
    let alone = [Role::Frontend].into_iter().collect();
    parsed(&text)
        .expect("reads")
        .check_ports(&alone)
        .expect("one service");
}

#[test]
fn keys_of_database_tls_reach_the_driver() {
    let with = |tls: &str| {
        let text = GOOD.replace("user: m", &format!("user: m\n        tls: {tls}"));
        parsed(&text).map(|config| postgres(&config).tls.clone())
    };
    let full = with(
        "{ enabled: true, caFile: ca.pem, certFile: c.pem, keyFile: c.key, enableHostVerification: true }",
    );
    let full = full.expect("good");
    assert_eq!(full.mode, schema_sql::TlsMode::VerifiedHost);
    assert_eq!(full.root_ca, Some("ca.pem".into()));
    assert_eq!(full.certificate, Some(("c.pem".into(), "c.key".into())));
    let modes = [
        ("{ enabled: true }", schema_sql::TlsMode::Required),
        (
            "{ enabled: true, caFile: ca.pem }",
            schema_sql::TlsMode::VerifiedCa,
        ),
        (
            "{ enabled: true, serverName: 127.0.0.1, enableHostVerification: true }",
            schema_sql::TlsMode::VerifiedHost,
        ),
        ("{ enabled: false, caFile: '' }", schema_sql::TlsMode::Unset),
    ];
    for (tls, mode) in modes {
        assert_eq!(with(tls).expect(tls).mode, mode, "{tls}");
    }
    for (tls, expected) in [
        (
            "{ enabled: true, certFile: c.pem }",
            "certFile and keyFile go together",
        ),
        ("{ enabled: false, caFile: ca.pem }", "set it to true"),
        (
            "{ enabled: true, serverName: db.example }",
            "has to be the host of connectAddr",
        ),
        (
            "{ enabled: true, caData: eA== }",
            "caData: is not supported",
        ),
    ] {
        let told = with(tls).expect_err(tls);
        assert!(told.contains(expected), "{tls}: {told}");
    }
    let text = GOOD.replace("user: m", "user: m\n        connectAttributes: { sslmode: verify-full, sslrootcert: ca.pem, search_path: other }");
    let config = parsed(&text).expect("good");
    assert_eq!(
        postgres(&config).tls.mode,
        schema_sql::TlsMode::VerifiedHost
    );
    assert_eq!(
        postgres(&config).settings,
        [("search_path".to_owned(), "other".to_owned())]
    );
}

/// In the shape of the samples that Temporal ships, with every kind of key they have.
const SAMPLE: &str = r#"
log: { stdout: true, level: info }
persistence:
  defaultStore: files
  visibilityStore: files-visibility
  numHistoryShards: 1
  datastores:
    files: &store
      sql:
        user: ""
        password: ""
        pluginName: sqlite
        databaseName: default
        connectAddr: localhost
        connectProtocol: tcp
        connectAttributes: { cache: private, setup: true, journal_mode: wal, synchronous: 2 }
        maxConns: 1
        maxIdleConns: 1
        maxConnLifetime: 1h
        tls: { enabled: false, caFile: "", certFile: "", keyFile: "", enableHostVerification: false, serverName: "" }
    files-visibility: *store
    search: { elasticsearch: { version: v7, url: { scheme: http, host: "127.0.0.1:9200" } } }
global:
  enableGlobalNamespace: true
  enableRemoteAdmin: true
  membership: { maxJoinDuration: 30s, broadcastAddress: 127.0.0.1 }
  pprof: { port: 7936 }
  authorization: { jwtKeyProvider: { keySourceURIs: [] , refreshInterval: 1m }, permissionsClaimName: permissions, authorizer: "", claimMapper: "" }
  metrics: { prometheus: { framework: tally, timerType: histogram, listenAddress: "127.0.0.1:8000" } }
services:
  frontend: { rpc: { grpcPort: 7233, membershipPort: 6933, bindOnLocalHost: true, httpPort: 7243 } }
  history: { rpc: { grpcPort: 7234, membershipPort: 6934, bindOnLocalHost: true } }
clusterMetadata:
  enableGlobalNamespace: true
  failoverVersionIncrement: 10
  masterClusterName: active
  currentClusterName: active
  clusterInformation:
    active: { enabled: true, initialFailoverVersion: 1, rpcName: frontend, rpcAddress: "127.0.0.1:7233", httpAddress: "127.0.0.1:7243" }
    other: { enabled: true, initialFailoverVersion: 2, rpcName: frontend, rpcAddress: "127.0.0.1:8233" }
dcRedirectionPolicy: { policy: noop }
archival: { history: { state: enabled, provider: { filestore: { fileMode: "0666" } } } }
namespaceDefaults: { archival: { history: { state: disabled, URI: "file:///tmp/x" } } }
publicClient: { hostPort: "127.0.0.1:7233" }
dynamicConfigClient: { filepath: dynamic.yaml, pollInterval: 10s }
"#;

#[test]
fn files_of_temporal_load_and_what_has_no_effect_is_named_once() {
    let config = parsed(SAMPLE).expect("loads");
    assert!(config.membership.alone, "one process owns the file");
    let notices = config.notices.join("\n");
    for key in [
        "archival",
        "publicClient",
        "global.pprof",
        "log.stdout",
        "services.frontend.rpc.httpPort",
        "persistence.datastores.files.sql.maxConnLifetime",
        "persistence.datastores.search.elasticsearch",
        "`files-visibility` is not opened",
        "clusterInformation.other: the entry of another cluster is ignored",
    ] {
        assert_eq!(notices.matches(key).count(), 1, "{key} in {notices}");
    }
    assert_eq!(config.notices.len(), 3, "{notices}");
    assert!(parsed(GOOD).expect("good").notices.is_empty());
    // What asks for no file gets none.
    let memory = parsed(&SAMPLE.replace(
        "cache: private, setup: true",
        "mode: memory, cache: private",
    ));
    assert_eq!(memory.expect("loads").datastore, DatastoreConfig::Memory);
    // What would be unsafe to ignore is refused.
    for (right, wrong) in [
        ("synchronous: 2", "synchronous: 0"),
        ("authorizer: \"\"", "authorizer: default"),
        ("level: info", "level: informative"),
    ] {
        parsed(&SAMPLE.replace(right, wrong)).expect_err(wrong);
    }
}
