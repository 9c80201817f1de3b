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

/// The duration of a wire value; absent and negative ones are zero.
pub fn duration_from_proto(d: Option<&prost_types::Duration>) -> Duration {
    match d {
        Some(d) if d.seconds >= 0 && d.nanos >= 0 => {
            Duration::new(d.seconds as u64, d.nanos as u32)
        }
        _ => Duration::ZERO,
    }
}
