//! The connections of commit lanes and of the reads on the hot path. Not a driver's pool: that one sends a ping after each use, which would
//! double the round trips, and the next batch would find the connection still busy with it.

use parking_lot::Mutex;
use sqlx::{ConnectOptions, PgConnection, postgres::PgConnectOptions};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Idle connections, and leave for so many in use.
pub(super) struct Lanes {
    options: PgConnectOptions,
    idle: Mutex<Vec<PgConnection>>,
    permits: Semaphore,
}

/// A connection in use. Dropped without [`Lane::release`], the connection is closed.
pub(super) struct Lane<'a> {
    pub(super) conn: PgConnection,
    lanes: &'a Lanes,
    _permit: SemaphorePermit<'a>,
}

impl Lanes {
    pub(super) fn new(options: PgConnectOptions, size: u32) -> Self {
        Self {
            options,
            idle: Mutex::default(),
            permits: Semaphore::new(size as usize),
        }
    }

    /// An idle connection, or a new one.
    pub(super) async fn take(&self) -> Result<Lane<'_>, sqlx::Error> {
        let permit = self
            .permits
            .acquire()
            .await
            .map_err(|_| sqlx::Error::PoolClosed)?;
        let idle = self.idle.lock().pop();
        let conn = match idle {
            Some(conn) => conn,
            None => self.options.connect().await?,
        };
        Ok(Lane {
            conn,
            lanes: self,
            _permit: permit,
        })
    }
}

impl Lane<'_> {
    /// Keeps the connection for the next use; it has to be between two transactions.
    pub(super) fn release(self) {
        self.lanes.idle.lock().push(self.conn);
    }
}
