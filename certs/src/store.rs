//! Loads, validates, then publishes; again and again. An invalid replacement is refused and logged, and
//! what was valid before stays in use: a half-written file never takes a listener down.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use tokio::sync::Mutex;

use crate::{
    CertError, ClientTls, Expiry, ServerTls, Source,
    identity::{Content, Material},
};

/// One source, and what it was last good for. Clones are the same store.
#[derive(Clone)]
pub struct Store(Arc<StoreInner>);

/// The result of a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// The files are as they were.
    Unchanged,
    /// New content was found valid and counts for every new connection from now on.
    Published,
}

struct StoreInner {
    source: Source,
    server: ServerTls,
    client: ClientTls,
    expiries: ArcSwap<Vec<Expiry>>,
    /// Held through a reload, so that two of them publish in the order in which they read.
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    published: Option<Content>,
    /// Refused content is reported once, not at every look.
    complaint: Option<String>,
}

impl Store {
    /// How often to look, for [`Store::watch`].
    pub const LOOK_EVERY: Duration = Duration::from_secs(3);

    /// A store that has published nothing: every handshake fails until a reload succeeds.
    pub fn closed(source: Source) -> Self {
        Self(Arc::new(StoreInner {
            source,
            server: ServerTls::default(),
            client: ClientTls::default(),
            expiries: ArcSwap::default(),
            seen: Mutex::default(),
        }))
    }

    /// A store whose files are valid now.
    pub async fn open(source: Source) -> Result<Self, CertError> {
        let store = Self::closed(source);
        store.reload_now().await?;
        Ok(store)
    }

    /// The TLS configuration of listeners; stays empty when the source names no identity.
    pub fn server(&self) -> ServerTls {
        self.0.server.clone()
    }

    /// What a client connects with; stays empty when the source names no authority.
    pub fn client(&self) -> ClientTls {
        self.0.client.clone()
    }

    /// The ends of all certificates in use.
    pub fn expiries(&self) -> Arc<Vec<Expiry>> {
        self.0.expiries.load_full()
    }

    /// Seconds until the first certificate in use ends; `None` when none is in use.
    pub fn seconds_left(&self) -> Option<i64> {
        let now = SystemTime::now();
        self.0
            .expiries
            .load()
            .iter()
            .map(|e| e.seconds_left(now))
            .min()
    }

    /// Looks at the files now. An error means that they were refused and that what was published
    /// before, if anything, stays in use.
    pub async fn reload_now(&self) -> Result<Reload, CertError> {
        let mut seen = self.0.seen.lock().await;
        let content = Content::read(&self.0.source).await?;
        if seen.published.as_ref() == Some(&content) {
            seen.complaint = None;
            return Ok(Reload::Unchanged);
        }
        let material = Material::check(&self.0.source, &content, SystemTime::now())?;
        // Both sides are made before either is published.
        let server = material.server(&self.0.source)?;
        let client = material.client(&self.0.source)?;
        if let Some(config) = server {
            self.0.server.publish(config);
        }
        if let Some(config) = client {
            self.0.client.publish(config);
        }
        for expiry in &material.expiries {
            tracing::info!(file = %expiry.file.display(), subject = expiry.subject, not_after = expiry.not_after_text(),
                "certificate in use");
        }
        self.0.expiries.store(Arc::new(material.expiries));
        *seen = Seen {
            published: Some(content),
            complaint: None,
        };
        Ok(Reload::Published)
    }

    /// Looks at the files for ever. To be spawned as a background task; dropping it only stops looking.
    pub async fn watch(&self, every: Duration) {
        loop {
            tokio::time::sleep(every).await;
            if let Err(error) = self.reload_now().await {
                self.complain(error.to_string()).await;
            }
        }
    }

    async fn complain(&self, error: String) {
        let mut seen = self.0.seen.lock().await;
        if seen.complaint.as_ref() != Some(&error) {
            let stays = seen.published.is_some();
            tracing::warn!(
                error,
                previous_stays_in_use = stays,
                "replaced certificate files are refused"
            );
            seen.complaint = Some(error);
        }
    }
}
