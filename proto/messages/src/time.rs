//! Conversions between the wire's timestamps and durations and [`proto_ids::Timestamp`].

use std::time::Duration;

use proto_ids::Timestamp;

/// The wire form of a timestamp.
pub fn to_proto(at: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: at.nanos().div_euclid(1_000_000_000),
        nanos: at.nanos().rem_euclid(1_000_000_000) as i32,
    }
}

/// The timestamp of a wire value; saturates far outside the range a 64-bit nanosecond count can hold.
pub fn from_proto(at: &prost_types::Timestamp) -> Timestamp {
    Timestamp::from_nanos(
        at.seconds
            .saturating_mul(1_000_000_000)
            .saturating_add(i64::from(at.nanos)),
    )
}

/// The wire form of a duration.
pub fn duration_to_proto(d: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: d.as_secs().min(i64::MAX as u64) as i64,
        nanos: d.subsec_nanos() as i32,
    }
}

/// The longest duration that is kept, in seconds: a hundred years. Moments counted from it stay within what 64 bits
/// of nanoseconds can tell, and JSON can show it.
pub const DURATION_SECONDS_MAX: i64 = 100 * 365 * 86_400;

/// Cuts a duration that is about to be stored to [`DURATION_SECONDS_MAX`], and brings its nanoseconds below a
/// second, without which JSON cannot show it. Negative ones are left for their caller to refuse.
pub fn cap_duration(d: Option<&mut prost_types::Duration>) {
    let Some(d) = d.filter(|d| d.seconds >= 0 && d.nanos >= 0) else {
        return;
    };
    d.seconds = d.seconds.saturating_add(i64::from(d.nanos / 1_000_000_000));
    d.nanos %= 1_000_000_000;
    if d.seconds >= DURATION_SECONDS_MAX {
        (d.seconds, d.nanos) = (DURATION_SECONDS_MAX, 0);
    }
}

/// The duration of a wire value; absent and negative ones are zero.
pub fn duration_from_proto(d: Option<&prost_types::Duration>) -> Duration {
    match d {
        Some(d) if d.seconds >= 0 && d.nanos >= 0 => {
            Duration::new(d.seconds as u64, d.nanos as u32)
        }
        _ => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_kept_up_to_a_hundred_years() {
        let capped = |seconds, nanos| {
            let mut d = prost_types::Duration { seconds, nanos };
            cap_duration(Some(&mut d));
            (d.seconds, d.nanos)
        };
        let most = DURATION_SECONDS_MAX;
        assert_eq!(capped(most - 1, 999_999_999), (most - 1, 999_999_999));
        assert_eq!(capped(most, 1), (most, 0));
        assert_eq!(capped(most - 1, 1_000_000_000), (most, 0));
        assert_eq!(capped(315_576_000_000, 0), (most, 0));
        assert_eq!(capped(i64::MAX, i32::MAX), (most, 0));
        assert_eq!(capped(1, 2_000_000_001), (3, 1));
        assert_eq!(capped(-1, 0), (-1, 0));
        cap_duration(None);
    }
}
