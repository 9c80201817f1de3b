//! Certificates from configuration: one watched store per direction. A file replaced on disk counts from
//! the next handshake on.

use std::{
    collections::{BTreeMap, HashMap},
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

use crate::config::{TlsClient, TlsConfig, TlsGroup};

/// The entry that stands for all remote clusters.
const ANY: &str = "*";

/// What each listener and each dialler uses; `None` is plaintext.
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

    /// Channels to other clusters, each as its host's trust demands.
    pub(crate) fn remote_channels(&self) -> Channels {
        let mut hosts: HashMap<String, Security> = self.remotes.clone().into_iter().collect();
        let otherwise = Box::new(hosts.remove(ANY).unwrap_or_default());
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
        self.tasks
            .spawn(TaskKind::Background, "certificates", async move {
                tokio::join!(watched.watch(every), async {
                    loop {
                        let now = std::time::SystemTime::now();
                        for expiry in watched.expiries().iter() {
                            let file = expiry.file.display().to_string();
                            left.with_label_values(&[&file])
                                .set(expiry.seconds_left(now));
                        }
                        tokio::time::sleep(every).await;
                    }
                })
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
        let source = Source {
            trust: server.client_ca_files.clone(),
            identity: Some(Identity {
                certificate: server.cert_file.clone(),
                key: server.key_file.clone(),
            }),
            client_auth: if server.require_client_auth {
                ClientAuth::Required
            } else {
                ClientAuth::None
            },
            ..Default::default()
        };
        let store = self.open(source).await.with_context(|| key.to_owned())?;
        Ok(Some(store.server()))
    }

    async fn dial(&self, group: &TlsGroup) -> anyhow::Result<Security> {
        let trust = group.client.root_ca_files.clone();
        if trust.is_empty() && !group.client.force_tls {
            return Ok(Security::Plain);
        }
        let source = Source {
            trust,
            identity: identity(&group.client, group),
            ..Default::default()
        };
        let tls: ClientTls = self.open(source).await?.client();
        Ok(Security::Tls {
            tls,
            server_name: Some(group.client.server_name.clone()).filter(|n| !n.is_empty()),
        })
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
