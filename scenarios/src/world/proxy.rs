//! A link between two clusters: a TCP proxy the drill owns, which can pass, delay or swallow what goes
//! through. A cut link is silent, as a network that drops packets is: connections neither pass anything
//! nor break until the link is mended, when they break so that both ends start anew.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::Context;
use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinSet,
};

/// The mode of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Passes it on.
    Pass,
    /// Passes it on later.
    Delay(Duration),
    /// Swallows it.
    Cut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    mode: Mode,
    /// Connections of an older generation end.
    generation: u64,
}

/// One direction of calling: from one cluster to a frontend of another. Bytes flow both ways through it.
pub(crate) struct Link {
    pub(crate) from: String,
    pub(crate) to: String,
    /// Where the calling cluster connects to.
    pub(crate) address: SocketAddr,
    state: watch::Sender<State>,
    _accepting: JoinSet<()>,
}

impl Link {
    /// Opens a passing link to `target`.
    pub(crate) async fn open(from: &str, to: &str, target: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .context("open a link between clusters")?;
        let address = listener.local_addr()?;
        let (state, seen) = watch::channel(State {
            mode: Mode::Pass,
            generation: 0,
        });
        let mut accepting = JoinSet::new();
        accepting.spawn(accept_forever(listener, target, seen));
        Ok(Self {
            from: from.to_owned(),
            to: to.to_owned(),
            address,
            state,
            _accepting: accepting,
        })
    }

    /// Changes what the link does; mending a cut one breaks the connections that hung.
    pub(crate) fn set(&self, mode: Mode) {
        self.state.send_modify(|state| {
            if state.mode == Mode::Cut && mode != Mode::Cut {
                state.generation += 1;
            }
            state.mode = mode;
        });
    }

    /// Breaks all connections once.
    pub(crate) fn break_connections(&self) {
        self.state.send_modify(|state| state.generation += 1);
    }
}

async fn accept_forever(listener: TcpListener, target: SocketAddr, state: watch::Receiver<State>) {
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((inbound, _)) => {
                connections.spawn(pass(inbound, target, state.clone()));
                while connections.try_join_next().is_some() {}
            }
            Err(error) => {
                tracing::warn!(%error, "a link could not accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// One connection, until either end closes it or its generation is over.
async fn pass(inbound: TcpStream, target: SocketAddr, mut state: watch::Receiver<State>) {
    let born = state.borrow_and_update().generation;
    let mut watched = state.clone();
    let outdated = async move {
        let _ = watched.wait_for(|s| s.generation != born).await;
    };
    let connected = async move {
        let _ = state.wait_for(|s| s.mode != Mode::Cut).await;
        let Ok(outbound) = TcpStream::connect(target).await else {
            return;
        };
        let _ = (inbound.set_nodelay(true), outbound.set_nodelay(true));
        let (in_read, in_write) = inbound.into_split();
        let (out_read, out_write) = outbound.into_split();
        tokio::join!(
            pump(in_read, out_write, state.clone()),
            pump(out_read, in_write, state)
        );
    };
    tokio::select! {
        () = outdated => {}
        () = connected => {}
    }
}

/// Moves bytes one way, each chunk as late as the link's mode says.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut state: watch::Receiver<State>,
) {
    let (send, mut receive) = mpsc::channel::<(Instant, Bytes)>(1024);
    let read = async move {
        let mut buffer = BytesMut::with_capacity(64 * 1024);
        while matches!(from.read_buf(&mut buffer).await, Ok(n) if n > 0) {
            if send
                .send((Instant::now(), buffer.split().freeze()))
                .await
                .is_err()
            {
                return;
            }
            buffer.reserve(64 * 1024);
        }
    };
    let write = async move {
        while let Some((read_at, chunk)) = receive.recv().await {
            let Ok(mode) = state
                .wait_for(|s| s.mode != Mode::Cut)
                .await
                .map(|s| s.mode)
            else {
                return;
            };
            if let Mode::Delay(delay) = mode {
                tokio::time::sleep_until((read_at + delay).into()).await;
            }
            if to.write_all(&chunk).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::join!(read, write);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that sends back what it receives.
    async fn echo() -> (SocketAddr, JoinSet<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                open.spawn(async move {
                    let (mut read, mut write) = stream.into_split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        (address, tasks)
    }

    async fn round_trip(stream: &mut TcpStream) -> std::io::Result<Duration> {
        let begun = Instant::now();
        stream.write_all(b"ping").await?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await?;
        Ok(begun.elapsed())
    }

    #[tokio::test]
    async fn a_cut_link_is_silent_and_breaks_when_mended() {
        let (target, _server) = echo().await;
        let link = Link::open("west", "east", target).await.expect("link");
        let mut stream = TcpStream::connect(link.address).await.expect("connect");
        round_trip(&mut stream).await.expect("passes");

        link.set(Mode::Delay(Duration::from_millis(40)));
        let took = round_trip(&mut stream).await.expect("passes late");
        assert!(took >= Duration::from_millis(80), "{took:?}");

        link.set(Mode::Cut);
        let silent = tokio::time::timeout(Duration::from_millis(100), round_trip(&mut stream));
        assert!(silent.await.is_err(), "nothing passes and nothing breaks");
        let mut late = TcpStream::connect(link.address).await.expect("connects");
        let silent = tokio::time::timeout(Duration::from_millis(50), round_trip(&mut late));
        assert!(silent.await.is_err(), "a new connection is as silent");

        link.set(Mode::Pass);
        assert!(round_trip(&mut stream).await.is_err(), "broken");
        assert!(round_trip(&mut late).await.is_err(), "broken too");
        let mut fresh = TcpStream::connect(link.address).await.expect("connect");
        round_trip(&mut fresh).await.expect("passes again");
    }
}
