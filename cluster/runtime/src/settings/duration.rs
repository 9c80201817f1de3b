//! Durations as configuration files write them: Go's forms (`1h30m`, `1.5s`, `250ms`), and `d` for days.

use std::time::Duration;

/// Reads a duration; `None` when it is not one, or is negative.
pub fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(number_end);
        let unit_end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let seconds: f64 = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        let part = match number.parse::<u32>() {
            // Whole numbers stay exact.
            Ok(whole) if seconds >= 1.0 => {
                Duration::from_secs(seconds as u64).checked_mul(whole)?
            }
            Ok(whole) => Duration::from_nanos((seconds * 1e9).round() as u64).checked_mul(whole)?,
            Err(_) => Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?,
        };
        total = total.checked_add(part)?;
        rest = tail;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::parse;
    use std::time::Duration;

    #[test]
    fn reads_go_durations() {
        for (text, millis) in [
            ("1h30m", 5_400_000),
            ("1.5s", 1_500),
            ("250ms", 250),
            ("0", 0),
            ("2d", 172_800_000),
            ("1m1s", 61_000),
        ] {
            assert_eq!(parse(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "5", "s", "-1s", "1x", "1..2s", "99999999999999999999h"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
