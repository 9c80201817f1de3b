//! Certificates from configuration: one watched store per direction. A file replaced on disk counts from
//! the next handshake on.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use certs::{ClientAuth, ClientTls, Identity, ServerTls, Source, Store};
use cluster_rpc::{ChannelOptions, Channels, Security};
use cluster_runtime::{
    task::{TaskKind, Tasks},
    telemetry::Metrics,
};

use namespaces::Clusters;
use prometheus::IntGaugeVec;

use crate::config::{ANY, TlsClient, TlsConfig, TlsGroup, TlsServer};

/// The TLS of each listener and each client; `None` is plaintext.
pub(crate) struct Certificates {
    /// Listeners of history, matching and worker.
    pub(crate) internode: Option<ServerTls>,
    /// The public port.
    pub(crate) frontend: Option<ServerTls>,
    /// The port for other clusters, where there is one.
    pub(crate) peer: Option<ServerTls>,
    /// Dialling within the cluster.
    pub(crate) within: Security,
    /// Dialling other clusters, by host.
    pub(crate) remotes: BTreeMap<String, Security>,
}

impl Certificates {
    /// Loads everything; a file that cannot be used is an error that names it.
    pub(crate) async fn load(
        tls: &TlsConfig,
        tasks: &Tasks,
        metrics: &Metrics,
    ) -> anyhow::Result<Self> {
        let watch = Watch {
            every: tls.refresh.unwrap_or(Store::LOOK_EVERY),
            tasks,
            metrics,
        };
        let mut remotes = BTreeMap::new();
        for (address, group) in &tls.remotes {
            let security = watch.dial(group).await;
            let security =
                security.with_context(|| format!("global.tls.remoteClusters.{address}"))?;
            remotes.insert(address.clone(), security);
        }
        let within = match &tls.internode {
            Some(group) => watch
                .dial(group)
                .await
                .context("global.tls.internode.client")?,
            None => Security::Plain,
        };
        Ok(Self {
            internode: watch
                .serve("global.tls.internode.server", tls.internode.as_ref())
                .await?,
            frontend: watch
                .serve("global.tls.frontend.server", tls.frontend.as_ref())
                .await?,
            peer: watch
                .serve("global.tls.peer.server", tls.peer.as_ref())
                .await?,
            within,
            remotes,
        })
    }

    /// Whether every connected cluster has a way to be called: an address that `remoteClusters` does not
    /// name would be a connection that never works.
    pub(crate) fn check_remotes(&self, clusters: &Clusters) -> anyhow::Result<()> {
        for remote in clusters.remotes() {
            let (host, _) = remote.address.rsplit_once(':').unwrap_or_default();
            let host_named = self.remotes.contains_key(host) || self.remotes.contains_key(ANY);
            if self.remotes.is_empty() {
                let is_near =
                    host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
                if !is_near {
                    tracing::warn!(remote_cluster = %remote.name, address = remote.address,
                        "this cluster is called in plaintext; name it in global.tls.remoteClusters to use TLS");
                }
                continue;
            }
            anyhow::ensure!(
                host_named,
                "global.tls.remoteClusters names {}, but the connected cluster {} is at {}: add an entry for `{host}`, or `*` for all",
                self.remotes.keys().cloned().collect::<Vec<_>>().join(", "),
                remote.name,
                remote.address
            );
        }
        Ok(())
    }

    /// Channels to other clusters, each as its host's trust demands.
    pub(crate) fn remote_channels(&self) -> Channels {
        let mut hosts: HashMap<String, Security> = self.remotes.clone().into_iter().collect();
        let otherwise = match hosts.remove(ANY) {
            Some(any) => any,
            None if hosts.is_empty() => Security::Plain,
            // Some clusters are called with TLS: that another is called in plaintext has to be said.
            None => Security::Refused(
                "it is not among global.tls.remoteClusters; add its host there, or `*` for all"
                    .into(),
            ),
        };
        let otherwise = Box::new(otherwise);
        let hosts = Arc::new(hosts);
        Channels::new(
            Security::ByHost { hosts, otherwise },
            ChannelOptions::between_clusters(),
        )
    }
}

struct Watch<'a> {
    every: Duration,
    tasks: &'a Tasks,
    metrics: &'a Metrics,
}

impl Watch<'_> {
    async fn open(&self, source: Source) -> anyhow::Result<Store> {
        let store = Store::open(source).await?;
        let left = self.metrics.gauges(
            "meridian_certificate_seconds_left",
            "Seconds until a certificate in use ends",
            &["file"],
        );
        let (watched, every) = (store.clone(), self.every);
        // What is wrong with a replacement is logged by the store, once.
        let (kind, name) = (TaskKind::Background, "certificates");
        self.tasks.spawn_restarting(kind, name, move || {
            let (watched, left) = (watched.clone(), left.clone());
            async move { tokio::join!(watched.watch(every), tell_expiries(&watched, &left, every)).1 }
        });
        Ok(store)
    }

    async fn serve(
        &self,
        key: &str,
        group: Option<&TlsGroup>,
    ) -> anyhow::Result<Option<ServerTls>> {
        let Some(server) = group
            .map(|g| &g.server)
            .filter(|s| !s.cert_file.as_os_str().is_empty())
        else {
            return Ok(None);
        };
        let source = listening(server);
        let store = self.open(source).await.with_context(|| key.to_owned())?;
        Ok(Some(store.server()))
    }

    async fn dial(&self, group: &TlsGroup) -> anyhow::Result<Security> {
        let tls: ClientTls = self.open(dialling(group)).await?.client();
        Ok(Security::Tls {
            tls,
            server_name: Some(group.client.server_name.clone()).filter(|n| !n.is_empty()),
        })
    }
}

async fn tell_expiries(watched: &Store, left: &IntGaugeVec, every: Duration) {
    loop {
        let now = std::time::SystemTime::now();
        for expiry in watched.expiries().iter() {
            let file = expiry.file.display().to_string();
            let seconds = expiry.seconds_left(now);
            left.with_label_values(&[&file]).set(seconds);
        }
        tokio::time::sleep(every).await;
    }
}

/// Looks at every file that the configuration names, without watching any.
pub(crate) async fn check(tls: &TlsConfig) -> anyhow::Result<()> {
    let listeners = [
        ("global.tls.internode.server", &tls.internode),
        ("global.tls.frontend.server", &tls.frontend),
        ("global.tls.peer.server", &tls.peer),
    ];
    for (key, group) in listeners {
        if let Some(group) = group {
            let opened = Store::open(listening(&group.server)).await;
            opened.with_context(|| key.to_owned())?;
        }
    }
    let mut diallers: Vec<_> = tls
        .remotes
        .iter()
        .map(|(host, group)| (format!("global.tls.remoteClusters.{host}"), group))
        .collect();
    if let Some(group) = &tls.internode {
        diallers.push(("global.tls.internode.client".to_owned(), group));
    }
    for (key, group) in diallers {
        Store::open(dialling(group)).await.context(key)?;
    }
    Ok(())
}

fn listening(server: &TlsServer) -> Source {
    Source {
        trust: server.client_ca_files.clone(),
        identity: Some(Identity {
            certificate: server.cert_file.clone(),
            key: server.key_file.clone(),
        }),
        client_auth: match server.require_client_auth {
            true => ClientAuth::Required,
            false => ClientAuth::None,
        },
        ..Default::default()
    }
}

fn dialling(group: &TlsGroup) -> Source {
    Source {
        trust: group.client.root_ca_files.clone(),
        identity: identity(&group.client, group),
        ..Default::default()
    }
}

/// The client's own certificate, or the server's, which serves for both in most deployments.
fn identity(client: &TlsClient, group: &TlsGroup) -> Option<Identity> {
    let pairs = [
        (&client.cert_file, &client.key_file),
        (&group.server.cert_file, &group.server.key_file),
    ];
    pairs
        .into_iter()
        .find(|(certificate, _)| !certificate.as_os_str().is_empty())
        .map(|(certificate, key)| Identity {
            certificate: certificate.clone(),
            key: key.clone(),
        })
}
