//! Connections to other processes: one lazy channel per address (or several, when asked), kept alive by
//! pings so that a network that heals is noticed, and secured with the TLS configuration of the moment
//! at every new connection.

use std::{collections::HashMap, fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use certs::ClientTls;
use hyper_util::rt::TokioIo;
use parking_lot::RwLock;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::{
    Status,
    transport::{Channel, Endpoint, Uri},
};

use crate::status;

/// The largest message accepted from another server.
pub const INTERNAL_MESSAGE_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Where a process listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// By number.
    Socket(SocketAddr),
    /// By `host:port`; the name is resolved at every new connection.
    Named(Arc<str>),
}

/// How connections are secured.
#[derive(Clone, Debug, Default)]
pub enum Security {
    /// Not at all.
    #[default]
    Plain,
    /// By TLS.
    Tls {
        /// Whom to trust, and who we are.
        tls: ClientTls,
        /// The name the peer must prove; by default the host of its address.
        server_name: Option<String>,
    },
    /// By the host of the address, as other clusters may each want another way.
    ByHost {
        /// The hosts with a way of their own.
        hosts: Arc<HashMap<String, Security>>,
        /// All other hosts.
        otherwise: Box<Security>,
    },
    /// No connection is opened: nothing says how it is to be secured. The text says what to do.
    Refused(Arc<str>),
}

/// How connections are kept.
#[derive(Clone, Copy, Debug)]
pub struct ChannelOptions {
    /// How long opening a connection may take.
    pub connect_timeout: Duration,
    /// A silent connection is pinged this often. Servers of the Go implementation refuse less than 10 s.
    pub ping_every: Duration,
    /// A ping unanswered for this long ends the connection.
    pub ping_timeout: Duration,
    /// HTTP/2 windows for streams and connections; `None` for the defaults of HTTP/2.
    pub window_bytes: Option<u32>,
}

/// A pool of channels. Cheap to clone.
#[derive(Clone)]
pub struct Channels(Arc<ChannelsInner>);

struct ChannelsInner {
    security: Security,
    options: ChannelOptions,
    open: RwLock<HashMap<(Address, usize), Channel>>,
}

#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error("no valid certificate has been loaded yet")]
    NoCertificate,
    #[error("{0:?} cannot be the name in a certificate")]
    ServerName(String),
    #[error("connect to {0}")]
    Connect(String, #[source] io::Error),
    #[error("TLS handshake with {0}")]
    Handshake(String, #[source] io::Error),
}

impl Security {
    /// The TLS configuration for connections to the host; `None` when they are plain, an error when none may be made.
    fn tls_for(&self, host: &str) -> Result<Option<(&ClientTls, Option<&str>)>, Status> {
        match self {
            Self::Plain => Ok(None),
            Self::Tls { tls, server_name } => Ok(Some((tls, server_name.as_deref()))),
            Self::ByHost { hosts, otherwise } => hosts.get(host).unwrap_or(otherwise).tls_for(host),
            Self::Refused(remedy) => Err(status::failed_precondition(format!(
                "no connection to {host}: {remedy}"
            ))),
        }
    }
}

impl ChannelOptions {
    /// For processes of the same cluster: quick to notice a dead peer.
    pub const fn within_cluster() -> Self {
        Self {
            connect_timeout: Duration::from_secs(2),
            ping_every: Duration::from_secs(5),
            ping_timeout: Duration::from_secs(3),
            window_bytes: Some(4 * 1024 * 1024),
        }
    }

    /// For other clusters, perhaps far away and perhaps of another implementation.
    pub const fn between_clusters() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            ping_every: Duration::from_secs(15),
            ping_timeout: Duration::from_secs(10),
            window_bytes: Some(16 * 1024 * 1024),
        }
    }
}

impl Channels {
    /// An empty pool.
    pub fn new(security: Security, options: ChannelOptions) -> Self {
        Self(Arc::new(ChannelsInner {
            security,
            options,
            open: RwLock::default(),
        }))
    }

    /// The channel to this address. It connects at its first use, and again whenever it must.
    pub fn get(&self, to: impl Into<Address>) -> Result<Channel, Status> {
        self.get_nth(to, 0)
    }

    /// One of several connections to the same address, each with its own number.
    pub fn get_nth(&self, to: impl Into<Address>, nth: usize) -> Result<Channel, Status> {
        let key = (to.into(), nth);
        if let Some(channel) = self.0.open.read().get(&key) {
            return Ok(channel.clone());
        }
        let made = self.0.channel(&key.0)?;
        Ok(self.0.open.write().entry(key).or_insert(made).clone())
    }

    /// Closes the channels to this address once they are not in use, for a peer that has gone or moved.
    pub fn forget(&self, to: impl Into<Address>) {
        let to = to.into();
        self.0.open.write().retain(|(address, _), _| *address != to);
    }
}

impl ChannelsInner {
    fn channel(&self, to: &Address) -> Result<Channel, Status> {
        let bad = |e: &dyn fmt::Display| {
            status::invalid_argument(format!(
                "address {to} cannot be called: {e}; it must be host:port"
            ))
        };
        let endpoint = Endpoint::from_shared(format!("http://{to}")).map_err(|e| bad(&e))?;
        let host = endpoint.uri().host().unwrap_or_default().to_owned();
        if host.is_empty() || endpoint.uri().port().is_none() {
            return Err(bad(&"host or port is missing"));
        }
        let endpoint = endpoint
            .connect_timeout(self.options.connect_timeout)
            .http2_keep_alive_interval(self.options.ping_every)
            .keep_alive_timeout(self.options.ping_timeout)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(self.options.window_bytes)
            .initial_connection_window_size(self.options.window_bytes);
        let to = to.to_string();
        let Some((tls, server_name)) = self.security.tls_for(&host)? else {
            let connector = tower::service_fn(move |_: Uri| {
                let to = to.clone();
                async move { connect(&to).await.map(TokioIo::new) }
            });
            return Ok(endpoint.connect_with_connector_lazy(connector));
        };
        let origin = Uri::try_from(format!("https://{to}")).map_err(|e| bad(&e))?;
        let (tls, name) = (tls.clone(), server_name.map_or(host, str::to_owned));
        let connector = tower::service_fn(move |_: Uri| {
            let (to, name, tls) = (to.clone(), name.clone(), tls.clone());
            async move { secure(&to, name, &tls).await.map(TokioIo::new) }
        });
        Ok(endpoint
            .origin(origin)
            .connect_with_connector_lazy(connector))
    }
}

async fn connect(to: &str) -> Result<TcpStream, ConnectError> {
    let failed = |e| ConnectError::Connect(to.to_owned(), e);
    let stream = TcpStream::connect(to).await.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    Ok(stream)
}

async fn secure(
    to: &str,
    name: String,
    tls: &ClientTls,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, ConnectError> {
    let config = tls.config().ok_or(ConnectError::NoCertificate)?;
    // The host of a numeric IPv6 address comes in brackets.
    let bare = name
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let server_name = ServerName::try_from(bare).map_err(|_| ConnectError::ServerName(name))?;
    let stream = connect(to).await?;
    TlsConnector::from(config)
        .connect(server_name, stream)
        .await
        .map_err(|e| ConnectError::Handshake(to.to_owned(), e))
}

impl fmt::Debug for Channels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Channels({} open)", self.0.open.read().len())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(at) => at.fmt(f),
            Self::Named(at) => f.write_str(at),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(at: SocketAddr) -> Self {
        Self::Socket(at)
    }
}

impl From<&str> for Address {
    fn from(text: &str) -> Self {
        text.parse()
            .map_or_else(|_| Self::Named(Arc::from(text)), Self::Socket)
    }
}

impl From<String> for Address {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}
