//! One connection, from the first byte to the last: handshake, calls, and the reasons for which it is asked to
//! go or closed. What one client can make the process hold is bounded per connection.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use certs::ServerTls;
use cluster_runtime::{CancellationToken, Sampled};
use hyper::{
    body::{Body as HttpBody, Frame, Incoming, SizeHint},
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, BufReader},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_rustls::TlsAcceptor;
use tonic::{Status, body::Body, service::Routes, transport::server::Connected};
use tower::Service;

use super::{Gate, Gated, ServeOptions, Watched, edge::Edge};
use crate::deadline;

/// Enough for the first bytes of a client; whatever reads more goes around it.
const FIRST_BYTES: usize = 64;

/// State that all connections of a listener share.
pub(super) struct Served {
    pub(super) routes: Routes,
    pub(super) tls: Option<ServerTls>,
    pub(super) gate: Option<Arc<dyn Gate>>,
    pub(super) options: ServeOptions,
    pub(super) refusals: Sampled,
    pub(super) watched: Watched,
    pub(super) token: CancellationToken,
}

/// State that the calls of one connection share; every request has it among its extensions.
#[derive(Debug)]
pub struct Connection {
    begun: Instant,
    calls: AtomicUsize,
    /// When the last call ended, in milliseconds since `begun`.
    ended_ms: AtomicU64,
    receiving: AtomicUsize,
    receiving_max: usize,
    reads: Arc<Semaphore>,
    unread: AtomicUsize,
    unread_max: usize,
}

/// The permit for an unread answer, under its connection's limits. Put among the extensions of the response, it
/// is given back when the client has taken the answer.
#[derive(Clone, Debug)]
pub struct Unread {
    _guard: Arc<Guard>,
}

#[derive(Debug)]
enum Guard {
    Turn { _permit: OwnedSemaphorePermit },
    Bytes(Arc<Connection>, usize),
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Self::Bytes(connection, bytes) = self {
            connection.unread.fetch_sub(*bytes, Ordering::Relaxed);
        }
    }
}

impl Connection {
    fn new(options: &ServeOptions) -> Arc<Self> {
        Arc::new(Self {
            begun: Instant::now(),
            calls: AtomicUsize::new(0),
            ended_ms: AtomicU64::new(0),
            receiving: AtomicUsize::new(0),
            receiving_max: options.receiving_bytes_max,
            reads: Arc::new(Semaphore::new(options.reads_max)),
            unread: AtomicUsize::new(0),
            unread_max: options.unread_bytes_max,
        })
    }

    /// Waits until the client has taken enough of its earlier answers. A client that asks for much and reads
    /// nothing waits here, before anything is read for it.
    pub async fn turn_to_read(&self) -> Option<Unread> {
        let permit = self.reads.clone().acquire_owned().await.ok()?;
        let guard = Arc::new(Guard::Turn { _permit: permit });
        Some(Unread { _guard: guard })
    }

    /// Counts an answer that is there; `None` when the client has left too many bytes untaken.
    pub fn hold(self: &Arc<Self>, bytes: usize) -> Option<Unread> {
        let before = self.unread.fetch_add(bytes, Ordering::Relaxed);
        let guard = Arc::new(Guard::Bytes(self.clone(), bytes));
        (before + bytes <= self.unread_max).then_some(Unread { _guard: guard })
    }

    /// How long no call has been under way; `None` while one is.
    fn idle(&self) -> Option<Duration> {
        if self.calls.load(Ordering::Acquire) > 0 {
            return None;
        }
        let ended = Duration::from_millis(self.ended_ms.load(Ordering::Acquire));
        Some(self.begun.elapsed().saturating_sub(ended))
    }
}

/// A call under way on a connection.
pub(super) struct Call(Arc<Connection>);

impl Call {
    fn begin(connection: &Arc<Connection>) -> Self {
        connection.calls.fetch_add(1, Ordering::AcqRel);
        Self(connection.clone())
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let now = u64::try_from(self.0.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.ended_ms.store(now, Ordering::Release);
        self.0.calls.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Served {
    /// Serves one connection to its end; why it ended.
    pub(super) async fn connection(&self, stream: TcpStream, peer: SocketAddr) -> &'static str {
        let Some(tls) = &self.tls else {
            return self.calls(stream).await;
        };
        let Some(config) = tls.config() else {
            self.refuse(peer, &"no valid certificate has been loaded yet");
            return "handshake";
        };
        let accepting = TlsAcceptor::from(config).accept(stream);
        match tokio::time::timeout(self.options.handshake_timeout, accepting).await {
            Ok(Ok(stream)) => self.calls(stream).await,
            Ok(Err(error)) => {
                self.refuse(peer, &error);
                "handshake"
            }
            Err(_) => {
                self.refuse(peer, &"timed out");
                "handshake"
            }
        }
    }

    /// A peer whose certificate has expired comes again and again: one line a second tells of it.
    fn refuse(&self, peer: SocketAddr, reason: &dyn std::fmt::Display) {
        let listener = self.watched.listener;
        self.refusals.say(|unsaid| {
            tracing::warn!(%peer, listener, %reason, unsaid, "TLS handshake failed");
        });
    }

    async fn calls<IO>(&self, stream: IO) -> &'static str
    where
        IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    {
        let options = &self.options;
        let info = stream.connect_info();
        let mut stream = BufReader::with_capacity(FIRST_BYTES, stream);
        let first = tokio::time::timeout(options.handshake_timeout, stream.fill_buf()).await;
        match first {
            Ok(Ok([_, ..])) => {}
            Ok(_) => return "left",
            Err(_) => return "silent",
        }
        let connection = Connection::new(options);
        let (routes, shared) = (self.routes.clone(), connection.clone());
        let gate = self.gate.clone();
        let service = service_fn(move |request: http::Request<Incoming>| {
            let call = Call::begin(&shared);
            let admitted = match &gate {
                Some(gate) => gate.admit(request.uri().path()),
                None => Ok(()),
            };
            let timeout = deadline::timeout_in(request.headers());
            let answer = admitted.map(|()| {
                let mut request = request.map(|body| Body::new(Counted::new(body, &shared)));
                let extensions = request.extensions_mut();
                extensions.insert(info.clone());
                extensions.insert(shared.clone());
                if gate.is_some() {
                    extensions.insert(Gated);
                }
                Edge::new(routes.clone()).call(request)
            });
            async move {
                let mut response = match answer {
                    Ok(answer) => within(timeout, answer).await?,
                    Err(refused) => refused.into_http(),
                };
                let unread = response.extensions_mut().remove::<Unread>();
                Ok::<_, Infallible>(response.map(|body| ResponseBody::new(body, unread, call)))
            }
        });
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .initial_connection_window_size(options.window_bytes)
            .initial_stream_window_size(options.window_bytes)
            .max_concurrent_streams(options.streams_max)
            .max_header_list_size(options.header_bytes_max)
            .keep_alive_interval(Some(options.ping_every))
            .keep_alive_timeout(options.ping_timeout);
        let serving = builder.serve_connection(TokioIo::new(stream), service);
        self.until_it_ends(pin!(serving), &connection).await
    }

    /// Drives a connection, and asks it to go when it is old, idle, or when the process stops.
    async fn until_it_ends<C>(
        &self,
        mut serving: Pin<&mut C>,
        connection: &Connection,
    ) -> &'static str
    where
        C: Future<Output = hyper::Result<()>> + Leave,
    {
        let far = Duration::from_secs(86_400 * 365);
        let old = connection.begun + self.options.age_max.unwrap_or(far);
        let mut why = "left";
        let mut look = self.options.idle_max.map(|idle| connection.begun + idle);
        let mut leaves_at: Option<Instant> = None;
        loop {
            let next = leaves_at.unwrap_or_else(|| look.map_or(old, |look| look.min(old)));
            tokio::select! {
                ended = serving.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a connection broke");
                        return if leaves_at.is_some() { why } else { "broken" };
                    }
                    return why;
                }
                () = self.token.cancelled(), if leaves_at.is_none() => {
                    why = "stopping";
                    // The code that stops the process has a deadline of its own.
                    leaves_at = Some(Instant::now() + far);
                    serving.as_mut().leave();
                }
                () = tokio::time::sleep_until(next) => {
                    if leaves_at.is_some() {
                        return why;
                    }
                    let now = Instant::now();
                    match (self.options.idle_max, connection.idle()) {
                        _ if now >= old => why = "old",
                        (Some(most), Some(idle)) if idle >= most => why = "idle",
                        (Some(most), Some(idle)) => {
                            look = Some(now + (most - idle));
                            continue;
                        }
                        (Some(most), None) => {
                            look = Some(now + most);
                            continue;
                        }
                        (None, _) => continue,
                    }
                    leaves_at = Some(now + self.options.age_grace);
                    serving.as_mut().leave();
                }
            }
        }
    }
}

/// The answer, or the status of one that took longer than the caller waits.
async fn within(
    timeout: Option<Duration>,
    answer: impl Future<Output = Result<http::Response<Body>, Infallible>>,
) -> Result<http::Response<Body>, Infallible> {
    let Some(timeout) = timeout else {
        return answer.await;
    };
    let answered = tokio::time::timeout(timeout, answer).await;
    answered
        .unwrap_or_else(|_| Ok(Status::deadline_exceeded("context deadline exceeded").into_http()))
}

/// A connection that can be asked to go: it takes no new calls, and ends with those under way.
trait Leave {
    fn leave(self: Pin<&mut Self>);
}

impl<I, S, E, B> Leave for http2::Connection<I, S, E>
where
    S: hyper::service::HttpService<Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    B: HttpBody + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    E: hyper::rt::bounds::Http2ServerConnExec<S::Future, B>,
{
    fn leave(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// A request's body, whose bytes count until the call has it whole.
struct Counted {
    body: Incoming,
    connection: Arc<Connection>,
    bytes: usize,
}

impl Counted {
    fn new(body: Incoming, connection: &Arc<Connection>) -> Self {
        Self {
            body,
            connection: connection.clone(),
            bytes: 0,
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.connection
            .receiving
            .fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            self.bytes += data.len();
            let before = self
                .connection
                .receiving
                .fetch_add(data.len(), Ordering::Relaxed);
            if before + data.len() > self.connection.receiving_max {
                let limit = self.connection.receiving_max;
                return Poll::Ready(Some(Err(Status::resource_exhausted(format!(
                    "unfinished requests of this connection hold more than {limit} bytes"
                ))
                .into())));
            }
        }
        polled.map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A response's body, with what is held until the client has taken it.
pub(super) struct ResponseBody {
    body: Body,
    _unread: Option<Unread>,
    _call: Call,
}

impl ResponseBody {
    fn new(body: Body, unread: Option<Unread>, call: Call) -> Self {
        Self {
            body,
            _unread: unread,
            _call: call,
        }
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn connection() -> Arc<Connection> {
        Connection::new(&ServeOptions {
            reads_max: 2,
            unread_bytes_max: 10,
            ..ServeOptions::public()
        })
    }

    #[tokio::test]
    async fn a_client_that_takes_no_answers_waits_with_its_next_read() {
        let connection = connection();
        let turn = || connection.turn_to_read().now_or_never();
        let (first, _second) = (turn().unwrap().unwrap(), turn().unwrap().unwrap());
        assert!(turn().is_none());
        drop(first);
        assert!(turn().is_some());
    }

    #[tokio::test]
    async fn answers_that_nobody_takes_hold_so_many_bytes_and_no_more() {
        let connection = connection();
        let six = connection.hold(6).unwrap();
        assert!(connection.hold(5).is_none());
        let _four = connection.hold(4).unwrap();
        assert!(connection.hold(1).is_none());
        drop(six);
        assert!(connection.hold(6).is_some());
    }
}
