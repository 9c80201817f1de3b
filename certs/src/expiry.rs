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

    /// The end as people and tools read it.
    pub fn not_after_text(&self) -> String {
        rfc3339(self.not_after)
    }
}

/// Seconds since the Unix epoch in RFC 3339; as they are where no date can be made of them.
pub(crate) fn rfc3339(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |at| at.to_string())
}

pub(crate) fn unix_seconds(at: SystemTime) -> i64 {
    match at.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_a_date() {
        assert_eq!(rfc3339(2_111_174_774), "2036-11-24T21:26:14Z");
        assert_eq!(rfc3339(i64::MAX), i64::MAX.to_string());
    }
}
