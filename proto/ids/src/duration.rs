//! Durations as Go writes them, which Temporal's schedules, filters, configuration and commands speak. The only reader
//! of them.

use std::time::Duration;

/// A unit and its nanoseconds.
type Unit = (&'static str, i64);

const GO: [Unit; 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];
const DAY: Unit = ("d", 86_400_000_000_000);

/// Nanoseconds of `1h30m`, `1.5s`, `-2ms`, `0`; `None` when the text is no duration, or one that 64 bits cannot tell.
pub fn parse_go_duration(text: &str) -> Option<i64> {
    parse(text, &GO)
}

/// The same, with `d` for days.
pub fn parse_go_duration_or_days(text: &str) -> Option<i64> {
    let [ns, us, micro, ms, s, m, h] = GO;
    parse(text, &[ns, us, micro, ms, s, m, h, DAY])
}

/// The same as the standard library's type, with spaces around it; `None` for negative ones, too.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let nanos = parse_go_duration_or_days(text.trim())?;
    u64::try_from(nanos).ok().map(Duration::from_nanos)
}

/// A duration on a command line or in a drill file, where a bare number means seconds; the error is for people.
pub fn duration_argument(text: &str) -> Result<Duration, String> {
    let is_bare = text.trim().bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let read = match is_bare {
        true => parse_duration(&format!("{}s", text.trim())),
        false => parse_duration(text),
    };
    read.ok_or_else(|| format!("`{text}` is not a duration; write 500ms, 20s or 2m"))
}

fn parse(text: &str, units: &[Unit]) -> Option<i64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    let mut total = 0_i128;
    while !rest.is_empty() {
        let (number, tail) = rest.split_at(rest.find(|c| !is_number(c))?);
        let (unit, tail) = tail.split_at(tail.find(is_number).unwrap_or(tail.len()));
        let (_, nanos) = units.iter().find(|(name, _)| *name == unit)?;
        total = total.checked_add(part(number, i128::from(*nanos))?)?;
        rest = tail;
    }
    i64::try_from(total * sign).ok()
}

/// A decimal number of units, each of so many nanoseconds.
fn part(number: &str, nanos: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole = match whole {
        "" => 0,
        whole => i128::from(whole.parse::<u64>().ok()?),
    };
    let mut total = whole.checked_mul(nanos)?;
    let mut scale = 1_i128;
    // Farther digits are less than a nanosecond of any unit.
    for digit in fraction.bytes().take(15) {
        scale *= 10;
        total += i128::from(digit - b'0') * nanos / scale;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_exactly_or_not_at_all() {
        for (text, nanos) in [
            ("1h30m", 5_400_000_000_000),
            ("1.5s", 1_500_000_000),
            (".5s", 500_000_000),
            ("-2ms", -2_000_000),
            ("+1us", 1_000),
            ("1µs", 1_000),
            ("0", 0),
            ("0s", 0),
            ("0.1ns", 0),
            ("2562047h47m16.854775807s", i64::MAX),
        ] {
            assert_eq!(parse_go_duration(text), Some(nanos), "{text}");
        }
        for text in [
            "", "-", "5", "s", "1x", "1..2s", ".s", "1d", "2562048h", "1h 2m", "é",
        ] {
            assert_eq!(parse_go_duration(text), None, "{text}");
        }
        assert_eq!(
            parse_go_duration_or_days("1d2h"),
            Some(26 * 3_600_000_000_000)
        );
    }

    #[test]
    fn what_people_write_is_a_length_of_time() {
        for (text, millis) in [
            ("1h30m", 5_400_000),
            (" 1.5s ", 1_500),
            ("250ms", 250),
            ("0", 0),
            ("2d", 172_800_000),
            ("1m1s", 61_000),
        ] {
            let expected = Duration::from_millis(millis);
            assert_eq!(parse_duration(text), Some(expected), "{text}");
            assert_eq!(duration_argument(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            "s",
            "-1s",
            "1x",
            "1..2s",
            "1h30",
            "5 parsecs",
            "99999999999999999999h",
        ] {
            assert_eq!(parse_duration(text), None, "{text}");
            assert!(duration_argument(text).is_err(), "{text}");
        }
        assert_eq!(parse_duration("7"), None);
        assert_eq!(duration_argument("7"), Ok(Duration::from_secs(7)));
        assert_eq!(duration_argument("0.5"), Ok(Duration::from_millis(500)));
    }
}
