//! PostgreSQL that admits nobody without TLS and a client certificate. One test, since starting a server costs seconds.

use std::{
    os::unix::fs::{MetadataExt, chown},
    path::Path,
};

use certs::issue::{Issued, Leaf, issue};
use schema_sql::{Options, Plugin, Postgres, PostgresTls, TlsMode, schema_setup};
use sqlx::Row;

use crate::{acquire, creation, server::Server};

/// A second loopback address, which no certificate names.
const UNNAMED: &str = "127.0.0.2";

/// Makes the server demand certificates of the authority; with what its owner may read.
fn settings(data: &Path, issued: &Issued) -> Vec<String> {
    let owner = std::fs::metadata(data).expect("the data folder");
    let copy = |from: &Path, name: &str| {
        let to = data.join(name);
        std::fs::copy(from, &to).expect("copy");
        chown(&to, Some(owner.uid()), Some(owner.gid())).expect("give away");
        to.display().to_string()
    };
    // The certificate names the user; without encryption there is no line for anybody.
    let admitted = "local all all trust\nhostssl all all 127.0.0.0/8 cert\n";
    std::fs::write(data.join("pg_hba.conf"), admitted).expect("write");
    vec![
        "ssl=on".into(),
        format!("listen_addresses=127.0.0.1,{UNNAMED}"),
        format!("ssl_cert_file={}", copy(&issued.certificate, "server.pem")),
        format!("ssl_key_file={}", copy(&issued.key, "server.key")),
        format!("ssl_ca_file={}", copy(&issued.ca, "ca.pem")),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_asks_for_tls_and_a_certificate_gets_both() {
    let dir = tempfile::tempdir().expect("folder");
    let (ours, others) = (dir.path().join("ours"), dir.path().join("others"));
    let issued = issue(&ours, &Leaf::new("meridian")).expect("issue");
    let foreign = issue(&others, &Leaf::new("meridian")).expect("issue");
    let stranger = issue(&ours, &Leaf::new("stranger")).expect("issue");
    let Some(server) = Server::start_with(|data| settings(data, &issued)).await else {
        return;
    };
    let options = |host: &str, mode, ca: &Issued, own: Option<&Issued>| {
        Options::new(Plugin::Postgres(Postgres {
            host: host.into(),
            port: server.port,
            user: "meridian".into(),
            database: "postgres".into(),
            tls: PostgresTls {
                mode,
                root_ca: Some(ca.ca.clone()),
                certificate: own.map(|own| (own.certificate.clone(), own.key.clone())),
            },
            ..Default::default()
        }))
    };
    let full = options("127.0.0.1", TlsMode::VerifiedHost, &issued, Some(&issued));
    schema_setup(&full).await.expect("set up over TLS");
    let store = schema_sql::open(full).await.expect("open over TLS");
    let fence = acquire(&store).await;
    let committed = store.execution.commit(creation(fence, 1, "w")).await;
    committed.expect("commit over TLS");
    // All of the store's connections, not only the first.
    let mut watch = server.watch().await;
    let used = "SELECT count(*), bool_and(ssl AND client_dn = '/CN=meridian') FROM pg_stat_ssl JOIN pg_stat_activity
        USING (pid) WHERE application_name = 'meridian'";
    let used = sqlx::query(used).fetch_one(&mut watch).await.expect("look");
    assert!(used.get::<i64, _>(0) > 0);
    assert_eq!(used.get::<Option<bool>, _>(1), Some(true));

    let named = "127.0.0.1";
    let by_ca = options(UNNAMED, TlsMode::VerifiedCa, &issued, Some(&issued));
    schema_sql::open(by_ca).await.expect("any name will do");
    let refusals = [
        (
            "another name",
            options(UNNAMED, TlsMode::VerifiedHost, &issued, Some(&issued)),
            "a host that it is for",
        ),
        (
            "another authority",
            options(named, TlsMode::VerifiedHost, &foreign, Some(&issued)),
            "name the CAs of its certificate",
        ),
        (
            "no certificate",
            options(named, TlsMode::VerifiedHost, &issued, None),
            "certificate",
        ),
        (
            "the certificate of another user",
            options(named, TlsMode::VerifiedHost, &issued, Some(&stranger)),
            "refuses user meridian",
        ),
        (
            "no encryption",
            options(named, TlsMode::Disabled, &issued, None),
            "refuses user meridian",
        ),
    ];
    for (what, options, told) in refusals {
        let refused = schema_sql::open(options).await.err();
        let refused = refused.map(|e| e.to_string()).unwrap_or_default();
        assert!(
            refused.contains(told) && refused.contains(&server.port.to_string()),
            "{what}: {refused}"
        );
    }
}
