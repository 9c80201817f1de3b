//! When certificates end, for the metric and its alert.

use std::{
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

/// The end of one certificate in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// The file it came from.
    pub file: PathBuf,
    /// Whom it names.
    pub subject: String,
    /// Its last valid moment, in seconds since the Unix epoch.
    pub not_after: i64,
}

impl Expiry {
    /// Seconds until the end; negative afterwards.
    pub fn seconds_left(&self, now: SystemTime) -> i64 {
        self.not_after - unix_seconds(now)
    }
}

pub(crate) fn unix_seconds(at: SystemTime) -> i64 {
    match at.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX),
    }
}
