//! What a peer sees in a handshake before and after files change.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use certs::{ClientAuth, ClientTls, Leaf, Peer, Reload, ServerTls, Source, Store, issue};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Shakes hands and passes one byte each way; tells what each side saw of the other.
async fn meet(server: &ServerTls, client: &ClientTls) -> Result<(Peer, Option<Peer>), String> {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let acceptor = TlsAcceptor::from(
        server
            .config()
            .ok_or("the server has nothing to accept with")?,
    );
    let connector = TlsConnector::from(
        client
            .config()
            .ok_or("the client has nothing to connect with")?,
    );
    let serve = async {
        let mut stream = acceptor
            .accept(far)
            .await
            .map_err(|e| format!("server: {e}"))?;
        let byte = stream.read_u8().await.map_err(|e| format!("server: {e}"))?;
        stream
            .write_u8(byte)
            .await
            .map_err(|e| format!("server: {e}"))?;
        stream.flush().await.map_err(|e| format!("server: {e}"))?;
        let shown = stream
            .get_ref()
            .1
            .peer_certificates()
            .map(|c| Peer::of(&c[0]).unwrap());
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        Ok::<_, String>(shown)
    };
    let call = async {
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = connector
            .connect(name, near)
            .await
            .map_err(|e| format!("client: {e}"))?;
        stream
            .write_u8(7)
            .await
            .map_err(|e| format!("client: {e}"))?;
        stream.flush().await.map_err(|e| format!("client: {e}"))?;
        stream.read_u8().await.map_err(|e| format!("client: {e}"))?;
        Ok::<_, String>(Peer::of(&stream.get_ref().1.peer_certificates().unwrap()[0]).unwrap())
    };
    // Not `try_join`: a side that fails first would hide what the other saw.
    let (shown, seen) = tokio::join!(serve, call);
    match (shown, seen) {
        (Ok(shown), Ok(seen)) => Ok((seen, shown)),
        (shown, seen) => Err(format!("{:?} {:?}", shown.err(), seen.err())),
    }
}

async fn store(dir: &Path, cluster: &str) -> Store {
    let files = issue::issue(dir, &Leaf::new(cluster)).unwrap();
    Store::open(files.mutual()).await.unwrap()
}

#[tokio::test]
async fn both_sides_learn_who_the_other_is() {
    let dir = tempfile::tempdir().unwrap();
    let (east, west) = (
        store(dir.path(), "east").await,
        store(dir.path(), "west").await,
    );
    let (server, client) = meet(&east.server(), &west.client()).await.unwrap();
    assert_eq!(server.common_name.as_deref(), Some("east"));
    assert!(server.dns_names.contains(&"localhost".to_owned()));
    assert_eq!(server.addresses.len(), 2);
    assert_eq!(client.unwrap().common_name.as_deref(), Some("west"));
    let days = east.seconds_left().unwrap() / 86_400;
    assert!((363..=365).contains(&days), "{days}");
}

#[tokio::test]
async fn new_files_count_from_the_next_handshake_on() {
    let dir = tempfile::tempdir().unwrap();
    let (east, west) = (
        store(dir.path(), "east").await,
        store(dir.path(), "west").await,
    );
    let (before, _) = meet(&east.server(), &west.client()).await.unwrap();
    assert_eq!(east.reload_now().await.unwrap(), Reload::Unchanged);

    issue::issue(dir.path(), &Leaf::new("east").renewed()).unwrap();
    // Nobody is told: the watch finds out.
    let watched = east.clone();
    let watch = tokio::spawn(async move { watched.watch(Duration::from_millis(10)).await });
    let after = loop {
        let (seen, _) = meet(&east.server(), &west.client()).await.unwrap();
        if seen.serial != before.serial {
            break seen;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    watch.abort();
    assert_eq!(after.common_name.as_deref(), Some("east"));
}

#[tokio::test]
async fn a_replaced_authority_counts_too() {
    let dir = tempfile::tempdir().unwrap();
    let (east, west) = (
        store(dir.path(), "east").await,
        store(dir.path(), "west").await,
    );
    issue::renew_authority(dir.path()).unwrap();
    issue::issue(dir.path(), &Leaf::new("east")).unwrap();
    assert_eq!(east.reload_now().await.unwrap(), Reload::Published);
    // West still trusts the old authority and shows its old certificate.
    let refused = meet(&east.server(), &west.client()).await.unwrap_err();
    assert!(refused.contains("UnknownIssuer"), "{refused}");
    issue::issue(dir.path(), &Leaf::new("west")).unwrap();
    west.reload_now().await.unwrap();
    meet(&east.server(), &west.client()).await.unwrap();
}

#[tokio::test]
async fn a_foreign_authority_is_refused() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (east, stranger) = (
        store(ours.path(), "east").await,
        store(theirs.path(), "west").await,
    );
    let west = issue::issue(theirs.path(), &Leaf::new("west")).unwrap();
    meet(&east.server(), &stranger.client()).await.unwrap_err();
    // It trusts us, but we do not trust it.
    let trusting = Source {
        trust: vec![ours.path().join("ca.pem")],
        ..west.mutual()
    };
    let trusting = Store::open(trusting).await.unwrap();
    let refused = meet(&east.server(), &trusting.client()).await.unwrap_err();
    assert!(refused.contains("UnknownIssuer"), "{refused}");
    // Nor does it help to show nothing.
    let nameless = Source {
        trust: vec![ours.path().join("ca.pem")],
        ..Source::default()
    };
    let nameless = Store::open(nameless).await.unwrap();
    let refused = meet(&east.server(), &nameless.client()).await.unwrap_err();
    assert!(refused.contains("no certificates"), "{refused}");
    // Who trusts both authorities lets both in.
    let files = issue::issue(ours.path(), &Leaf::new("east")).unwrap();
    let both = vec![files.ca.clone(), theirs.path().join("ca.pem")];
    let both = Store::open(Source {
        trust: both,
        ..files.mutual()
    })
    .await
    .unwrap();
    meet(&both.server(), &trusting.client()).await.unwrap();
    // Where clients are not asked, it may come in.
    let files = issue::issue(ours.path(), &Leaf::new("east")).unwrap();
    let open = Source {
        client_auth: ClientAuth::None,
        ..files.mutual()
    };
    let (_, shown) = meet(
        &Store::open(open).await.unwrap().server(),
        &nameless.client(),
    )
    .await
    .unwrap();
    assert!(shown.is_none());
}

#[tokio::test]
async fn an_expired_certificate_is_refused_by_its_owner_and_by_its_peer() {
    let dir = tempfile::tempdir().unwrap();
    let (east, west) = (
        store(dir.path(), "east").await,
        store(dir.path(), "west").await,
    );
    let now = SystemTime::now();
    let day = Duration::from_secs(86_400);
    let files = issue::issue(
        dir.path(),
        &Leaf::new("west").valid(now - day * 2, now - day),
    )
    .unwrap();
    let refused = west.reload_now().await.unwrap_err().to_string();
    assert!(
        refused.contains("west.pem") && refused.contains("expired at"),
        "{refused}"
    );
    // The one before stays in use.
    meet(&east.server(), &west.client()).await.unwrap();
    let error = Store::open(files.mutual())
        .await
        .map(drop)
        .unwrap_err()
        .to_string();
    assert!(error.ends_with("issue it again"), "{error}");

    // One that ends while it is in use is refused by the other side.
    let soon = Leaf::new("west").valid(now - day, now + Duration::from_secs(1));
    issue::issue(dir.path(), &soon).unwrap();
    west.reload_now().await.unwrap();
    let refused = loop {
        match meet(&east.server(), &west.client()).await {
            Ok(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            Err(refused) => break refused,
        }
    };
    assert!(
        refused.contains("expired") || refused.contains("Expired"),
        "{refused}"
    );
    assert!(west.seconds_left().unwrap() <= 0);
}

#[tokio::test]
async fn broken_replacements_leave_the_old_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let (east, west) = (
        store(dir.path(), "east").await,
        store(dir.path(), "west").await,
    );
    let key = dir.path().join("east.key");
    let good = fs::read(&key).unwrap();
    fs::copy(dir.path().join("west.key"), &key).unwrap();
    let error = east.reload_now().await.unwrap_err().to_string();
    assert!(error.contains("east.key: the key does not fit"), "{error}");
    fs::write(dir.path().join("east.pem"), "half a fi").unwrap();
    let error = east.reload_now().await.unwrap_err().to_string();
    assert!(error.contains("east.pem: holds no certificate"), "{error}");
    fs::remove_file(dir.path().join("east.pem")).unwrap();
    let error = east.reload_now().await.unwrap_err().to_string();
    assert!(error.contains("east.pem: cannot be read"), "{error}");
    fs::write(&key, good).unwrap();
    meet(&east.server(), &west.client()).await.unwrap();
    // Before the first valid certificate nothing is accepted.
    let closed = Store::closed(Source::default());
    meet(&closed.server(), &west.client()).await.unwrap_err();
}
