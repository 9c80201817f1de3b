//! Literals in a column's unit: statuses by name or number, times as RFC 3339 or nanoseconds, durations as
//! nanoseconds, Go text or hh:mm:ss.

use jiff::civil::DateTime;
use proto_ids::parse_go_duration_or_days;

use super::{Column, Kind, Value};

/// Where nanoseconds are counted from.
const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

/// A literal as written.
#[derive(Clone, Copy)]
pub(super) enum Literal<'a> {
    /// Quoted.
    Text(&'a str),
    /// A bare number.
    Number(&'a str),
    /// A bare word.
    Word(&'a str),
}

/// Execution statuses: number, public name.
pub(super) const STATUSES: [(i64, &str); 8] = [
    (1, "Running"),
    (2, "Completed"),
    (3, "Failed"),
    (4, "Canceled"),
    (5, "Terminated"),
    (6, "ContinuedAsNew"),
    (7, "TimedOut"),
    (8, "Paused"),
];

/// The literal as a value of the column; the error continues "invalid value ... 'shown'".
pub(super) fn value(column: Column, literal: Literal<'_>) -> Result<Value, &'static str> {
    match (column.kind(), literal) {
        (Kind::Keyword | Kind::KeywordList, Literal::Text(text)) => {
            Ok(Value::Text(text.to_owned()))
        }
        (Kind::Keyword | Kind::KeywordList, _) => Err(": expected quoted text"),
        (Kind::Bool, Literal::Word(word)) => truth(word),
        (Kind::Bool, _) => Err(": expected true or false"),
        (_, Literal::Word(_)) => Err(": expected a number or quoted text"),
        (Kind::Int, Literal::Number(number) | Literal::Text(number)) => {
            integer(number).map(Value::Int)
        }
        (Kind::Status, Literal::Text(text)) => status(text).map(Value::Int),
        (Kind::Status, Literal::Number(number)) => {
            let number = integer(number)?;
            let known = STATUSES.iter().any(|(status, _)| *status == number);
            if known {
                Ok(Value::Int(number))
            } else {
                Err(": not a status")
            }
        }
        (Kind::Datetime | Kind::Duration, Literal::Number(number)) => {
            integer(number).map(Value::Int)
        }
        (Kind::Datetime, Literal::Text(text)) => {
            let nanos = text.parse().ok().or_else(|| rfc3339_nanos(text));
            nanos
                .map(Value::Int)
                .ok_or(": expected an RFC 3339 time or Unix nanoseconds")
        }
        (Kind::Duration, Literal::Text(text)) => {
            let nanos = text
                .parse()
                .ok()
                .or_else(|| parse_go_duration_or_days(text))
                .or_else(|| clock_duration(text));
            nanos
                .map(Value::Int)
                .ok_or(": expected nanoseconds, a duration such as 1h30m, or hh:mm:ss")
        }
    }
}

fn truth(word: &str) -> Result<Value, &'static str> {
    match word.to_ascii_lowercase().as_str() {
        "true" => Ok(Value::Int(1)),
        "false" => Ok(Value::Int(0)),
        _ => Err(": expected true or false"),
    }
}

fn integer(number: &str) -> Result<i64, &'static str> {
    number
        .strip_prefix('+')
        .unwrap_or(number)
        .parse()
        .map_err(|_| ": expected an integer")
}

/// A status by its short name, its long name, or its number in quotes.
fn status(text: &str) -> Result<i64, &'static str> {
    let long = |name: &str| {
        let mut long = String::from("WORKFLOW_EXECUTION_STATUS");
        for c in name.chars() {
            if c.is_ascii_uppercase() {
                long.push('_');
            }
            long.push(c.to_ascii_uppercase());
        }
        long == text
    };
    let found = STATUSES
        .iter()
        .find(|(number, name)| *name == text || long(name) || number.to_string() == text);
    found.map(|(number, _)| *number).ok_or(": not a status")
}

/// Nanoseconds since the Unix epoch, saturating at the ends of what can be told.
fn rfc3339_nanos(text: &str) -> Option<i64> {
    let (local, rest) = text.split_at_checked(19)?;
    // Of what the calendar's reader takes beside, a leap second and the short form are no RFC 3339 that Go would read.
    let is_whole = local.as_bytes()[4] == b'-' && !local.ends_with(":60");
    let local: DateTime = local.parse().ok().filter(|_| is_whole)?;
    let (nanos, zone) = match rest.strip_prefix('.') {
        Some(fraction) => {
            let digits = fraction.find(|c: char| !c.is_ascii_digit())?;
            let (digits, zone) = fraction.split_at(digits);
            // What is finer than a nanosecond is cut off.
            let nine = digits.bytes().chain(std::iter::repeat(b'0')).take(9);
            let nanos = nine.fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
            (Some(nanos).filter(|_| !digits.is_empty())?, zone)
        }
        None => (0, rest),
    };
    let whole = local.duration_since(EPOCH).as_secs() - offset(zone)?;
    let total = i128::from(whole) * 1_000_000_000 + i128::from(nanos);
    Some(total.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64)
}

/// Seconds of `Z` or `+hh:mm`.
fn offset(text: &str) -> Option<i64> {
    if matches!(text, "Z" | "z") {
        return Some(0);
    }
    let (hours, minutes) = text.get(1..)?.split_once(':')?;
    let number = |two: &str| match two.len() == 2 && two.bytes().all(|b| b.is_ascii_digit()) {
        true => two.parse::<i64>().ok(),
        false => None,
    };
    let seconds = number(hours)? * 3600 + number(minutes)? * 60;
    match text.as_bytes()[0] {
        b'+' => Some(seconds),
        b'-' => Some(-seconds),
        _ => None,
    }
}

/// `hh:mm:ss`.
fn clock_duration(text: &str) -> Option<i64> {
    let parts: Vec<&str> = text.split(':').collect();
    let [hours, minutes, seconds] = parts.as_slice() else {
        return None;
    };
    let hours: u32 = hours.parse().ok()?;
    let minutes: u32 = minutes.parse().ok().filter(|m| *m < 60)?;
    let seconds: u32 = seconds.parse().ok().filter(|s| *s < 60)?;
    let total = i64::from(hours) * 3600 + i64::from(minutes) * 60 + i64::from(seconds);
    total.checked_mul(1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_to_the_nanosecond_or_not_at_all() {
        for (text, nanos) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2020-09-13T12:26:40Z", 1_600_000_000_000_000_000),
            ("2020-09-13t14:26:40.5+02:00", 1_600_000_000_500_000_000),
            (
                "2020-09-13 07:56:40.000000001-04:30",
                1_600_000_000_000_000_001,
            ),
            ("2020-02-29T00:00:00.1234567891Z", 1_582_934_400_123_456_789),
            ("1969-12-31T23:59:59.25Z", -750_000_000),
            ("0001-01-01T00:00:00Z", i64::MIN),
            ("9999-12-31T23:59:59Z", i64::MAX),
        ] {
            assert_eq!(rfc3339_nanos(text), Some(nanos), "{text}");
        }
        for text in [
            "",
            "2020-09-13",
            "2020-09-13T12:26:40",
            "2020-09-13T12:26:40.Z",
            "2020-09-13T12:26:40.5",
            "2020-09-13T12:26Z",
            "2020-09-13T12:26:60Z",
            "2020-13-01T00:00:00Z",
            "2021-02-29T00:00:00Z",
            "2020-09-13T24:00:00Z",
            "2020-09-13T12:26:40+0200",
            "2020-09-13T12:26:40+2:00",
            "2020-09-13T12:26:40Z[UTC]",
            "20200913T122640.123Z",
            "2020-09-13T12:26:4\u{e9}Z",
        ] {
            assert_eq!(rfc3339_nanos(text), None, "{text}");
        }
    }
}
