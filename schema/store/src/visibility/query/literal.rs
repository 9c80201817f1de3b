//! Literals in a column's unit: statuses by name or number, times as RFC 3339 or nanoseconds, durations as
//! nanoseconds, Go text or hh:mm:ss.

use proto_ids::parse_go_duration_or_days;

use super::{Column, Kind, Value};

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
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Option<i64> {
        let part = text.get(from..to)?;
        if !part.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        part.parse().ok()
    };
    let sign_at = |at: usize, any_of: &[u8]| bytes.get(at).is_some_and(|b| any_of.contains(b));
    if !(sign_at(4, b"-")
        && sign_at(7, b"-")
        && sign_at(10, b"Tt ")
        && sign_at(13, b":")
        && sign_at(16, b":"))
    {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if !(1..=12).contains(&month)
        || day < 1
        || day > days_in(year, month)
        || hour > 23
        || minute > 59
        || second > 59
    {
        return None;
    }
    let mut at = 19;
    let mut nanos = 0i64;
    if sign_at(at, b".") {
        at += 1;
        let digits = text
            .get(at..)?
            .bytes()
            .take_while(u8::is_ascii_digit)
            .count();
        if digits == 0 {
            return None;
        }
        for index in 0..9 {
            let digit = if index < digits {
                i64::from(bytes[at + index] - b'0')
            } else {
                0
            };
            nanos = nanos * 10 + digit;
        }
        at += digits;
    }
    let offset = match bytes.get(at)? {
        b'Z' | b'z' if bytes.len() == at + 1 => 0,
        sign @ (b'+' | b'-') if bytes.len() == at + 6 && sign_at(at + 3, b":") => {
            let seconds = number(at + 1, at + 3)? * 3600 + number(at + 4, at + 6)? * 60;
            if *sign == b'-' { -seconds } else { seconds }
        }
        _ => return None,
    };
    let seconds =
        days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset;
    let total = i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    Some(total.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64)
}

fn days_in(year: i64, month: i64) -> i64 {
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar, by counting years from March.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
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
