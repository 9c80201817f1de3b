//! The current TLS configurations, for code that accepts or opens connections. Read them at every new
//! connection: a configuration is replaced as a whole when files change, its trust included, while
//! connections made with the old one go on.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwapOption;
use rustls::{ClientConfig, ServerConfig};

/// The TLS configuration of listeners. Clones see the same changes.
#[derive(Clone, Default)]
pub struct ServerTls(Arc<ArcSwapOption<ServerConfig>>);

/// The TLS configuration of clients. Clones see the same changes.
#[derive(Clone, Default)]
pub struct ClientTls(Arc<ArcSwapOption<ClientConfig>>);

impl ServerTls {
    /// The configuration of the moment; `None` before there was a valid one, and then no connection may
    /// be accepted.
    pub fn config(&self) -> Option<Arc<ServerConfig>> {
        self.0.load_full()
    }

    pub(crate) fn publish(&self, config: ServerConfig) {
        self.0.store(Some(Arc::new(config)));
    }
}

impl ClientTls {
    /// The configuration of the moment; `None` before there was a valid one, and then no connection may
    /// be opened.
    pub fn config(&self) -> Option<Arc<ClientConfig>> {
        self.0.load_full()
    }

    pub(crate) fn publish(&self, config: ClientConfig) {
        self.0.store(Some(Arc::new(config)));
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerTls(ready: {})", self.0.load().is_some())
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientTls(ready: {})", self.0.load().is_some())
    }
}
