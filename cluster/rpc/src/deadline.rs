//! The caller's deadline, as the `grpc-timeout` header carries it.

use std::time::Duration;

use tonic::metadata::MetadataMap;

/// The header.
pub const GRPC_TIMEOUT: &str = "grpc-timeout";

/// How long the caller waited at most when it sent the request; `None` when it set no deadline or one
/// that cannot be read.
pub fn timeout_of(metadata: &MetadataMap) -> Option<Duration> {
    read(metadata.get(GRPC_TIMEOUT)?.to_str().ok()?)
}

/// The same of a call's raw headers.
pub(crate) fn timeout_in(headers: &http::HeaderMap) -> Option<Duration> {
    read(headers.get(GRPC_TIMEOUT)?.to_str().ok()?)
}

fn read(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    // The protocol allows eight digits.
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3_600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_protocol_allows() {
        let of = |text: &str| {
            let mut metadata = MetadataMap::new();
            metadata.insert(GRPC_TIMEOUT, text.parse().unwrap());
            timeout_of(&metadata)
        };
        assert_eq!(of("70S"), Some(Duration::from_secs(70)));
        assert_eq!(of("1500m"), Some(Duration::from_millis(1_500)));
        for text in ["S", "123456789S", "1x", "-1S", "1.5S", "+1S"] {
            assert_eq!(of(text), None, "{text}");
        }
        assert_eq!(timeout_of(&MetadataMap::new()), None);
    }
}
