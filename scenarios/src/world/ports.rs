//! Free ports on the loopback address. They are taken below the range from which outgoing connections
//! get theirs, so that a process can have its port back after a restart.

use std::net::TcpListener;

use anyhow::Context;
use rand::Rng;

/// Where ports are taken from; kernels give outgoing connections ports from 32768 on.
const RANGE: std::ops::Range<u16> = 15_000..31_000;

/// Hands out ports, none twice.
pub(super) struct Ports {
    next: u16,
}

impl Ports {
    pub(super) fn new() -> Self {
        Self {
            next: rand::rng().random_range(RANGE),
        }
    }

    /// A port without a listener.
    pub(super) fn take(&mut self) -> anyhow::Result<u16> {
        for _ in RANGE {
            let port = self.next;
            self.next = if port + 1 < RANGE.end {
                port + 1
            } else {
                RANGE.start
            };
            if TcpListener::bind(("127.0.0.1", port)).is_ok() {
                return Ok(port);
            }
        }
        None.context("find a free port")
    }
}
