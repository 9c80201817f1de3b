//! Connections to a frontend: a few HTTP/2 channels shared by every call, with keep-alive, no Nagle
//! delay, and optional TLS from files. Channels reconnect by themselves; [`Connections::reload`] reads
//! certificate files again, for tests that replace them.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use parking_lot::RwLock;
use proto_services::temporal::api::workflowservice::v1::workflow_service_client::WorkflowServiceClient;
use tonic::{
    Request,
    metadata::MetadataValue,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

/// The generated client of the public API.
pub type Api = WorkflowServiceClient;

/// Largest message accepted from a frontend; histories of drills stay far below.
const MESSAGE_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Where certificates for talking to a frontend come from.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Authorities to trust, as a PEM file.
    pub ca: Option<PathBuf>,
    /// The client's own certificate, as a PEM file.
    pub cert: Option<PathBuf>,
    /// The key of [`Self::cert`].
    pub key: Option<PathBuf>,
    /// The name expected in the server's certificate; the address's host when absent.
    pub server_name: Option<String>,
}

/// A frontend, or several of one cluster.
#[derive(Clone, Debug)]
pub struct Target {
    /// `host:port` of each frontend; connections are spread over them.
    pub addresses: Vec<String>,
    /// Absent for plaintext.
    pub tls: Option<Tls>,
    /// How many HTTP/2 connections to open in all.
    pub connections: usize,
}

impl Target {
    /// One plaintext frontend.
    pub fn plain(address: impl Into<String>) -> Self {
        Self {
            addresses: vec![address.into()],
            tls: None,
            connections: 1,
        }
    }

    fn endpoint(&self, address: &str) -> anyhow::Result<Endpoint> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))
            .with_context(|| format!("read address {address}"))?
            .tcp_nodelay(true)
            .connect_timeout(Duration::from_secs(5))
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(10))
            .keep_alive_while_idle(true)
            .initial_connection_window_size(4 * 1024 * 1024)
            .initial_stream_window_size(1024 * 1024);
        match &self.tls {
            Some(tls) => Ok(endpoint.tls_config(tls.config()?)?),
            None => Ok(endpoint),
        }
    }
}

impl Tls {
    fn config(&self) -> anyhow::Result<ClientTlsConfig> {
        let mut config = ClientTlsConfig::new();
        if let Some(ca) = &self.ca {
            config = config.ca_certificate(Certificate::from_pem(read(ca)?));
        }
        match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => {
                config = config.identity(Identity::from_pem(read(cert)?, read(key)?));
            }
            (None, None) => {}
            _ => anyhow::bail!("a client certificate needs both its certificate and its key file"),
        }
        if let Some(name) = &self.server_name {
            config = config.domain_name(name.clone());
        }
        Ok(config)
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("read {}", path.display()))
}

/// A cheap handle on the open channels; calls take them in turn.
#[derive(Clone)]
pub struct Connections {
    shared: Arc<Shared>,
}

struct Shared {
    target: Target,
    channels: RwLock<Vec<Channel>>,
    next: AtomicUsize,
}

impl Connections {
    /// Prepares channels; they connect on first use and reconnect when broken, so a frontend that is
    /// down is seen as failing calls and not here.
    pub fn open(target: Target) -> anyhow::Result<Self> {
        anyhow::ensure!(!target.addresses.is_empty(), "no frontend address given");
        let channels = RwLock::new(channels(&target)?);
        Ok(Self {
            shared: Arc::new(Shared {
                target,
                channels,
                next: AtomicUsize::new(0),
            }),
        })
    }

    /// A client on the next channel in turn.
    pub fn api(&self) -> Api {
        WorkflowServiceClient::new(self.channel())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// The next channel in turn, for clients of other services.
    pub fn channel(&self) -> Channel {
        let channels = self.shared.channels.read();
        let turn = self.shared.next.fetch_add(1, Ordering::Relaxed);
        channels[turn % channels.len()].clone()
    }

    /// Replaces all channels by new ones made from the certificate files as they are now.
    pub fn reload(&self) -> anyhow::Result<()> {
        let fresh = channels(&self.shared.target)?;
        *self.shared.channels.write() = fresh;
        Ok(())
    }

    /// The addresses, for messages.
    pub fn addresses(&self) -> String {
        self.shared.target.addresses.join(", ")
    }
}

fn channels(target: &Target) -> anyhow::Result<Vec<Channel>> {
    let count = target.connections.max(target.addresses.len()).max(1);
    (0..count)
        .map(|i| {
            let address = &target.addresses[i % target.addresses.len()];
            Ok(target.endpoint(address)?.connect_lazy())
        })
        .collect()
}

/// A request with a deadline that is sent to the server.
pub fn timed<T>(message: T, timeout: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    request
}

/// A request that the receiving cluster must answer itself, even when it is a standby that would
/// otherwise forward it to the active cluster.
pub fn local<T>(message: T, timeout: Duration) -> Request<T> {
    let mut request = timed(message, timeout);
    request
        .metadata_mut()
        .insert("xdc-redirection", MetadataValue::from_static("false"));
    request
}
