//! A TCP proxy that cuts connections at the worst moment.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    thread,
};

/// When to cut. Each cut is done once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Cut {
    /// Never.
    Never = 0,
    /// When the client says something: the server does not hear it.
    Request = 1,
    /// When the server answers: it has done it, the client does not hear so.
    Answer = 2,
}

/// The proxy; its threads end with their connections.
pub(crate) struct Cutter {
    pub(crate) port: u16,
    cut: Arc<AtomicU8>,
}

impl Cutter {
    pub(crate) fn start(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = listener.local_addr().expect("address").port();
        let cut = Arc::new(AtomicU8::new(Cut::Never as u8));
        let shared = cut.clone();
        thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { return };
                let server = TcpStream::connect(("127.0.0.1", target)).expect("connect");
                pump(&client, &server, Cut::Request, shared.clone());
                pump(&server, &client, Cut::Answer, shared.clone());
            }
        });
        Self { port, cut }
    }

    /// Arms the next cut.
    pub(crate) fn arm(&self, cut: Cut) {
        self.cut.store(cut as u8, Ordering::SeqCst);
    }
}

fn pump(from: &TcpStream, to: &TcpStream, here: Cut, cut: Arc<AtomicU8>) {
    let (mut from, mut to) = (
        from.try_clone().expect("clone"),
        to.try_clone().expect("clone"),
    );
    thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(len @ 1..) = from.read(&mut buffer) {
            let never = Cut::Never as u8;
            let is_cut = cut
                .compare_exchange(here as u8, never, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok();
            if is_cut || to.write_all(&buffer[..len]).is_err() {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    });
}
