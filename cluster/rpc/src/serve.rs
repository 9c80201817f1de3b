//! Listeners. Each has an accept loop of its own, and each connection a task of its own: a handshake that is
//! slow or fails does not affect others, and uses the current certificates. Stopping is polite: the port
//! closes, every connection gets GOAWAY, calls that have begun end.

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use certs::{Peer, ServerTls};
use cluster_runtime::{
    AnyKey, CancellationToken, Key, Metrics, Sampled, Settings, TaskKind, Tasks,
};
use prometheus::{IntCounterVec, IntGauge};
use tokio::net::{TcpListener, TcpStream};
use tonic::{Request, Status, service::Routes};

mod connection;
mod edge;

use connection::Served;
pub use connection::{Connection, Unread};

/// The largest message accepted from a client.
pub const PUBLIC_MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Pause after an accept that failed, for instance because no file handle was left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

static IDLE: Key<Duration> = Key::new(
    "frontend.keepAliveMaxConnectionIdle",
    Duration::from_secs(120),
    "A connection without a call for this long is asked to go.",
);
static AGE: Key<Duration> = Key::new(
    "frontend.keepAliveMaxConnectionAge",
    Duration::from_secs(300),
    "A connection of this age is asked to go, which spreads load anew.",
);
static AGE_GRACE: Key<Duration> = Key::new(
    "frontend.keepAliveMaxConnectionAgeGrace",
    // A full poll fits in.
    Duration::from_secs(70),
    "How long calls may still take on a connection that was asked to go.",
);
static PING_EVERY: Key<Duration> = Key::new(
    "frontend.keepAliveTime",
    Duration::from_secs(60),
    "A connection on which nothing is heard for this long is pinged.",
);
static PING_TIMEOUT: Key<Duration> = Key::new(
    "frontend.keepAliveTimeout",
    Duration::from_secs(10),
    "A ping unanswered for this long ends the connection.",
);
static CONNECTIONS: Key<i64> = Key::new(
    "frontend.maxConnections",
    4_096,
    "Connections of one listener; further ones are closed at once.",
);
static STREAMS: Key<i64> = Key::new(
    "frontend.maxConcurrentStreams",
    2_000,
    "Calls at once on one connection; clients hold further ones back.",
);

/// The settings of listeners.
pub static SETTINGS: &[&dyn AnyKey] = &[
    &IDLE,
    &AGE,
    &AGE_GRACE,
    &PING_EVERY,
    &PING_TIMEOUT,
    &CONNECTIONS,
    &STREAMS,
];

/// How connections are kept.
#[derive(Clone, Copy, Debug)]
pub struct ServeOptions {
    /// A handshake, or a client that says nothing after it, is given this long.
    pub handshake_timeout: Duration,
    /// A connection on which nothing is received for this long is pinged.
    pub ping_every: Duration,
    /// A ping unanswered for this long ends the connection.
    pub ping_timeout: Duration,
    /// A connection without a call for this long is asked to go.
    pub idle_max: Option<Duration>,
    /// After this long a connection is asked to go, which spreads load anew.
    pub age_max: Option<Duration>,
    /// How long calls may still take on a connection that was asked to go.
    pub age_grace: Duration,
    /// HTTP/2 windows for streams and connections; `None` for the defaults of HTTP/2.
    pub window_bytes: Option<u32>,
    /// Connections of the listener at once.
    pub connections_max: usize,
    /// Calls at once on one connection.
    pub streams_max: u32,
    /// Bytes of unfinished requests of one connection.
    pub receiving_bytes_max: usize,
    /// Reads of one connection that run or whose answers the client has not taken yet.
    pub reads_max: usize,
    /// Bytes of answers of one connection that were waited for and not taken by the client yet.
    pub unread_bytes_max: usize,
    /// Bytes of the headers of one call.
    pub header_bytes_max: u32,
}

/// Refuses calls before anything of them is read, by their paths. What it lets in carries [`Gated`] among its
/// extensions.
pub trait Gate: Send + Sync + 'static {
    /// Whether the call may come in.
    fn admit(&self, path: &str) -> Result<(), Status>;
}

/// The mark of a call that a [`Gate`] has let in.
#[derive(Clone, Copy, Debug)]
pub struct Gated;

/// A port that is open and not yet served.
pub struct Listener {
    tcp: TcpListener,
    at: SocketAddr,
    tls: Option<ServerTls>,
    options: ServeOptions,
    metrics: Metrics,
    gate: Option<Arc<dyn Gate>>,
}

/// The metrics of a listener.
#[derive(Clone)]
struct Watched {
    open: IntGauge,
    ended: IntCounterVec,
    listener: &'static str,
}

impl ServeOptions {
    /// For SDKs, tools and other clusters.
    pub const fn public() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(5),
            ping_every: Duration::from_secs(60),
            ping_timeout: Duration::from_secs(10),
            idle_max: Some(Duration::from_secs(120)),
            age_max: Some(Duration::from_secs(300)),
            age_grace: Duration::from_secs(70),
            window_bytes: Some(1024 * 1024),
            connections_max: 4_096,
            streams_max: 2_000,
            receiving_bytes_max: 8 * PUBLIC_MESSAGE_BYTES_MAX,
            reads_max: 32,
            unread_bytes_max: 64 * 1024 * 1024,
            header_bytes_max: 16 * 1024,
        }
    }

    /// The same as the settings have it at this moment.
    pub fn public_of(settings: &Settings) -> Self {
        let some = |key| Some(settings.get(key)).filter(|d: &Duration| !d.is_zero());
        let count = |key| usize::try_from(settings.get(key)).unwrap_or(0);
        Self {
            ping_every: settings.get(&PING_EVERY),
            ping_timeout: settings.get(&PING_TIMEOUT),
            idle_max: some(&IDLE),
            age_max: some(&AGE),
            age_grace: settings.get(&AGE_GRACE),
            connections_max: count(&CONNECTIONS),
            streams_max: u32::try_from(count(&STREAMS)).unwrap_or(u32::MAX),
            ..Self::public()
        }
    }

    /// For processes of the same cluster.
    pub const fn internal() -> Self {
        Self {
            ping_every: Duration::from_secs(10),
            ping_timeout: Duration::from_secs(5),
            idle_max: None,
            age_max: None,
            window_bytes: Some(4 * 1024 * 1024),
            // What comes from there was let in by a frontend.
            streams_max: 100_000,
            receiving_bytes_max: 256 * 1024 * 1024,
            reads_max: 4_096,
            unread_bytes_max: 1024 * 1024 * 1024,
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

/// The sender of the request, as the TLS handshake proved it; `None` without a client certificate.
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
            metrics: Metrics::default(),
            gate: None,
        })
    }

    /// Counts its connections there.
    #[must_use]
    pub fn counted(self, metrics: &Metrics) -> Self {
        Self {
            metrics: metrics.clone(),
            ..self
        }
    }

    /// Asks there first.
    #[must_use]
    pub fn gated(self, gate: Option<Arc<dyn Gate>>) -> Self {
        Self { gate, ..self }
    }

    /// The address that was bound.
    pub fn address(&self) -> SocketAddr {
        self.at
    }

    /// Serves until the group is stopped.
    pub fn serve(self, tasks: &Tasks, name: &'static str, routes: Routes) {
        let token = tasks.token(TaskKind::Server);
        let watched = Watched::new(&self.metrics, name);
        let served = Arc::new(Served {
            routes: routes.prepare(),
            tls: self.tls.clone(),
            gate: self.gate.clone(),
            options: self.options,
            refusals: Sampled::default(),
            watched: watched.clone(),
            token: token.clone(),
        });
        tracing::info!(address = %self.at, listener = name, tls = self.tls.is_some(), "listening");
        let group = tasks.clone();
        tasks.spawn(TaskKind::Server, format!("accept {name}"), async move {
            let open = Arc::new(AtomicUsize::new(0));
            let full = Sampled::default();
            while let Some((stream, peer)) = self.accept(&token).await {
                let Some(permit) = Permit::take(&open, self.options.connections_max, &watched) else {
                    watched.ended("too_many");
                    full.say(|unsaid| {
                        tracing::warn!(%peer, listener = name, unsaid, limit = self.options.connections_max,
                            "a connection was refused: there are too many (frontend.maxConnections)");
                    });
                    continue;
                };
                let served = served.clone();
                // Told to stop by the token of servers, and waited for as what it is: calls under way.
                group.spawn(TaskKind::Request, "connection", async move {
                    let how = served.connection(stream, peer).await;
                    served.watched.ended(how);
                    drop(permit);
                });
            }
        });
    }

    /// The next connection; `None` when it is stopped.
    async fn accept(&self, token: &CancellationToken) -> Option<(TcpStream, SocketAddr)> {
        let failures = Sampled::default();
        loop {
            let accepted = token.run_until_cancelled(self.tcp.accept()).await?;
            match accepted
                .and_then(|(stream, peer)| stream.set_nodelay(true).map(|()| (stream, peer)))
            {
                Ok(accepted) => return Some(accepted),
                Err(error) => {
                    failures.say(|unsaid| {
                        tracing::warn!(address = %self.at, %error, unsaid, "a connection could not be accepted");
                    });
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Listener({})", self.at)
    }
}

impl Watched {
    fn new(metrics: &Metrics, listener: &'static str) -> Self {
        let open = metrics.gauges(
            "meridian_connections",
            "Open connections by listener.",
            &["listener"],
        );
        Self {
            open: open.with_label_values(&[listener]),
            ended: metrics.counters(
                "meridian_connections_ended_total",
                "Connections that ended, by listener and reason.",
                &["listener", "reason"],
            ),
            listener,
        }
    }

    fn ended(&self, reason: &str) {
        self.ended.with_label_values(&[self.listener, reason]).inc();
    }
}

/// The permit of a connection among those of its listener.
struct Permit {
    open: Arc<AtomicUsize>,
    gauge: IntGauge,
}

impl Permit {
    fn take(open: &Arc<AtomicUsize>, limit: usize, watched: &Watched) -> Option<Self> {
        // Only the accept loop takes places.
        if open.load(Ordering::Acquire) >= limit {
            return None;
        }
        open.fetch_add(1, Ordering::AcqRel);
        watched.open.inc();
        Some(Self {
            open: open.clone(),
            gauge: watched.open.clone(),
        })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::AcqRel);
        self.gauge.dec();
    }
}
