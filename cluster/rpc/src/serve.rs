//! Listeners. Each has an accept loop of its own: a handshake that is slow or fails concerns nobody
//! else, and uses the certificates of the moment. Stopping is polite: the port closes, every connection
//! gets GOAWAY, calls that have begun end.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use certs::{Peer, ServerTls};
use cluster_runtime::{CancellationToken, TaskKind, Tasks};
use parking_lot::Mutex;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::{
    Request,
    service::Routes,
    transport::{Server, server::Connected},
};

mod edge;

use edge::EdgeLayer;

/// The largest message accepted from a client.
pub const PUBLIC_MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A handshake that takes longer is ended.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause between two lines about failed handshakes of one listener.
const SAY_EVERY: Duration = Duration::from_secs(1);
/// Pause after an accept that failed, for instance because no file handle was left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Connections accepted and not yet taken up.
const ACCEPTED_MAX: usize = 64;

/// How connections are kept.
#[derive(Clone, Copy, Debug)]
pub struct ServeOptions {
    /// A silent connection is pinged this often.
    pub ping_every: Duration,
    /// A ping unanswered for this long ends the connection.
    pub ping_timeout: Duration,
    /// After this long a connection is asked to go, which spreads load anew.
    pub age_max: Option<Duration>,
    /// How long calls may still take on a connection that was asked to go.
    pub age_grace: Duration,
    /// HTTP/2 windows for streams and connections; `None` for the defaults of HTTP/2.
    pub window_bytes: Option<u32>,
}

/// A port that is open and not yet served.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    at: SocketAddr,
    tls: Option<ServerTls>,
    options: ServeOptions,
}

impl ServeOptions {
    /// For SDKs, tools and other clusters.
    pub const fn public() -> Self {
        Self {
            ping_every: Duration::from_secs(60),
            ping_timeout: Duration::from_secs(10),
            age_max: Some(Duration::from_secs(5 * 60)),
            // A full poll fits in.
            age_grace: Duration::from_secs(70),
            window_bytes: Some(1024 * 1024),
        }
    }

    /// For processes of the same cluster.
    pub const fn internal() -> Self {
        Self {
            ping_every: Duration::from_secs(10),
            ping_timeout: Duration::from_secs(5),
            age_max: None,
            window_bytes: Some(4 * 1024 * 1024),
            ..Self::public()
        }
    }
}

/// Sets a generated server's message limit and compression: `tuned!(HistoryServiceServer::from_arc(s),
/// INTERNAL_MESSAGE_BYTES_MAX)`. A macro, because generated servers share no trait.
#[macro_export]
macro_rules! tuned {
    ($server:expr, $message_bytes_max:expr) => {
        $server
            .accept_compressed($crate::serve::Gzip)
            .send_compressed($crate::serve::Gzip)
            .max_decoding_message_size($message_bytes_max)
    };
}

#[doc(hidden)]
pub use tonic::codec::CompressionEncoding::Gzip;

/// Who sent the request, as the TLS handshake proved it; `None` without a client certificate.
pub fn peer_of<T>(request: &Request<T>) -> Option<Peer> {
    let certificates = request.peer_certs()?;
    Peer::of(certificates.first()?).ok()
}

impl Listener {
    /// Opens the port; 0 lets the system choose one. Without `tls` connections are plain.
    pub async fn bind(
        at: SocketAddr,
        tls: Option<ServerTls>,
        options: ServeOptions,
    ) -> io::Result<Self> {
        let tcp = TcpListener::bind(at).await?;
        let at = tcp.local_addr()?;
        Ok(Self {
            tcp,
            at,
            tls,
            options,
        })
    }

    /// The address that was bound.
    pub fn address(&self) -> SocketAddr {
        self.at
    }

    /// Serves until the group is told to stop. Whatever breaks is reported by [`Tasks::failed`].
    pub fn serve(self, tasks: &Tasks, name: &'static str, routes: Routes) {
        let token = tasks.token(TaskKind::Server);
        match self.tls.clone() {
            None => {
                let (to, connections) = mpsc::channel(ACCEPTED_MAX);
                let connections = ReceiverStream::new(connections).map(io::Result::Ok);
                self.run(tasks, name, routes, connections, token.clone());
                tasks.spawn(TaskKind::Server, format!("accept {name}"), async move {
                    // Sending fails only when serving has ended.
                    while let Some((stream, _)) = self.accept(&token).await
                        && to.send(stream).await.is_ok()
                    {}
                });
            }
            Some(tls) => {
                let (to, connections) = mpsc::channel(ACCEPTED_MAX);
                let connections = ReceiverStream::new(connections).map(io::Result::Ok);
                self.run(tasks, name, routes, connections, token.clone());
                let group = tasks.clone();
                let refusals = Arc::new(Refusals::new(name));
                tasks.spawn(TaskKind::Server, format!("accept {name}"), async move {
                    while let Some((stream, peer)) = self.accept(&token).await {
                        let (tls, to, refusals) = (tls.clone(), to.clone(), refusals.clone());
                        group.spawn(TaskKind::Background, "handshake", async move {
                            if let Some(stream) = shake_hands(stream, peer, &tls, &refusals).await {
                                let _ = to.send(stream).await;
                            }
                        });
                    }
                });
            }
        }
    }

    /// The next connection; `None` when told to stop.
    async fn accept(&self, token: &CancellationToken) -> Option<(TcpStream, SocketAddr)> {
        loop {
            let accepted = token.run_until_cancelled(self.tcp.accept()).await?;
            match accepted
                .and_then(|(stream, peer)| stream.set_nodelay(true).map(|()| (stream, peer)))
            {
                Ok(accepted) => return Some(accepted),
                Err(error) => {
                    tracing::warn!(address = %self.at, %error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn run<IO>(
        &self,
        tasks: &Tasks,
        name: &'static str,
        routes: Routes,
        connections: impl Stream<Item = io::Result<IO>> + Send + 'static,
        token: CancellationToken,
    ) where
        IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Connected + Unpin + Send + 'static,
        IO::ConnectInfo: Clone + Send + Sync + 'static,
    {
        let mut server = Server::builder()
            .http2_keepalive_interval(Some(self.options.ping_every))
            .http2_keepalive_timeout(Some(self.options.ping_timeout))
            .initial_stream_window_size(self.options.window_bytes)
            .initial_connection_window_size(self.options.window_bytes);
        if let Some(age) = self.options.age_max {
            server = server
                .max_connection_age(age)
                .max_connection_age_grace(self.options.age_grace);
        }
        let serving = server
            .layer(EdgeLayer)
            .add_routes(routes.prepare())
            .serve_with_incoming_shutdown(connections, token.cancelled_owned());
        let group = tasks.clone();
        tasks.spawn(TaskKind::Server, format!("serve {name}"), async move {
            if let Err(error) = serving.await {
                group.fail(TaskKind::Server, name, error);
            }
        });
        tracing::info!(address = %self.at, listener = name, tls = self.tls.is_some(), "listening");
    }
}

/// Says why handshakes of a listener fail, at most once a second: a peer whose certificate has expired comes
/// again and again.
struct Refusals {
    listener: &'static str,
    said: Mutex<(Option<Instant>, u64)>,
}

impl Refusals {
    fn new(listener: &'static str) -> Self {
        Self {
            listener,
            said: Mutex::default(),
        }
    }

    fn say(&self, peer: SocketAddr, reason: &dyn std::fmt::Display) {
        let mut said = self.said.lock();
        if said.0.is_some_and(|at| at.elapsed() < SAY_EVERY) {
            said.1 += 1;
            return;
        }
        let unsaid = std::mem::take(&mut said.1);
        said.0 = Some(Instant::now());
        tracing::warn!(%peer, listener = self.listener, %reason, unsaid, "TLS handshake failed");
    }
}

async fn shake_hands(
    stream: TcpStream,
    peer: SocketAddr,
    tls: &ServerTls,
    refusals: &Refusals,
) -> Option<TlsStream<TcpStream>> {
    let Some(config) = tls.config() else {
        refusals.say(peer, &"no valid certificate has been loaded yet");
        return None;
    };
    let acceptor = TlsAcceptor::from(Arc::clone(&config));
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            refusals.say(peer, &error);
            None
        }
        Err(_) => {
            refusals.say(peer, &"timed out");
            None
        }
    }
}
